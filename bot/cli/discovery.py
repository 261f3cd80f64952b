"""Commands on proposals: search the company's chats for them, show them, and do what people decide.

Owns what accepting an answer does to the playbook. Everything else that accepting does is one file that moves, which
`finetune/reviewed.py` reads at the next training.
"""

from __future__ import annotations

import json as json_
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bot import FrontdeskError
from bot.cli import assembly
from bot.cli.learning import company_rows
from bot.cli.output import ConfigOption, JsonFlag, Progress, emit, note
from bot.conversation.language import language_of
from bot.settings import Settings, load_settings
from finetune.examples import Example, FinetuneError, may_train

if TYPE_CHECKING:
    from bot.conversation.playbook import Playbook
    from finetune.discover import Vectors
    from finetune.encoder import Encoder
    from finetune.proposal_files import Filed
    from finetune.proposals import AnswerProposal, Proposal

proposals = typer.Typer(help="What `frontdesk discover` found: show, accept, reject.", no_args_is_help=True)

CHUNK = 1_024
EXAMPLES = 8
"""Questions of an answer that become the playbook's examples; all of them are trained on."""
SHOWN = 100
"""Letters of a message or an answer in a list."""


def register(commands: typer.Typer) -> None:
    commands.command()(discover)
    proposals.command(name="list")(list_proposals)
    proposals.command()(accept)
    proposals.command()(reject)
    commands.add_typer(proposals, name="proposals")


def discover(json: JsonFlag = False, config: ConfigOption = None) -> None:
    """Find answers, intents and wrong labels in the company's own chats. Example: frontdesk discover"""
    from finetune.discover import discover as search
    from finetune.encoder import Encoder
    from finetune.proposal_files import file_proposals

    settings = load_settings(config)
    rows = [row for row in company_rows(settings) if may_train(row, settings.train_on_slack)]
    if not rows:
        raise FinetuneError(
            "nothing to look at; run `frontdesk transcripts import FILE`, or set `examples` in frontdesk.toml"
        )
    languages = _languages(settings)
    home = settings.home_folder
    home.folder.mkdir(parents=True, exist_ok=True)
    note(f"looking at {len(rows)} rows")
    vectors = read_vectors(rows, Encoder(assembly.base_folder(settings)), home.folder, Progress("reading"))
    found = search(rows, vectors, languages, partial(_language, languages), settings.seed)
    filed = file_proposals(home.proposals, found.proposals)
    for problem in (*found.notes, *filed.problems):
        note(problem)
    lines = [
        f"{len(filed.new)} new proposals, {len(filed.kept)} as before, {len(filed.withdrawn)} withdrawn, "
        f"{filed.decided} decided before, {filed.waiting} waiting for these to be reviewed",
        f"they are files in {home.proposals}: read and edit them, then `frontdesk proposals accept` or `reject`",
    ]
    emit(json, filed, [*_counts(home.proposals), *lines])


def read_vectors(
    rows: Sequence[Example], encoder: Encoder, folder: Path, progress: Callable[[int, int], None]
) -> Vectors:
    """The frozen vectors of the rows, in nameless files of `folder` so that memory does not grow with the rows."""
    import numpy as np

    from finetune.calibrate import Floats
    from finetune.discover import Vectors

    def scratch() -> Floats:
        with tempfile.TemporaryFile(dir=folder) as file:
            # Reserved first: a mapped file that meets a full disk later kills the process.
            os.posix_fallocate(file.fileno(), 0, 4 * len(rows) * encoder.dimension)
            return np.memmap(file, np.float32, "r+", shape=(len(rows), encoder.dimension))

    last, answer = scratch(), scratch()
    window = scratch() if any(row.history for row in rows) else last
    for start in range(0, len(rows), CHUNK):
        part = rows[start : start + CHUNK]
        here = slice(start, start + len(part))
        last[here], window[here] = encoder.encode(encoder.frozen, [(row.text, row.history) for row in part])
        told = list(dict.fromkeys(row.answer for row in part if row.answer))
        if told:
            said = encoder.vectors(encoder.frozen, encoder.tokenise([(text, ()) for text in told])[0])
            places = {text: place for place, text in enumerate(told)}
            for number, row in enumerate(part):
                if row.answer:
                    answer[start + number] = said[places[row.answer]]
        progress(min(start + CHUNK, len(rows)), len(rows))
    return Vectors(last, window, answer)


def _languages(settings: Settings) -> tuple[str, ...]:
    return assembly.open_playbook(settings).languages if settings.playbook.exists() else ("en",)


def _language(known: tuple[str, ...], text: str) -> str:
    return language_of(text, "", known)


# ------------------------------------------------------------------------------------------------------------ list


def list_proposals(json: JsonFlag = False, config: ConfigOption = None) -> None:
    """All open proposals, the strongest first. Example: frontdesk proposals list"""
    from finetune.proposal_files import read_open
    from finetune.proposals import kind_of

    folder = load_settings(config).home_folder.proposals
    shelf = read_open(folder)
    for problem in shelf.problems:
        note(problem)
    filed = sorted(shelf.open, key=lambda one: _place(one.proposal))
    value = {
        "open": [
            {"kind": kind_of(one.proposal), "file": one.file, "edited": one.edited, "proposal": one.proposal}
            for one in filed
        ],
        "problems": shelf.problems,
    }
    lines = [f"{one.proposal.id}{' (edited)' if one.edited else ''}\n    {_summary(one.proposal)}" for one in filed]
    emit(json, value, [*lines, *_counts(folder)] if lines else ["none; run `frontdesk discover`"])


def _counts(folder: Path) -> list[str]:
    from finetune.proposal_files import read_open
    from finetune.proposals import KINDS, kind_of

    kinds = [kind_of(filed.proposal) for filed in read_open(folder).open]
    return ["open: " + ", ".join(f"{kinds.count(kind)} {kind}" for kind in KINDS)]


def _place(proposal: Proposal) -> tuple[int, float, str]:
    """Where a proposal stands in a list: by kind, then by strength."""
    from finetune.proposals import KINDS, AnswerProposal, IntentProposal, LabelProposal, kind_of

    match proposal:
        case AnswerProposal() | IntentProposal():
            strength = proposal.conversations + proposal.cohesion
        case LabelProposal():
            strength = proposal.weight
        case _:
            strength = 1 - proposal.accuracy
    return KINDS.index(kind_of(proposal)), -strength, proposal.id


def _summary(proposal: Proposal) -> str:
    from finetune.proposals import AnswerProposal, IntentProposal, LabelProposal

    match proposal:
        case AnswerProposal():
            said = next((text for _, text in proposal.answer if text), "")
            return f"said in {proposal.conversations} conversations: {_short(said)}"
        case IntentProposal():
            what = f"more of {proposal.intent}" if proposal.existing else "new"
            return f"{what}, asked in {proposal.conversations} conversations: {_short(proposal.asked[0].text)}"
        case LabelProposal():
            becomes = proposal.intent if proposal.action == "relabel" else proposal.action
            return f"{proposal.given or 'out of scope'} -> {becomes}: {_short(proposal.asked.text)}"
        case _:
            return f"{proposal.source} and {proposal.into} are told apart {proposal.accuracy:.0%} of the time"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHOWN else line[: SHOWN - 1] + "…"


# ---------------------------------------------------------------------------------------------------------- decide

Names = Annotated[list[str], typer.Argument(help="Ids or files, as `proposals list` shows them.")]


def accept(names: Names, json: JsonFlag = False, config: ConfigOption = None) -> None:
    """Do what a proposal's file says. Example: frontdesk proposals accept intents/gift_card_pin-3fa9c2d1"""
    _decide_each(load_settings(config), names, json, accepting=True)


def reject(names: Names, json: JsonFlag = False, config: ConfigOption = None) -> None:
    """Do not propose this again. Example: frontdesk proposals reject intents/gift_card_pin-3fa9c2d1"""
    _decide_each(load_settings(config), names, json, accepting=False)


def _decide_each(settings: Settings, names: Sequence[str], json: bool, accepting: bool) -> None:
    """Each one by itself: what can be decided is, and the others are named with their reasons."""
    decided: list[str] = []
    problems: list[str] = []
    for name in names:
        try:
            decided.append(accept_proposal(settings, name) if accepting else reject_proposal(settings, name))
        except (FrontdeskError, FinetuneError) as error:
            problems.append(str(error))
    verdict = "accepted" if accepting else "rejected"
    if decided:
        hint = "; `frontdesk train` learns from it, and a running service takes the playbook up by itself"
        lines = [f"{verdict}: {file}" for file in decided]
        emit(json, {verdict: decided, "problems": problems}, [*lines[:-1], lines[-1] + (hint if accepting else "")])
    if problems:
        raise FrontdeskError("\n".join(problems))


def accept_proposal(settings: Settings, name: str) -> str:
    """Accept one, as its file is now; once more changes nothing. Returns where it is kept.

    Raises FrontdeskError or FinetuneError, and then nothing was changed.
    """
    from finetune.proposal_files import decide, find, read_decided
    from finetune.proposals import AnswerProposal
    from finetune.reviewed import check_acceptable

    folder = settings.home_folder.proposals
    filed = find(folder, name)
    if filed == "accepted":
        return f"{name} (before)"
    if filed == "rejected":
        raise FrontdeskError(f"{name}: was rejected; move its file from {folder / 'rejected'} back to reconsider")
    check_acceptable(filed.proposal, read_decided(folder, "accepted"))
    if isinstance(filed.proposal, AnswerProposal):
        _add_to_playbook(settings.playbook, filed, filed.proposal)
    return str(decide(folder, filed, "accepted"))


def reject_proposal(settings: Settings, name: str) -> str:
    """Reject one; once more changes nothing. Returns where it is kept. Raises FrontdeskError or FinetuneError."""
    from finetune.proposal_files import decide, find

    folder = settings.home_folder.proposals
    filed = find(folder, name)
    if filed == "rejected":
        return f"{name} (before)"
    if filed == "accepted":
        raise FrontdeskError(f"{name}: was accepted; delete its file in {folder / 'accepted'} to take that back")
    return str(decide(folder, filed, "rejected"))


def _add_to_playbook(path: Path, filed: Filed, proposal: AnswerProposal) -> None:
    """Append the intent, unless a call that was cut off did: the file is replaced whole, and only if it then reads.

    Raises FrontdeskError with the reasons, and then the playbook is as it was.
    """
    from bot.conversation.playbook import load_playbook

    playbook = load_playbook(path)
    content = path.read_bytes()
    mark = f"# proposal {proposal.id}"
    if mark in content.decode("utf-8-sig").splitlines():
        return
    _check_languages(playbook, filed, proposal)
    newline = "\r\n" if b"\r\n" in content else "\n"
    block = newline.join(["", "", mark, *_playbook_lines(playbook, proposal), ""])
    staged = path.resolve().with_name(f".{path.name}.{os.getpid()}.staged")
    try:
        with staged.open("wb") as out:
            out.write(content.rstrip() + block.encode())
            out.flush()
            os.fsync(out.fileno())
        shutil.copymode(path, staged)
        load_playbook(staged)
        os.replace(staged, path.resolve())
    except FrontdeskError as error:
        reasons = str(error).replace(f"{staged}: ", "").splitlines()
        raise FrontdeskError(
            "\n".join(f"{filed.file}: with this intent {path.name} would not read: {reason}" for reason in reasons)
        ) from None
    finally:
        staged.unlink(missing_ok=True)


def _check_languages(playbook: Playbook, filed: Filed, proposal: AnswerProposal) -> None:
    problems = []
    for name, words in (("title", dict(proposal.title)), ("answer", dict(proposal.answer))):
        for language in playbook.languages:
            if not words.get(language):
                problems.append(f"{filed.file}: {name}.{language}: is empty; write it, customers may read it")
    if problems:
        raise FrontdeskError("\n".join(problems))


def _playbook_lines(playbook: Playbook, proposal: AnswerProposal) -> list[str]:
    taken = {text.casefold().strip() for intent in playbook.intents for _, text in intent.examples}
    alone = [asked.text for asked in proposal.asked if not asked.history] or [asked.text for asked in proposal.asked]
    examples = [text for text in dict.fromkeys(alone) if text.casefold().strip() not in taken][:EXAMPLES]
    spoken: dict[str, list[str]] = {}
    for text in examples:
        language = _language(playbook.languages, text)
        spoken.setdefault(language if language in playbook.languages else playbook.languages[0], []).append(text)
    return [
        "[[intent]]",
        f"name = {_quoted(proposal.intent)}",
        *(f"title.{language} = {_quoted(text)}" for language, text in proposal.title),
        *(f"answer.{language} = {_quoted(text)}" for language, text in proposal.answer),
        *(f"examples.{one} = [{', '.join(map(_quoted, texts))}]" for one, texts in spoken.items()),
    ]


def _quoted(text: str) -> str:
    """A TOML string: what JSON escapes TOML reads alike, and DEL it wants escaped as well."""
    return json_.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")

"""The folder of proposals: what is open, what people decided, and how a file goes from the one to the other.

Owns `<kind>/` with the open files, `accepted/<kind>/` and `rejected/<kind>/`. A decision is a file that moved, so it is
made whole or not at all. Knows nothing about how proposals are found, nor about the playbook.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from finetune.examples import FinetuneError
from finetune.proposal_toml import edited, from_toml, to_toml
from finetune.proposals import KINDS, Kind, Proposal, evidence, kind_of

Verdict = Literal["accepted", "rejected"]
VERDICTS: tuple[Verdict, ...] = ("accepted", "rejected")

MOST = 100
"""Open proposals of a kind: nobody reviews more at a sitting, and later runs bring what comes next."""
SAME = 0.5
"""Of what a proposal is about must have been decided before for it not to be proposed again."""


@dataclass(frozen=True, slots=True)
class Filed:
    """An open proposal, its file, and whether a person changed it."""

    proposal: Proposal
    file: Path
    edited: bool


@dataclass(frozen=True, slots=True)
class Shelf:
    """All open proposals, and what is wrong with the files that cannot be read."""

    open: tuple[Filed, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Filing:
    """What became of the proposals of one search, by id; `decided` were accepted or rejected before."""

    new: tuple[str, ...]
    kept: tuple[str, ...]
    withdrawn: tuple[str, ...]
    decided: int
    waiting: int
    """More of a kind than people are shown at a time."""
    problems: tuple[str, ...]


def file_proposals(folder: Path, proposals: Sequence[Proposal]) -> Filing:
    """Write what is new and take back what is no longer found; what a person changed or decided stays as it is.

    Run twice with the same proposals the second changes nothing. Raises FinetuneError when the disk refuses.
    """
    shelf = read_open(folder)
    settled = {kind: _decided_evidence(folder, kind) for kind in KINDS}
    changed = [filed for filed in shelf.open if filed.edited]
    there = {filed.proposal.id: filed for filed in shelf.open}
    counts = Counter(kind_of(filed.proposal) for filed in changed)
    new: list[str] = []
    kept = [filed.proposal.id for filed in changed]
    decided = waiting = 0
    for proposal in proposals:
        kind = kind_of(proposal)
        if _share(evidence(proposal), settled[kind]) >= SAME:
            decided += 1
        elif any(_same(proposal, filed.proposal) for filed in changed):
            continue
        elif counts[kind] >= MOST:
            waiting += 1
        else:
            counts[kind] += 1
            text, filed = to_toml(proposal), there.get(proposal.id)
            file = filed.file if filed else _file(folder, proposal)
            if filed is None and file.exists():
                continue  # damaged by hand, which is among the problems: there may be work in it
            (kept if filed else new).append(proposal.id)
            if filed is None or file.read_text("utf-8") != text:
                _write_whole(file, text.encode())
    gone = sorted(set(there) - {*new, *kept})
    for name in gone:
        there[name].file.unlink(missing_ok=True)
    return Filing(tuple(new), tuple(kept), tuple(gone), decided, waiting, shelf.problems)


def _same(proposal: Proposal, other: Proposal) -> bool:
    """Whether most of one is in the other: a person who deleted messages from a file still means the same thing."""
    if kind_of(proposal) != kind_of(other):
        return False
    one, two = evidence(proposal), evidence(other)
    return len(one & two) >= SAME * min(len(one), len(two))


def _share(part: frozenset[str], whole: frozenset[str]) -> float:
    return len(part & whole) / len(part) if part else 0.0


def _decided_evidence(folder: Path, kind: Kind) -> frozenset[str]:
    found: set[str] = set()
    for verdict in VERDICTS:
        for proposal in read_decided(folder, verdict, (kind,)):
            found |= evidence(proposal)
    return frozenset(found)


def read_open(folder: Path) -> Shelf:
    """The open proposals by kind and file name. A file that cannot be read is a problem, not an end."""
    found, problems = [], []
    for kind in KINDS:
        for file in _files(folder / kind):
            try:
                found.append(read_proposal(file, kind))
            except FinetuneError as error:
                problems.append(str(error))
    return Shelf(tuple(found), tuple(problems))


def read_decided(folder: Path, verdict: Verdict, kinds: Sequence[Kind] = KINDS) -> tuple[Proposal, ...]:
    """What people accepted or rejected. Raises FinetuneError for a file that cannot be read: nothing is guessed."""
    found = []
    for kind in kinds:
        for file in _files(folder / verdict / kind):
            try:
                found.append(read_proposal(file, kind).proposal)
            except FinetuneError as error:
                raise FinetuneError(f"{error}\n{file}: correct it, or delete it to take the decision back") from None
    return tuple(found)


def read_proposal(file: Path, kind: Kind) -> Filed:
    """One file. Raises FinetuneError naming file and field."""
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise FinetuneError(f"{file}: cannot be read ({error.strerror}); check the path and its rights") from error
    except UnicodeDecodeError as error:
        raise FinetuneError(f"{file}: not UTF-8 at byte {error.start}; save the file as UTF-8") from error
    return Filed(from_toml(text, kind, str(file)), file, edited(text))


def find(folder: Path, name: str) -> Filed | Verdict:
    """The open proposal of that id, id without its kind, or file; or the verdict where it was decided already.

    Raises FinetuneError when there is none in the folder, or the file cannot be read.
    """
    wanted = Path(name).resolve() if Path(name).is_file() else None
    matches: list[tuple[Path, Kind, Verdict | None]] = []
    for kind in KINDS:
        for verdict in (None, *VERDICTS):
            for file in _files(folder / (verdict or "") / kind):
                if name in (f"{kind}/{file.stem}", file.stem) or file.resolve() == wanted:
                    matches.append((file, kind, verdict))
    if len(matches) == 1:
        file, kind, verdict = matches[0]
        return verdict or read_proposal(file, kind)
    raise FinetuneError(
        f"{name}: there is no such proposal; `frontdesk proposals list` shows them"
        if not matches
        else f"{name}: could be {', '.join(f'{kind}/{file.stem}' for file, kind, _ in matches)}; write one of them"
    )


def decide(folder: Path, filed: Filed, verdict: Verdict) -> Path:
    """Move the file, as it is now, to the decided ones: one rename, so it is decided or it is not.

    Raises FinetuneError when the disk refuses.
    """
    kept = _file(folder / verdict, filed.proposal)
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        _sync(filed.file)
        os.replace(filed.file, kept)
        _sync(kept.parent)
    except OSError as error:
        raise FinetuneError(
            f"{filed.file}: cannot be moved to {kept.parent} ({error.strerror}); fix its rights"
        ) from error
    return kept


def _file(folder: Path, proposal: Proposal) -> Path:
    return folder / f"{proposal.id}.toml"


def _files(folder: Path) -> Iterator[Path]:
    yield from sorted(file for file in folder.glob("*.toml") if not file.name.startswith("."))


def _write_whole(file: Path, content: bytes) -> None:
    """Write all of a file or none of it: staged beside it, synced, renamed."""
    staged = file.with_name(f".{file.name}.{os.getpid()}.staged")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with staged.open("wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        os.replace(staged, file)
        _sync(file.parent)
    except OSError as error:
        with suppress(OSError):
            staged.unlink(missing_ok=True)
        raise FinetuneError(f"{file}: cannot be written ({error.strerror}); free space or fix its rights") from error


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

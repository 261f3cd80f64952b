"""How the parts become a working bot: the one place where encoder, knowledge, model and playbook meet.

Owns what happens when one of them is missing: the rest still answers, and the reason is said. Heavy libraries load
only when a function here is called.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from bot import FrontdeskError
from bot.cli.output import note
from bot.conversation.messages import Thresholds
from bot.settings import Settings
from finetune.examples import OUT_OF_SCOPE, Example, FinetuneError, each_example, may_train
from retriever.passages import RetrieverError

T = TypeVar("T")

if TYPE_CHECKING:
    from bot.conversation.answers import AlsoAsked
    from bot.conversation.assistant import Assistant
    from bot.conversation.phrases import PhraseBook
    from bot.conversation.playbook import Playbook
    from bot.conversation.understanding import Reader, Searcher
    from finetune.model import QuestionModel
    from finetune.registry import Manifest
    from retriever.answer_score import AnswerScore
    from retriever.encoders import FrozenEncoder
    from retriever.knowledge import Knowledge
    from retriever.knowledge_base import KnowledgeBase
    from retriever.search import Reranker

PART_NAMES = ("playbook", "knowledge", "model")


@dataclass(frozen=True, slots=True)
class Parts:
    """What a company has so far. `problems` says what is missing or damaged, each part's with its cure."""

    playbook: Playbook
    phrases: PhraseBook
    knowledge: Knowledge | None
    model: QuestionModel | None
    manifest: Manifest | None
    problems: Mapping[str, str]

    @property
    def shortcomings(self) -> tuple[str, ...]:
        return tuple(self.problems.values())


def base_folder(settings: Settings) -> Path:
    """The weights everything stands on, checked."""
    from retriever.encoders import weights_folder

    return weights_folder(settings.encoder)


def open_encoder(settings: Settings) -> FrozenEncoder:
    from retriever.encoders import FrozenEncoder

    return FrozenEncoder(base_folder(settings))


def open_knowledge_base(settings: Settings) -> KnowledgeBase:
    from retriever.knowledge_base import KnowledgeBase

    folder = settings.home_folder.knowledge
    return KnowledgeBase(folder, open_encoder(settings), open_reranker(settings), settings.keep_versions)


def open_reranker(settings: Settings) -> Reranker | None:
    from retriever.rerank import CrossEncoder

    return CrossEncoder(settings.reranker) if settings.reranker is not None else None


def open_playbook(settings: Settings) -> Playbook:
    from bot.conversation.playbook import load_playbook

    return load_playbook(settings.playbook)


def labelled_rows(settings: Settings) -> Iterator[Example]:
    """The company's labelled messages, as its settings name them, one by one."""
    return chain.from_iterable(each_example(path) for path in settings.examples)


def reviewed_rows(settings: Settings, rows: Iterable[Example]) -> Iterator[Example]:
    """The rows with what people accepted of `frontdesk discover`."""
    from finetune.proposal_files import read_decided
    from finetune.reviewed import reviewed

    return reviewed(rows, read_decided(settings.home_folder.proposals, "accepted"))


def open_parts(settings: Settings) -> Parts:
    """Everything that is there. A playbook that cannot be read is replaced by the last one that served; where none ever
    did, it stops the service: without it there is no voice."""
    problems = {}
    try:
        voice = _open_voice(settings)
    except (FrontdeskError, FinetuneError) as error:
        if (last := _last_voice(settings)) is None:
            raise
        voice, problems["playbook"] = last, f"{error}; the one that served last serves on"
    return reopened(settings, Parts(*voice, None, None, None, problems), PART_NAMES[1:])


def keep_playbook(settings: Settings, parts: Parts) -> None:
    """Puts the playbook in service aside, so that a mistake in the next edit does not silence a restart."""
    if "playbook" in parts.problems:
        return
    kept = settings.home_folder.last_playbook
    try:
        content = settings.playbook.read_bytes()
        if kept.exists() and kept.read_bytes() == content:
            return
        kept.parent.mkdir(parents=True, exist_ok=True)
        staged = kept.with_suffix(".partial")
        staged.write_bytes(content)
        os.replace(staged, kept)
    except OSError as error:  # a full disk is told elsewhere, and the service runs without this
        note(f"the playbook in service could not be put aside: {error}")


def _last_voice(settings: Settings) -> tuple[Playbook, PhraseBook] | None:
    """The playbook that served last, with what customers are known to say if that can be read; None: there is none."""
    from bot.conversation.phrases import phrase_book
    from bot.conversation.playbook import load_playbook

    try:
        playbook = load_playbook(settings.home_folder.last_playbook)
    except FrontdeskError:
        return None
    try:
        return playbook, open_phrases(settings, playbook)
    except (FrontdeskError, FinetuneError):
        return playbook, phrase_book(playbook, [])


def reopened(settings: Settings, parts: Parts, names: Collection[str]) -> Parts:
    """The parts with those of `names` loaded anew. What cannot be loaded stays as it was, and the problem is said."""
    problems = {name: problem for name, problem in parts.problems.items() if name not in names}

    def attempt(name: str, load: Callable[[], T], before: T | None) -> T | None:
        if name not in names:
            return before
        try:
            return load()
        except (FrontdeskError, RetrieverError, FinetuneError) as error:
            problems[name] = f"{error}; the one before it serves on" if before is not None else str(error)
            return before

    voice = (parts.playbook, parts.phrases)
    playbook, phrases = attempt("playbook", lambda: _open_voice(settings), voice) or voice
    knowledge = attempt("knowledge", lambda: open_knowledge_base(settings).load(), parts.knowledge)
    if "knowledge" in names and knowledge is not None and knowledge.warning:
        problems["knowledge"] = knowledge.warning
    before = (parts.model, parts.manifest) if parts.model is not None and parts.manifest is not None else None
    found = attempt("model", lambda: open_model(settings), before)
    model, manifest = found if found is not None else (None, None)
    if model is not None and not model.exported:
        import torch

        # Two threads for one short message gain nothing alone and cost forty times on busy cores (docs/decisions.md).
        torch.set_num_threads(1)
    return Parts(playbook, phrases, knowledge, model, manifest, problems)


def _open_voice(settings: Settings) -> tuple[Playbook, PhraseBook]:
    playbook = open_playbook(settings)
    return playbook, open_phrases(settings, playbook)


def open_model(settings: Settings, version: str | None = None) -> tuple[QuestionModel, Manifest]:
    """That version, or the live one. Raises FinetuneError when there is none or it is damaged."""
    from finetune.model import QuestionModel
    from finetune.registry import Registry

    registry = Registry(settings.home_folder.models)
    version = version or registry.current()
    if version is None:
        raise FinetuneError(f"{settings.home_folder.models}: no model yet; run `frontdesk train`")
    return QuestionModel.load(registry.folder(version), base_folder(settings)), registry.show(version)


def open_phrases(settings: Settings, playbook: Playbook) -> PhraseBook:
    """What customers are known to say: the playbook's examples and the company's labelled messages."""
    from bot.conversation.phrases import Phrase, phrase_book

    known = {intent.name for intent in playbook.intents} | {OUT_OF_SCOPE}
    reviewed = reviewed_rows(settings, labelled_rows(settings))
    # After the review, which would else take a row that is missing for one that was only ever reviewed.
    labelled = (row for row in reviewed if may_train(row, settings.train_on_slack))
    return phrase_book(playbook, [Phrase(row.text, row.intent) for row in labelled if row.intent in known])


def assistant_of(
    parts: Parts, also_asked: AlsoAsked = lambda topic: (), told: Callable[[int], None] | None = None
) -> Assistant:
    """The assistant of the parts that are there. `also_asked` tells it what customers ask next, `told` gets the size
    of each batch that its reader reads."""
    from bot.conversation.assistant import Assistant
    from bot.readers import Absent, BatchingReader, KnowledgeSearcher, ModelReader

    reason = "; ".join(parts.shortcomings)
    reader: Reader = Absent(reason)
    if parts.model is not None and parts.manifest is not None:
        reader = BatchingReader(ModelReader(parts.model, parts.manifest.version), told)
    searcher: Searcher = Absent(reason)
    if parts.knowledge is not None:
        searcher = KnowledgeSearcher(parts.knowledge.calibrated(score_of(parts.manifest)))
    thresholds = thresholds_of(parts.manifest)
    return Assistant(reader, searcher, parts.playbook, parts.phrases, thresholds, also_asked=also_asked)


STARTERS = 4


def starters_of(playbook: Playbook) -> dict[str, list[str]]:
    """Questions to begin with, by language: the titles of the first intents that have an answer."""
    answers = [intent for intent in playbook.intents if intent.kind == "answer" and intent.article]
    return {
        language: [intent.title.in_language(language) for intent in answers[:STARTERS]]
        for language in playbook.languages
    }


def thresholds_of(manifest: Manifest | None) -> Thresholds:
    """The thresholds that were chosen when the version was trained; the defaults for a version without them."""
    stored = {} if manifest is None else manifest.thresholds
    known = {name: stored[name] for name in Thresholds.__dataclass_fields__ if name in stored}
    return replace(Thresholds(), **known)


def score_of(manifest: Manifest | None) -> AnswerScore | None:
    """How likely hits answer, as was fitted when the version was trained; None where nothing was."""
    from retriever.answer_score import AnswerScore

    return None if manifest is None else AnswerScore.from_numbers(manifest.thresholds)


def require_settings_file(value: object, name: str) -> None:
    """A command that works on the company's own files needs to be told where they are."""
    if not value:
        raise FrontdeskError(
            f"`{name}` is not set; name the files on the command line, or in frontdesk.toml (--config or "
            "FRONTDESK_CONFIG, e.g. FRONTDESK_CONFIG=data/frontdesk.toml for the sample company)"
        )

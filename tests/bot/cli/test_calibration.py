"""A version is stored with how likely its hits answer, fitted on validation questions, and serves by it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bot import FrontdeskError
from bot.channels.terminal import terminal_message
from bot.cli import assembly
from bot.cli.evaluation import fitted_score, validated_thresholds
from bot.cli.learning import _threshold_chooser
from bot.conversation.messages import Thresholds, Turn
from bot.golden import read_golden
from bot.readers import ModelReader
from bot.settings import Settings
from finetune.model import Readings
from finetune.registry import Manifest
from retriever.answer_score import AnswerScore
from retriever.exact_index import ExactIndex
from retriever.keyword_index import KeywordIndex
from retriever.knowledge import Knowledge
from retriever.passages import Document, Query, Section
from retriever.search import Indexes
from retriever.split import embedded_text, split
from tests.conftest import ROOT
from tests.retriever.hashing import HashingEncoder

ENCODER = HashingEncoder()
THINGS = ("kettle", "ladder", "mirror", "pillow", "saddle", "teapot", "window", "zither")
MANIFEST = Manifest("v", "lora", "", "", "adapted", "", 0, (), "", {}, {}, {}, {})


class Model:
    """Turns questions into vectors as the passages' encoder does, and is surer of what it has seen: our things."""

    def read(self, batch: Sequence[tuple[str, object]]) -> Readings:
        last, window = ENCODER.encode_queries([Query(text) for text, _ in batch])
        doubt = np.array([0.2 if any(thing in text for thing in THINGS) else 0.6 for text, _ in batch])
        return Readings(("a",), np.zeros((len(batch), 1)), doubt, last, window, window)


MODEL: Model = Model()


@pytest.fixture
def knowledge(tmp_path: Path) -> Knowledge:
    texts = {f"{thing}.md": f"The {thing} costs {n} crowns and is made of oak." for n, thing in enumerate(THINGS)}
    documents = [Document(name, name, text, (Section((), 0, len(text)),)) for name, text in texts.items()]
    passages = tuple(passage for document in documents for passage in split(document))
    embedded = [embedded_text(passage) for passage in passages]
    keywords = KeywordIndex.build(tmp_path / "keywords", embedded)
    return Knowledge("k", documents, Indexes.of(passages, ExactIndex(ENCODER.encode(embedded)), keywords), ENCODER)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    asked = [(f"what does the {thing} cost in crowns?", [f"{thing}.md"]) for thing in THINGS]
    asked += [(f"do you know any {word}?", []) for word in ("poems", "jokes", "riddles", "songs", "rivers", "stars")]
    rows = [
        {"id": str(n), "text": text, "answerable": bool(articles), "articles": articles}
        for n, (text, articles) in enumerate(asked)
    ]
    (tmp_path / "validation.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    return Settings(validation=tmp_path / "validation.jsonl", playbook=ROOT / "data/playbook.toml", max_error_rate=0.2)


@pytest.mark.slow
def test_a_version_serves_by_the_score_that_was_fitted_for_it(settings: Settings, knowledge: Knowledge) -> None:
    stored = validated_thresholds(settings, MODEL, knowledge)  # type: ignore[arg-type]
    score = AnswerScore.from_numbers(stored)
    assert score is not None and stored.keys() == {*Thresholds.__dataclass_fields__, *score.to_numbers()}

    def anything(numbers: Mapping[str, float], text: str) -> float:
        playbook = assembly.open_playbook(settings)
        manifest = replace(MANIFEST, thresholds=numbers)
        phrases = assembly.open_phrases(settings, playbook)
        parts = assembly.Parts(playbook, phrases, knowledge, MODEL, manifest, {})  # type: ignore[arg-type]
        *_, turn = assembly.assistant_of(parts).respond(terminal_message(text))
        assert isinstance(turn, Turn)
        assert turn.thresholds == assembly.thresholds_of(manifest)
        return turn.parts[0].hits[0].why.anything

    sure, unsure = anything(stored, "what does the teapot cost?"), anything(stored, "do you know any plays?")
    assert 0 < unsure < 0.5 < sure < 1
    query = Query("what does the teapot cost?")
    hits = knowledge.search(query, None, 3)
    z = score.intercept + score.coefficients[0] * math.log(0.8 / 0.2) + score.coefficients[1] * hits[0].why.window
    z += score.coefficients[2] * max(hit.why.words for hit in hits)
    assert sure == pytest.approx(1 / (1 + math.exp(-z)), abs=1e-6), "worked out by hand"
    # A version of before, that nothing was fitted for, serves as it did.
    before = {name: value for name, value in stored.items() if name in Thresholds.__dataclass_fields__}
    assert anything(before, "do you know any plays?") == 1


@pytest.mark.parametrize("file", ["validation", "playbook"])
def test_a_file_that_thresholds_need_is_missed_before_the_training_and_not_after_it(
    settings: Settings, knowledge: Knowledge, tmp_path: Path, file: str
) -> None:
    assert callable(_threshold_chooser(settings, knowledge))
    with pytest.raises(FrontdeskError, match="gone"):
        _threshold_chooser(settings.model_copy(update={file: tmp_path / "gone"}), knowledge)


def test_questions_of_one_kind_fit_nothing(settings: Settings, knowledge: Knowledge) -> None:
    assert settings.validation is not None
    rows = read_golden(settings.validation)
    reader = ModelReader(MODEL, "v")  # type: ignore[arg-type]
    assert fitted_score(reader, knowledge, rows) is not None
    for answerable in (True, False):
        assert fitted_score(reader, knowledge, [row for row in rows if row.answerable is answerable]) is None
    # What only the playbook answers says nothing about articles.
    unfiled = [replace(row, articles=()) if row.answerable else row for row in rows]
    assert fitted_score(reader, knowledge, unfiled) is None

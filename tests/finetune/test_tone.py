"""Sentiment and urgency: rows, runs of letters, the fit, and the file; the real encoder judges the shipped rows."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from finetune.examples import FinetuneError
from finetune.tone import BUCKETS, LETTERS, SENTIMENTS, ToneExample, ToneHead, _counted, _runs, fit_tone, read_tones
from tests.conftest import ROOT

PRAISE, BLAME = ("lovely", "great", "perfect", "thanks"), ("awful", "broken", "useless", "angry")
NOW, LATER = ("flood", "smoke", "thief"), ("invoice", "colour", "size")


def invented(seed: int, count: int) -> list[ToneExample]:
    random = np.random.default_rng(seed)
    rows = []
    for n in range(count):
        sentiment = SENTIMENTS[n % 3]
        urgent = bool(random.random() < 0.3)
        mood = {"positive": PRAISE, "negative": BLAME}.get(sentiment, ("plain", "simple", "usual"))
        words = [str(random.choice(mood)), str(random.choice(NOW if urgent else LATER)), f"order {n}"]
        rows.append(ToneExample(" ".join(words), sentiment, urgent))
    return rows


def vectors(count: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, 16)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def head() -> ToneHead:
    return fit_tone(invented(0, 240), vectors(240), 0)


def test_it_reads_what_the_letters_say(head: ToneHead) -> None:
    rows = invented(1, 120)
    tones = head.read([row.text for row in rows], vectors(120, 1))
    said = [SENTIMENTS[i] for i in tones.sentiment.argmax(axis=1)]
    assert np.mean([a == row.sentiment for a, row in zip(said, rows, strict=True)]) > 0.95
    assert np.allclose(tones.sentiment.sum(axis=1), 1)
    urgent = np.array([row.urgent for row in rows])
    assert ((tones.urgency >= 0.5) == urgent).mean() > 0.9


def test_a_saved_head_reads_the_same(head: ToneHead) -> None:
    texts, rows = ["lovely smoke", "退款", "", "x" * 5_000], vectors(4)
    again = ToneHead.from_bytes(head.to_bytes(), 16)
    for one, other in zip(
        (head.read(texts, rows).sentiment, head.read(texts, rows).urgency),
        (again.read(texts, rows).sentiment, again.read(texts, rows).urgency),
        strict=True,
    ):
        assert np.allclose(one, other, atol=0.02) and np.isfinite(other).all()
    assert again.to_bytes() == head.to_bytes()


def test_a_head_of_something_else_is_refused(head: ToneHead) -> None:
    for content, dimension in ((head.to_bytes(), 17), (head.to_bytes()[:-4], 16), (b"", 16)):
        with pytest.raises(FinetuneError, match=r"tone\.safetensors: .*train again"):
            ToneHead.from_bytes(content, dimension)


def test_runs_are_counted_like_a_set_of_substrings() -> None:
    """Distinct substrings fall into buckets by hash: their counts, sorted, are those of the plain substrings."""
    for text in ("refund my refund", "我要退款，我要退款！", "a", "Grüße 🎉 ok"):
        padded = f" {' '.join(text.casefold().split())} "
        plain = Counter(padded[i : i + n] for n in range(1, 5) for i in range(len(padded) - n + 1))
        places, counts = _counted(text)
        assert sorted(counts.tolist()) == sorted(plain.values()), text
        assert len(set(places.tolist())) == len(places) and places.min() >= 0 and places.max() < BUCKETS


def test_runs_weigh_by_rarity_and_have_one_length() -> None:
    places, counts = _counted("abc abc xyz")
    known = places[:5]
    rarity = np.linspace(1, 2, 5).astype(np.float32)
    found, values = _runs("abc abc xyz", known, rarity)
    assert found.tolist() == [0, 1, 2, 3, 4]
    expected = np.array([(1 + math.log(count)) * weight for count, weight in zip(counts[:5], rarity, strict=True)])
    assert np.allclose(values, LETTERS * expected / np.linalg.norm(expected))


def test_rows_are_read_and_bad_ones_named(tmp_path: Path) -> None:
    file = tmp_path / "tone.jsonl"
    good = {"text": "where is it", "sentiment": "neutral", "urgent": False}
    file.write_text(json.dumps(good) + "\n")
    assert read_tones(file) == (ToneExample("where is it", "neutral", False),)
    for change, reason in (
        ({"sentiment": "meh"}, "sentiment.*meh.*negative, neutral, positive"),
        ({"sentiment": None}, "sentiment"),
        ({"urgent": 1}, "urgent.*1.*true or false"),
        ({"text": " "}, "text.*empty"),
    ):
        file.write_text(json.dumps(good) + "\n" + json.dumps({**good, **change}) + "\n")
        with pytest.raises(FinetuneError, match=f"line 2: .*{reason}"):
            read_tones(file)


def test_too_few_of_a_kind_is_named() -> None:
    rows = [row for row in invented(0, 60) if row.sentiment != "positive"]
    with pytest.raises(FinetuneError, match="at least 5 messages that are positive, found 0"):
        fit_tone(rows, vectors(len(rows)), 0)
    calm = [row for row in invented(0, 60) if not row.urgent]
    with pytest.raises(FinetuneError, match="that are urgent, found 0"):
        fit_tone(calm, vectors(len(calm)), 0)


def test_the_shipped_rows_and_their_evaluation_share_no_message() -> None:
    train, evaluation = (read_tones(ROOT / "data" / name) for name in ("tone.jsonl", "tone_evaluation.jsonl"))
    assert (len(train), len(evaluation)) == (2_200, 300)
    assert not {row.text.casefold() for row in train} & {row.text.casefold() for row in evaluation}
    for rows in (train, evaluation):
        assert {row.sentiment for row in rows} == set(SENTIMENTS)
        assert 0.15 < np.mean([row.urgent for row in rows]) < 0.35


@pytest.mark.slow
def test_the_shipped_rows_teach_to_read_messages_of_another_hand() -> None:
    """The goals of the product: macro F1 of sentiment, recall and precision of urgency, on rows written apart."""
    from sklearn.metrics import f1_score, precision_score, recall_score

    from bot.cli.assembly import base_folder
    from bot.settings import Settings
    from finetune.encoder import Encoder

    encoder = Encoder(base_folder(Settings()))
    train, evaluation = (read_tones(ROOT / "data" / name) for name in ("tone.jsonl", "tone_evaluation.jsonl"))
    read = encoder.encode(encoder.frozen, [(row.text, ()) for row in (*train, *evaluation)])[0]
    tones = fit_tone(train, read[: len(train)], 0).read([row.text for row in evaluation], read[len(train) :])
    said = [SENTIMENTS[i] for i in tones.sentiment.argmax(axis=1)]
    urgent = [row.urgent for row in evaluation]
    figures = (
        f1_score([row.sentiment for row in evaluation], said, average="macro"),
        recall_score(urgent, tones.urgency >= 0.5),
        precision_score(urgent, tones.urgency >= 0.5),
    )
    print(f"sentiment macro F1 {figures[0]:.3f}, urgency recall {figures[1]:.3f}, precision {figures[2]:.3f}")
    assert figures[0] >= 0.75 and figures[1] >= 0.9 and figures[2] >= 0.6, figures

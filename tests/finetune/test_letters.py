"""The reader of letters learns what sets labels apart, agrees with a plain softmax, and is safe to load."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from safetensors.numpy import load, save

from finetune.calibrate import FLOOR
from finetune.examples import FinetuneError, normalised
from finetune.letters import BUCKETS, Letters, _grams, fit_letters

TOPICS = ("where is my parcel {}", "cancel order {}", "the lamp {} is broken")


def alone(count: int) -> tuple[list[tuple[str, Sequence[tuple[str, str]]]], list[str]]:
    return [(TOPICS[n % 3].format(n), ()) for n in range(count)], ["abc"[n % 3] for n in range(count)]


@pytest.fixture(scope="module")
def letters() -> Letters:
    questions, targets = alone(60)
    return fit_letters(questions, targets, seed=0)


def test_it_tells_apart_what_it_has_learnt_and_slips_do_not_confuse_it(letters: Letters) -> None:
    said = letters.chances([("wher is my parcl", ()), ("I want to CANCEL it!", ()), ("my lamp brokn", ())])
    assert said.argmax(axis=1).tolist() == [0, 1, 2]
    assert np.exp(said).sum(axis=1) == pytest.approx(1, abs=1e-3)


def test_a_training_is_the_same_again_and_of_another_seed_another(letters: Letters) -> None:
    questions, targets = alone(60)
    assert fit_letters(questions, targets, seed=0).to_bytes() == letters.to_bytes()
    assert fit_letters(questions, targets, seed=1).to_bytes() != letters.to_bytes()


@pytest.mark.parametrize("text", ["where's my parcel?", "a", "一 二三", "x" * 30, "A1-b2  c"])
def test_its_n_grams_are_those_of_the_words_spelt_out(text: str) -> None:
    """An independent count, by slicing strings: as many kinds, each as often."""
    spelt = Counter(
        f" {word} "[at : at + size]
        for word in normalised(text).split()
        for size in range(2, 6)
        for at in range(len(word) + 3 - size)
    )
    _, counts = np.unique(_grams(text), return_counts=True)
    assert sorted(counts.tolist()) == sorted(spelt.values()), "of so few no two share a bucket"


def test_it_agrees_with_scikit_learns_softmax_on_the_same_n_grams() -> None:
    """An independent reader: TfidfVectorizer (no hashing) and a logistic regression run to its optimum."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    questions, targets = alone(300)
    texts = [text for text, _ in questions]
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
    other = LogisticRegression(C=100, max_iter=1000).fit(vectorizer.fit_transform(texts), targets)
    asked = [
        f"{a} {b}" for a in ("where is", "cancel", "lamp", "my order", "broken") for b in ("", "parcel", "42", "now")
    ]
    said = fit_letters(questions, targets, seed=0).chances([(text, ()) for text in asked])
    theirs = other.predict_proba(vectorizer.transform(asked))
    sure = theirs.max(axis=1) > 0.6
    assert sure.sum() >= 10
    assert (said.argmax(axis=1) == theirs.argmax(axis=1))[sure].all()


def test_our_last_line_decides_where_the_message_says_nothing() -> None:
    """The fields of the conversation: "yes" means what was asked."""
    ours = ("do you want your money back?", "shall I send a new one?")
    questions = [("yes please", (("customer", f"hello {n}"), ("agent", ours[n % 2]))) for n in range(80)]
    letters = fit_letters(questions, ["ab"[n % 2] for n in range(80)], seed=0)
    assert len(letters.rarity) == 4 * BUCKETS
    told = letters.chances([("yes", (("bot", ours[1]),)), ("yes", (("agent", ours[0]),)), ("yes", ())])
    assert told.argmax(axis=1)[:2].tolist() == [1, 0]
    assert abs(told[2, 0] - told[2, 1]) < 0.5


@pytest.mark.parametrize("text", ["", "!!", "\U0001f600", "x" * 100_000, "怎么退货", "\ud800", "a b " * 9_000])
def test_any_text_is_read(letters: Letters, text: str) -> None:
    said = letters.chances([(text, ())])
    assert np.isfinite(said).all() and (said >= FLOOR).all()


def test_no_question_is_no_row(letters: Letters) -> None:
    assert letters.chances([]).shape == (0, 3)


def test_what_was_saved_reads_alike(letters: Letters) -> None:
    questions, _ = alone(9)
    assert np.array_equal(Letters.from_bytes(letters.to_bytes(), 3).chances(questions), letters.chances(questions))


@pytest.mark.parametrize("fault", ["missing", "labels", "buckets", "bytes"])
def test_a_file_that_is_not_its_own_is_refused(letters: Letters, fault: str) -> None:
    tensors = load(letters.to_bytes())
    match fault:
        case "missing":
            del tensors["scale"]
        case "labels":
            tensors["weight"] = tensors["weight"][:, :2].copy()
        case "buckets":
            tensors = {**tensors, "rarity": tensors["rarity"][:5].copy(), "weight": tensors["weight"][:5].copy()}
    content = b"no safetensors" if fault == "bytes" else save(tensors)
    with pytest.raises(FinetuneError, match=r"letters\.safetensors: .*train again"):
        Letters.from_bytes(content, 3)

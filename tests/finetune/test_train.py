"""The training loop on a tiny encoder: it learns, repeats itself, stays sane on odd data and stops on NaN."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from finetune.answers import targets_of
from finetune.batches import SLIPS_A_WORD, Batches, interrupting, slips
from finetune.calibrate import fit_temperature, fit_top_temperature
from finetune.encoder import Encoder
from finetune.evaluate import measure
from finetune.examples import OUT_OF_SCOPE, Example, FinetuneError
from finetune.leaks import leak_groups
from finetune.model import Head
from finetune.precedents import precedents_from
from finetune.train import (
    LEAST_PAIRS,
    Progress,
    TrainConfig,
    _learn,
    _Told,
    adapt,
    fit_versions,
    questions,
    search_space,
    silent,
)
from finetune.weighing import MANY, SHARES, calibrated, fit_level, fit_shares, levelled
from tests.finetune.conftest import VOCABULARY

QUICK = TrainConfig(least_steps=12, epochs=2, threads=1, batch=16, batch_of_few=16, slips=0.0)


def test_what_is_to_be_found_may_be_the_first_of_all(tiny: Encoder) -> None:
    """Of fewer targets than there is room for the rest are numbered 0 too, without credit."""
    rows = [Example("hello there", answer="first answer"), Example("goodbye then", answer="second answer")]
    frozen = tiny.encode(tiny.frozen, questions(rows))
    targets = targets_of(rows, frozen[1], tiny, None)
    (batch, *_) = Batches(rows, frozen, targets, tiny, QUICK).after(0)
    assert sorted(batch.right.tolist()) == [[0, 1], [1, 0]]


@pytest.mark.slow
def test_both_versions_learn_separable_intents(tiny: Encoder, examples: list[Example]) -> None:
    fitted = fit_versions(examples, tiny, replace(QUICK, least_steps=30, epochs=4))
    for trained in (fitted.baseline, fitted.lora):
        scores = measure(trained.model, fitted.rows.held_out)
        assert scores.accuracy > 0.7 and (scores.auroc or 0) > 0.7
        assert trained.seconds > 0
    assert fitted.baseline.model.adapter_bytes < fitted.lora.model.adapter_bytes


def test_frequent_intents_lose_as_much_of_what_frequency_gave_them_as_is_said() -> None:
    """Two intents drawn 9 to 1: the head that is right where both are asked alike differs by the log of that."""
    skewed = Head(("rare", "usual"), np.eye(2, dtype=np.float32), np.log(np.array([0.1, 0.9], np.float32)))
    names = ["rare"] * 10 + ["usual"] * 90
    rows = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    shift = (levelled(skewed, names, 0.4).logits(rows)[0] - skewed.logits(rows)[0]).mean(axis=0)
    np.testing.assert_allclose(shift, [0.4 * np.log(9) / 2, -0.4 * np.log(9) / 2], rtol=1e-5)
    hot = replace(skewed, temperature=3.0)
    shift = (levelled(hot, names, 0.4).logits(rows)[0] - hot.logits(rows)[0]).mean(axis=0) / 3
    np.testing.assert_allclose(shift, [0.4 * np.log(9) / 2, -0.4 * np.log(9) / 2], rtol=1e-5)
    np.testing.assert_allclose(levelled(skewed, ["rare", "usual"] * 50, 0.4).bias, skewed.bias, atol=1e-7)


@pytest.mark.parametrize(
    ("asked", "count", "level"),
    [("as the rows", 20_000, 0.0), ("evenly", 20_000, 0.5), ("as the rows", 4, 0.5), ("as the rows", 0, 0.5)],
)
def test_held_out_rows_say_how_much_frequency_tells(asked: str, count: int, level: float) -> None:
    """Messages that say little, of two intents drawn 9 to 1: where customers ask as often, frequency tells."""
    random = np.random.default_rng(0)
    truth = (random.random(count) < (0.9 if asked == "as the rows" else 0.5)).astype(np.int64)
    rows = (np.eye(2)[truth] + random.normal(size=(count, 2))).astype(np.float32)
    right = Head(("rare", "usual"), np.eye(2, dtype=np.float32), np.log(np.array([0.1, 0.9], np.float32)))
    told = fit_level(right, rows, truth, ["rare"] * 10 + ["usual"] * 90)
    assert told.level == level
    np.testing.assert_allclose(told.bias, levelled(right, ["rare"] * 10 + ["usual"] * 90, level).bias)
    assert Head.from_bytes(told.to_bytes(), told.labels, 1).level == level


def test_strangers_are_neither_frequent_nor_rare() -> None:
    head = Head((OUT_OF_SCOPE, "a", "b"), np.eye(3, dtype=np.float32), np.zeros(3, np.float32))
    told = levelled(head, [OUT_OF_SCOPE] * 500 + ["a"] * 4 + ["b"] * 4, 0.5)
    assert (told.bias == 0).all()


@pytest.mark.parametrize(("knows", "expected"), [("the encoder", 0.0), ("letters", max(SHARES)), ("both a half", None)])
def test_letters_get_the_share_that_held_out_rows_give_them(knows: str, expected: float | None) -> None:
    """Each of the two is right of its own half of the rows, or of all of them, and guesses the others."""
    random = np.random.default_rng(0)
    truth = random.integers(0, 4, 400)
    guess = np.eye(4, dtype=np.float32)[random.integers(0, 4, 400)]
    right = np.eye(4, dtype=np.float32)[truth]
    first = (np.arange(400) < 200)[:, None]
    seen, spelt = {
        "the encoder": (right, guess),
        "letters": (guess, right),
        "both a half": (np.where(first, right, 0.25), np.where(first, 0.25, right)),
    }[knows]
    head = Head(("a", "b", "c", "d"), 4 * np.eye(4, dtype=np.float32), np.zeros(4, np.float32))
    (share,) = fit_shares(head, np.hstack([seen, 6 * spelt]).astype(np.float32), truth).shares
    assert share == expected if expected is not None else share > 0
    assert fit_shares(head, np.zeros((0, 8), np.float32), np.zeros(0, np.int64)).shares == SHARES[:1]


@pytest.mark.parametrize(("count", "top"), [(MANY - 1, False), (MANY, True)])
def test_of_many_held_out_rows_the_temperature_suits_the_best_label(count: int, top: bool) -> None:
    random = np.random.default_rng(4)
    rows = random.normal(0, 3, (count, 20)).astype(np.float32)
    best = rows.argmax(axis=1)
    targets = np.where(random.random(count) < 0.6, best, (best + random.integers(1, 20, count)) % 20)
    names = [f"{n:02}" for n in range(20)]
    head = Head(tuple(names), np.eye(20, dtype=np.float32), np.zeros(20, np.float32))
    examples = [Example(f"{n}", names[target]) for n, target in enumerate(targets)]
    fitted = calibrated(head, rows, examples, names)
    fit = fit_top_temperature if top else fit_temperature
    assert fitted.temperature == pytest.approx(fit(rows, targets), rel=1e-6)
    assert fit_temperature(rows, targets) != pytest.approx(fit_top_temperature(rows, targets), rel=0.05)


@pytest.mark.parametrize("knows", [0, 1, 2])
def test_of_three_readers_each_counts_by_what_it_knows(knows: int) -> None:
    """One is right in nine rows of ten and as sure as that; the other two guess, and are as sure of it."""
    random = np.random.default_rng(0)
    truth = random.integers(0, 4, 2_000)
    told = np.where(random.random(2_000) < 0.9, truth, random.integers(0, 4, 2_000))
    parts = [np.eye(4, dtype=np.float32)[random.integers(0, 4, 2_000)] for _ in range(3)]
    parts[knows] = np.eye(4, dtype=np.float32)[told]
    head = Head(("a", "b", "c", "d"), np.eye(4, dtype=np.float32), np.zeros(4, np.float32))
    fitted = fit_shares(head, np.hstack([parts[0], *(6 * part for part in parts[1:])]), truth)
    weights = np.array([fitted.weight[0, 0], *(6 * share for share in fitted.shares)]) / fitted.temperature
    assert weights[knows] == pytest.approx(np.log(3 * 0.925 / 0.075), rel=0.15), "the log odds of being right"
    assert np.delete(weights, knows) == pytest.approx(0, abs=0.15)
    assert Head.from_bytes(fitted.to_bytes(), fitted.labels, 2).shares == fitted.shares


@pytest.mark.slow
def test_the_same_seed_gives_the_same_model_and_another_seed_another(tiny: Encoder, examples: list[Example]) -> None:
    one, two, other = (fit_versions(examples, tiny, replace(QUICK, seed=s)).lora.model for s in (0, 0, 1))
    assert one.files == two.files
    assert one.files != other.files


@pytest.mark.slow
def test_training_leaves_the_frozen_encoder_and_global_random_numbers_alone(
    tiny: Encoder, examples: list[Example]
) -> None:
    import torch

    before = tiny.encode(tiny.frozen, questions(examples))[1]
    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    fit_versions(examples, tiny, QUICK)
    assert np.array_equal(before, tiny.encode(tiny.frozen, questions(examples))[1])
    assert torch.equal(state, torch.random.get_rng_state()) and torch.get_num_threads() == threads


@pytest.mark.slow
@pytest.mark.parametrize("few", [0, 2_000])
def test_held_out_rows_judge_a_model_that_does_not_know_them(tiny: Encoder, few: int) -> None:
    words = VOCABULARY.split()
    rows = [Example(f"{a} {b}", a, answer=f"{b} please") for a in words[:2] for b in words[10:30]]
    fitted = fit_versions(rows, tiny, replace(QUICK, held_out=0.3, few=few, least_steps=2, epochs=1))
    held = questions(fitted.rows.held_out)
    for trained in (fitted.baseline, fitted.lora):
        assert np.linalg.norm(trained.model.read(held).expected, axis=1) == pytest.approx(1, abs=0.2)
        for model, count in ((trained.model, 40), (trained.measured, 40 - len(held))):
            assert len(model.precedents.asked) == count
            assert len(precedents_from(model.files["precedents.safetensors"], tiny.dimension).asked) == count
    assert (fitted.baseline.measured.head is fitted.baseline.model.head) is (few == 0)


@pytest.mark.slow
def test_two_examples_an_intent_are_enough_to_train(tiny: Encoder) -> None:
    rows = [
        Example(text, intent) for intent, text in [("a", "refund"), ("a", "money back"), ("b", "card"), ("b", "lost")]
    ]
    fitted = fit_versions(rows, tiny, QUICK)
    assert set(fitted.lora.model.head.labels) == {"a", "b"}
    assert np.isfinite(fitted.lora.model.read(questions(rows)).probabilities).all()


@pytest.mark.slow
def test_intents_with_one_example_are_trained_and_reported(tiny: Encoder, examples: list[Example]) -> None:
    fitted = fit_versions([*examples, Example("password reset login", "password")], tiny, QUICK)
    assert "password" in fitted.lora.model.head.labels
    assert any("one example" in w and "password" in w for w in fitted.warnings)
    assert all(e.intent != "password" for e in fitted.rows.held_out)


@pytest.mark.slow
def test_many_intents_and_no_out_of_scope_rows(tiny: Encoder) -> None:
    words = VOCABULARY.split()[4:18]
    rows = [Example(f"{a} {b}", f"{a}_{b}") for a in words for b in words for _ in range(1)]
    rows += [Example(f"please {e.text}", e.intent) for e in rows]
    fitted = fit_versions(rows, tiny, replace(QUICK, epochs=1))
    read = fitted.lora.model.read(questions(rows[:3]))
    assert read.probabilities.shape == (3, len(words) ** 2)
    assert ((read.out_of_scope >= 0) & (read.out_of_scope <= 1)).all()


@pytest.mark.slow
def test_rows_that_only_pair_a_question_with_its_answer_take_part(tiny: Encoder, examples: list[Example]) -> None:
    """Questions move towards their frozen answers: the independent check is the rank of the right answer."""
    answers = {"refund": "money back today", "lost_card": "reset the card login", "cancel": "order late no thanks"}
    paired = [replace(e, intent=None, answer=answers[e.intent]) for e in examples if e.intent]
    rows = [*paired, *(e for e in examples if not e.answer)]
    # The term alone: two of the answers are .96 alike in this tiny space.
    config = replace(QUICK, pairs=1.0, contrast=0.0, interrupting=0.0, epochs=8, learning_rate=3e-3)
    frozen = tiny.encode(tiny.frozen, questions(rows))
    targets = tiny.encode(tiny.frozen, [(text, ()) for text in answers.values()])[0]

    def rank_one(module: object) -> float:
        vectors = sum(tiny.encode(module, questions(paired)))  # type: ignore[arg-type]
        right = [list(answers.values()).index(e.answer) for e in paired]
        return float(((vectors @ targets.T).argmax(axis=1) == right).mean())

    from finetune.model import changes, merged

    files, _, _ = adapt(rows, frozen, targets_of(rows, frozen[1], tiny, None), tiny, config)
    learnt = merged(tiny, changes(files["adapter_model.safetensors"], files["adapter_config.json"]))
    assert rank_one(learnt) > 0.95 > rank_one(tiny.frozen)


def test_adapted_vectors_search_only_when_they_find_held_out_answers_at_least_as_well(tiny: Encoder) -> None:
    words = VOCABULARY.split()
    texts = [f"{a} {b} please" for a in words[:10] for b in words[10:16]]
    rows = [Example(f"where is {text}", None, answer=text) for text in texts]
    frozen = tiny.encode(tiny.frozen, questions(rows))
    answers = tiny.encode(tiny.frozen, [(text, ()) for text in texts])
    found = targets_of(rows, frozen[1], tiny, None)
    assert search_space(found, frozen, answers) == "adapted", "a question that is its answer finds it"
    assert search_space(found, answers, frozen) == "frozen"
    assert search_space(found, frozen, (-answers[0], -answers[1])) == "frozen"
    few = rows[: LEAST_PAIRS - 1]
    assert search_space(targets_of(few, frozen[1], tiny, None), frozen, answers) == "frozen", "nothing is proven by few"
    assert search_space(targets_of([], frozen[1], tiny, None), frozen, answers) == "frozen"


@pytest.mark.slow
def test_a_loss_that_is_no_number_stops_with_the_cure(tiny: Encoder, examples: list[Example]) -> None:
    with pytest.raises(FinetuneError, match=r"diverged at step \d+ of \d+ .*lower learning_rate"):
        fit_versions(examples, tiny, replace(QUICK, learning_rate=1e30, epochs=10))


@pytest.mark.slow
def test_progress_counts_to_the_end(tiny: Encoder, examples: list[Example]) -> None:
    told: list[Progress] = []
    fit_versions(examples, tiny, QUICK, told.append)
    steps = [p for p in told if p.stage == "training"]
    assert [p.step for p in steps] == list(range(1, steps[0].steps + 1))
    assert steps[-1].seconds_left == 0 and np.isfinite([p.loss for p in steps]).all()
    assert {p.stage for p in told} == {"encoding", "baseline", "training", "refitting", "calibrating"}


@pytest.mark.slow
def test_a_small_set_is_learnt_whole_and_judged_without_its_held_out_rows(
    tiny: Encoder, examples: list[Example]
) -> None:
    told: list[Progress] = []
    fitted = fit_versions(examples, tiny, QUICK, told.append)
    baseline, lora = _learn(fitted.rows, _Told(tiny, QUICK, True, silent, None, (), None))
    assert fitted.baseline.measured.files == baseline.model.files, "the judged has learnt from the other rows alone"
    assert fitted.lora.measured.files == lora.model.files
    for final in (fitted.lora, fitted.baseline):
        assert final.model.head.temperature == final.measured.head.temperature
        assert final.model.head.scope == final.measured.head.scope
        assert not np.array_equal(final.model.head.memory.rows, final.measured.head.memory.rows)
        assert not np.array_equal(final.model.head.weight, final.measured.head.weight)


def test_an_epoch_holds_every_row_once_and_large_sets_stop_at_the_budget(
    tiny: Encoder, examples: list[Example]
) -> None:
    frozen = tiny.encode(tiny.frozen, questions(examples))
    config = replace(QUICK, epochs=1, least_steps=1)
    targets = targets_of(examples, frozen[1], tiny, None)
    batches = Batches(examples, frozen, targets, tiny, config)
    seen = [tuple(ids) for batch in batches.after(0) for ids in batch.last]
    assert sorted(seen) == sorted(map(tuple, tiny.tokenise(questions(examples))[0]))
    tokens = sum(len(ids) for batch in batches.after(0) for ids in (*batch.last, *batch.window))

    def steps(**changes: int) -> int:
        return Batches(examples, frozen, targets, tiny, replace(config, epochs=50, **changes)).steps

    assert steps() == 50 * batches.steps
    assert steps(token_budget=3 * tokens) == pytest.approx(3 * batches.steps, abs=1)
    assert steps(token_budget=1) == batches.steps, "every row is read once"
    assert steps(most_tokens=tokens // 2) == pytest.approx(batches.steps / 2, abs=1), "but for very large sets"


def test_a_share_of_the_messages_that_stand_alone_is_read_in_somebody_elses_conversation(tiny: Encoder) -> None:
    rows = [
        Example("refund", "refund"),
        Example("cancel", "cancel"),
        Example("lost card", "card", (("customer", "hello"),), answer="please reset the password"),
        Example("late parcel", "parcel", answer="it does arrive today"),
    ]
    windows = interrupting(rows, tiny, seed=0)
    talks = {words(tiny, r.text) + words(tiny, r.answer): r for r in rows[2:]}
    for row in (0, 1, 3):
        own = words(tiny, rows[row].text)
        inner = tuple(windows[row][1:-1])
        assert inner[-len(own) :] == own and inner[: -len(own)] in talks
    assert 2 not in windows, "a follow-up has its own conversation"
    assert interrupting(rows[:2], tiny, seed=0) == {}, "no conversation to borrow"

    config = replace(QUICK, interrupting=0.5, batch=4, epochs=50, least_steps=1)
    frozen = tiny.encode(tiny.frozen, questions(rows))
    seen = [
        tuple(window)
        for batch in Batches(rows, frozen, targets_of(rows, frozen[1], tiny, None), tiny, config).after(0)
        for window in batch.window
    ]
    borrowed = [window for window in seen if window in {tuple(w) for w in windows.values()}]
    assert 0.4 < len(borrowed) / (3 * 50) < 0.6
    assert len(seen) - len(borrowed) == 50, "the follow-up is always read in its own conversation"


def test_slips_change_a_letter_of_longer_words_and_nothing_else() -> None:
    rows = [Example("please LM512774 the 45l pack über 背包 arrives broken", "a", (("agent", "which parcel"),))] * 400
    wrong: set[str] = set()
    for text, history in slips(rows, seed=0):
        assert history == rows[0].history
        for before, after in zip(rows[0].text.split(" "), text.split(" "), strict=True):
            if before not in ("please", "pack", "arrives", "broken"):
                assert after == before
            elif after != before:
                wrong.add(after)
                assert (after[0] == before[0] and after[-1] == before[-1]) or sorted(after) == sorted(before)
                assert abs(len(after) - len(before)) <= 1
    assert {"plrase", "plase", "brokken", "arrvies"} <= wrong
    changed = sum(text != rows[0].text for text, _ in slips(rows, seed=0)) / 400
    assert changed == pytest.approx(1 - (1 - SLIPS_A_WORD) ** 4, abs=0.08)
    assert slips(rows, seed=0) == slips(rows, seed=0) != slips(rows, seed=1)


def words(encoder: Encoder, text: str) -> tuple[int, ...]:
    return tuple(encoder.tokenise([(text, ())])[0][0][1:-1])


@pytest.mark.slow
def test_validation_rows_share_no_group_with_training_rows(tiny: Encoder, examples: list[Example]) -> None:
    fitted = fit_versions(examples, tiny, QUICK)
    rows = [*fitted.rows.train, *fitted.rows.held_out]
    groups = leak_groups(rows)
    assert not set(groups[: len(fitted.rows.train)]) & set(groups[len(fitted.rows.train) :])
    assert any(e.intent == OUT_OF_SCOPE for e in fitted.rows.held_out)

"""Reading a question: windows, parity of merged and unmerged adapters, saved-then-loaded, refusal of foreign files."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from finetune.calibrate import OutOfScope
from finetune.encoder import LINE_TOKENS, MAX_TOKENS, Encoder
from finetune.examples import OUT_OF_SCOPE, FinetuneError, Question
from finetune.memory import NOTHING, Memory, remembered
from finetune.model import STANDS_ALONE, Head, QuestionModel, changes, features, merged
from finetune.precedents import Precedents, precedents_from
from tests.finetune.conftest import VOCABULARY

QUESTIONS = [
    ("where is my order", ()),
    ("no", (("agent", "please cancel"), ("customer", "hello"))),
    ("", ()),
    ("refund", (("agent", ""),)),
]


def test_a_window_holds_the_last_lines_and_the_message(tiny: Encoder) -> None:
    lines = tuple(("agent", word) for word in ("refund", "card", "lost", "money"))
    last, window = tiny.tokenise([("where is", lines)])
    expected, _ = tiny.tokenise([("card lost money where is", ())])
    assert window == expected and len(last[0]) == 4


def test_long_lines_keep_their_start_and_long_windows_their_newest_tokens(tiny: Encoder) -> None:
    _, (window,) = tiny.tokenise([("card lost", (("agent", "refund " * 300), ("customer", "order")))])
    _, (expected,) = tiny.tokenise([("card lost", (("agent", "refund " * LINE_TOKENS), ("customer", "order")))])
    assert window == expected and len(window) == LINE_TOKENS + 5
    message = "card " * (MAX_TOKENS - 30)
    _, (full,) = tiny.tokenise([(message, (("agent", "refund " * 24), ("customer", "order " * 24)))])
    assert len(full) == MAX_TOKENS and full[1] == full[4] != full[5] == full[28] != full[29]
    (cut,), (same,) = tiny.tokenise([("card " + "lost " * 300, (("agent", "order"),))])
    assert cut is same and len(cut) == MAX_TOKENS and cut[1] != cut[2]


def test_without_history_both_vectors_are_the_same(tiny: Encoder) -> None:
    last, window = tiny.encode(tiny.frozen, QUESTIONS)
    assert np.array_equal(last[0], window[0]) and not np.allclose(last[1], window[1])
    assert last.dtype == np.float32 and last.shape == (4, tiny.dimension)
    assert np.allclose(np.linalg.norm(last, axis=1), 1, atol=1e-5)
    assert np.allclose(np.linalg.norm(features(last, window), axis=1), 1, atol=1e-5)


def test_pooling_is_the_mean_over_real_tokens_only(tiny: Encoder) -> None:
    import torch

    ids = tiny.tokenise([("where is my order", ())])[0][0]
    with torch.inference_mode():
        states = tiny.frozen(input_ids=torch.tensor([ids])).last_hidden_state[0].numpy()
    expected = states.mean(axis=0) / np.linalg.norm(states.mean(axis=0))
    together = tiny.vectors(tiny.frozen, [ids, ids + ids[1:], ids[:3]])
    assert np.allclose(together[0], expected, atol=1e-5)


def test_text_that_is_not_valid_unicode_is_read(tiny: Encoder) -> None:
    last, _ = tiny.encode(tiny.frozen, [("a\ud800b", (("customer", "\udfff"),)), ("x" * 100_000, ())])
    assert np.isfinite(last).all()


def test_a_model_made_from_its_files_reads_identically(
    tiny: Encoder, base_folder: Path, trained: QuestionModel
) -> None:
    again = QuestionModel(type(tiny)(base_folder), trained.head.labels, trained.files, trained.search_vectors)
    one, two = trained.read(QUESTIONS), again.read(QUESTIONS)
    for name in ("probabilities", "out_of_scope", "last", "window"):
        assert np.array_equal(getattr(one, name), getattr(two, name)), name
    assert one.labels == two.labels == ("cancel", "lost_card", "refund")
    assert np.allclose(one.probabilities.sum(axis=1), 1)
    assert ((one.out_of_scope >= 0) & (one.out_of_scope <= 1)).all()


def test_merging_by_hand_equals_peft(tiny: Encoder, trained: QuestionModel, tmp_path: Path) -> None:
    """The independent answer: peft loads the adapter folder itself, unmerged and merged."""
    from peft import PeftModel

    files = trained.files
    ours = tiny.encode(
        merged(tiny, changes(files["adapter_model.safetensors"], files["adapter_config.json"])), QUESTIONS
    )[1]
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        (tmp_path / name).write_bytes(files[name])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        theirs = PeftModel.from_pretrained(tiny.module(), str(tmp_path)).eval()
        unmerged = tiny.encode(theirs, QUESTIONS)[1]
        joined = tiny.encode(theirs.merge_and_unload(), QUESTIONS)[1]
    assert np.allclose(ours, unmerged, atol=1e-5) and np.allclose(ours, joined, atol=1e-5)
    assert not np.allclose(ours, tiny.encode(tiny.frozen, QUESTIONS)[1], atol=1e-2), "the adapter does something"


def test_frozen_search_vectors_leave_the_reading_alone(tiny: Encoder, trained: QuestionModel) -> None:
    adapted, frozen = (QuestionModel(tiny, trained.head.labels, trained.files, s) for s in ("adapted", "frozen"))
    ours, theirs = adapted.read(QUESTIONS), frozen.read(QUESTIONS)
    assert np.array_equal(ours.probabilities, theirs.probabilities)
    assert np.array_equal(theirs.window, tiny.encode(tiny.frozen, QUESTIONS)[1])
    assert not np.allclose(ours.window, theirs.window, atol=1e-2)


def test_an_empty_batch_is_no_error(tiny: Encoder, trained: QuestionModel) -> None:
    read = trained.read([])
    assert read.probabilities.shape == (0, 3) and read.last.shape == (0, tiny.dimension)


def test_the_out_of_scope_class_is_never_an_answer_but_counts_in_the_score() -> None:
    rows = np.eye(3, dtype=np.float32)
    weight = np.array([[0, 0, 9], [5, 0, 0], [0, 5, 0]], np.float32)
    scope = OutOfScope((0.0,) * 4, (1.0,) * 4, (0.0, 0.0, 0.0, 1.0), 0.0)
    head = Head((OUT_OF_SCOPE, "a", "b"), weight, np.zeros(3, np.float32), scope=scope)
    assert head.intents == ("a", "b") and head.probabilities(rows).shape == (3, 2)
    assert head.out_of_scope(rows).argmax() == 2
    plain = replace(head, labels=("c", "a", "b"))
    assert (plain.signals(rows)[:, 3] == 0).all()


def test_questions_answered_otherwise_take_their_share_of_the_probability() -> None:
    rows = np.eye(3, dtype=np.float32)
    weight = np.array([[0, 0, 9], [0, 5, 0], [5, 0, 0]], np.float32)
    head = Head((OUT_OF_SCOPE, "*care.md", "a"), weight, np.zeros(3, np.float32))
    assert head.intents == ("a",) and head.inside == ("a", "*care.md")
    odds = np.exp([5.0, 0.0])
    assert head.probabilities(rows)[:, 0] == pytest.approx([odds[0] / odds.sum(), odds[1] / odds.sum(), 0.5])
    assert head.signals(rows)[:, 0].tolist() == [5, 5, 0], "what an article answers is in scope"


def test_letters_count_by_their_share_and_never_as_nearness() -> None:
    rows = np.eye(3, dtype=np.float32)
    weight = np.array([[0, 0, 9], [5, 0, 0], [0, 5, 0]], np.float32)
    head = Head((OUT_OF_SCOPE, "a", "b"), weight, np.zeros(3, np.float32), Memory(rows, alike=False), shares=(0.5,))
    said = np.log(np.array([[0.2, 0.2, 0.6]] * 3, np.float32))
    inside, outside = head.logits(np.hstack([rows, said]))
    assert inside == pytest.approx(rows @ weight[1:].T + 0.5 * said[:, 1:])
    assert outside == pytest.approx(rows @ weight[0] + 0.5 * said[:, 0])
    alone = replace(head, shares=())
    assert np.array_equal(alone.logits(np.hstack([rows, said]))[0], alone.logits(rows)[0])
    assert np.array_equal(head.signals(np.hstack([rows, said]))[:, 2], head.signals(rows)[:, 2])
    stored = replace(head, weight=np.tile(weight, 2), memory=remembered(np.tile(rows, 2)), strangers=NOTHING)
    assert Head.from_bytes(stored.to_bytes(), head.labels, 3).shares == (0.5,)


def test_a_message_that_stands_alone_is_spelt_alone_too(tiny: Encoder, trained: QuestionModel) -> None:
    """Letters of a conversation that the reader leaves aside must not count."""
    history = (("customer", "my card is lost"), ("agent", "which card"))
    files = {**trained.files, "precedents.safetensors": alone_known(tiny, trained, "where is my refund")}
    model = QuestionModel(tiny, trained.head.labels, files, trained.search_vectors)
    with_history, alone = model.read([("where is my refund", history)]), model.read([("where is my refund", ())])
    assert with_history.probabilities == pytest.approx(alone.probabilities, abs=1e-5)


def alone_known(tiny: Encoder, trained: QuestionModel, text: str) -> bytes:
    """Precedents that know the message by itself, and nothing like its conversation."""
    _, window = tiny.encode(trained.adapted, [(text, ())])
    return Precedents(window, window).to_bytes()


def test_pooling_by_length_is_pooling(tiny: Encoder) -> None:
    import torch

    words = VOCABULARY.split()
    texts = [" ".join(words[: 1 + 7 * n % 23]) for n in range(50)]
    last, _ = tiny.tokenise([(text, ()) for text in texts])
    with torch.inference_mode():
        together = tiny.pooled_by_length(tiny.frozen, last)
        alone = torch.cat([tiny.pooled(tiny.frozen, [ids]) for ids in last])
    assert torch.allclose(together, alone, atol=1e-5)


def test_what_is_expected_of_a_question_goes_with_its_reading(tiny: Encoder, trained: QuestionModel) -> None:
    windows = tiny.encode(trained.adapted, QUESTIONS)[1]
    found = np.roll(windows, 1, axis=1)
    stored = Precedents(windows, found).to_bytes()
    files = {**trained.files, "precedents.safetensors": stored}
    knows = QuestionModel(tiny, trained.head.labels, files, "adapted").read(QUESTIONS)
    assert np.allclose(knows.expected, precedents_from(stored, tiny.dimension).expected(windows), atol=1e-4)
    assert not trained.read(QUESTIONS).expected.any(), "no row of the training set had an answer"


def test_a_question_known_by_itself_is_read_without_what_was_said_before(tiny: Encoder, trained: QuestionModel) -> None:
    """A past question asked first, and one that leans on its history; each is met again in that history."""
    history = (("customer", "where is my broken parcel " * 3), ("agent", "it does arrive late today " * 3))
    opening, leaning = ("cancel subscription", ()), ("yes", history)

    def knowing(question: Question) -> QuestionModel:
        windows = tiny.encode(trained.adapted, [question])[1]
        stored = Precedents(windows, np.eye(1, tiny.dimension, dtype=np.float32)).to_bytes()
        files = {**trained.files, "precedents.safetensors": stored}
        return QuestionModel(tiny, trained.head.labels, files, "adapted")

    read = knowing(opening).read([("cancel subscription", history), opening])
    assert np.allclose(read.expected[0], read.expected[1], atol=1e-4)
    assert np.allclose(read.window[0], read.window[1], atol=1e-5)
    assert np.allclose(read.probabilities[0], read.probabilities[1], atol=1e-4)
    read = knowing(leaning).read([leaning, ("yes", ())])
    assert read.expected[0, 0] == pytest.approx(1, abs=1e-3)
    assert read.expected[1, 0] < 1 - STANDS_ALONE, "known by its conversation only"
    assert not np.allclose(read.window[0], read.window[1], atol=1e-2), "it is read in its conversation"


def test_the_third_signal_is_nearness_to_what_was_taught_less_that_to_strangers() -> None:
    random = np.random.default_rng(0)
    memory, strangers, rows = (random.normal(size=(n, 6)).astype(np.float32) for n in (40, 9, 7))
    head = Head(("a", "b"), np.zeros((2, 6), np.float32), np.zeros(2, np.float32), remembered(memory))
    assert np.array_equal(head.signals(rows)[:, 2], head.memory.nearness(rows))
    both = replace(head, strangers=remembered(strangers))
    assert np.array_equal(both.signals(rows)[:, 2], head.memory.nearness(rows) - both.strangers.nearness(rows))


def test_a_head_survives_its_bytes() -> None:
    random = np.random.default_rng(1)
    head = Head(
        ("a", "b"),
        random.normal(size=(2, 8)).astype(np.float32),
        random.normal(size=2).astype(np.float32),
        remembered(random.normal(size=(3, 8)).astype(np.float32)),
        remembered(np.tile(random.normal(size=(2, 4)).astype(np.float32), 2)),
        0.7,
        OutOfScope((1.0, 2.0, 3.0, 4.0), (1.0,) * 4, (0.1, 0.2, 0.3, 0.4), -1.5),
    )
    again = Head.from_bytes(head.to_bytes(), ("a", "b"), 4)
    rows = random.normal(size=(5, 8)).astype(np.float32)
    assert np.array_equal(again.probabilities(rows), head.probabilities(rows))
    assert np.array_equal(again.out_of_scope(rows), head.out_of_scope(rows))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("head.safetensors", b"\x80\x04."),
        ("head.safetensors", b""),
        ("adapter_model.safetensors", b"junk"),
        ("adapter_config.json", b"{}"),
        ("adapter_config.json", b'{"r": 0, "lora_alpha": 1}'),
        ("adapter_config.json", b"\xff"),
    ],
)
def test_files_that_are_no_model_are_refused(tiny: Encoder, trained: QuestionModel, name: str, content: bytes) -> None:
    with pytest.raises(FinetuneError, match=r"safetensors"):
        QuestionModel(tiny, trained.head.labels, {**trained.files, name: content}, "adapted")


def test_a_head_for_other_labels_is_refused(tiny: Encoder, trained: QuestionModel) -> None:
    with pytest.raises(FinetuneError, match="shaped for another model"):
        QuestionModel(tiny, trained.head.labels[:2], trained.files, "adapted")


def test_a_folder_that_is_no_base_model_is_refused(tmp_path: Path, base_folder: Path) -> None:
    with pytest.raises(FinetuneError, match="has no config"):
        Encoder(tmp_path)
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes((base_folder / name).read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"junk")
    with pytest.raises(FinetuneError, match="not a usable base model"):
        _ = Encoder(tmp_path).frozen
    (tmp_path / "tokenizer.json").write_text(json.dumps({"version": "1.0"}))
    with pytest.raises(FinetuneError):
        Encoder(tmp_path)

"""The same promises on the 22M encoder and the sample company's messages."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from finetune.encoder import Encoder
from finetune.evaluate import measure
from finetune.examples import read_examples
from finetune.model import QuestionModel
from finetune.recipe import TrainConfig
from finetune.registry import MODEL_FILES, Registry
from finetune.release import train_and_register
from retriever.encoders import FrozenEncoder, weights_folder
from retriever.passages import Line, Query

pytestmark = pytest.mark.slow

MESSAGES = Path(__file__).parents[2] / "data" / "messages.jsonl"
SHORT = (Line("customer", "I bought a tent last week"), Line("agent", "Thanks! How can I help?"))


def test_frozen_question_vectors_live_in_the_passage_space(encoder: FrozenEncoder) -> None:
    """Two packages encode with the same weights and never import each other: their vectors must agree."""
    asked = [("where is my order?", ()), ("is it waterproof?", SHORT), ("x" * 3000, ())]
    ours = Encoder(weights_folder())
    last, window = ours.encode(ours.frozen, asked[:2])
    theirs = encoder.encode_queries([Query(text, tuple(history)) for text, history in asked[:2]])
    assert np.allclose((last * theirs[0]).sum(axis=1), 1, atol=1e-3)
    assert np.allclose((window * theirs[1]).sum(axis=1), 1, atol=1e-3)


def test_the_sample_company_trains_saves_and_loads_to_identical_readings(tmp_path: Path) -> None:
    # The default encoder reads English only; the bot keeps Chinese from it (see bot.conversation.phrases).
    rows = [e for e in read_examples(MESSAGES).examples if e.text.isascii()][::2]
    config = replace(TrainConfig(), epochs=1, least_steps=1, threads=1)
    registry = Registry(tmp_path)
    learnt = train_and_register(rows, weights_folder(), registry, config)
    assert learnt.baseline_scores.accuracy > 0.7 and learnt.lora_scores.accuracy > 0.65
    assert (learnt.baseline_scores.auroc or 0) > 0.8
    encoder = Encoder(weights_folder())
    model = QuestionModel.of(encoder, registry.folder(learnt.lora.version))
    again = QuestionModel.load(registry.folder(learnt.lora.version), weights_folder())
    asked = [(e.text, SHORT if i % 2 else ()) for i, e in enumerate(rows[:40])]
    one, two = model.read(asked), again.read(asked)
    for name in ("probabilities", "out_of_scope", "last", "window"):
        assert np.array_equal(getattr(one, name), getattr(two, name)), name
    held = measure(model, rows[:200])
    assert held.accuracy > 0.75 and held.calibration_error < 0.25
    size = sum(stored.bytes for name, stored in learnt.lora.files.items() if name in MODEL_FILES)
    assert learnt.lora.metrics["adapter_bytes"] == size < 5_000_000


def test_one_short_message_is_read_in_milliseconds(tmp_path: Path) -> None:
    """Far above what it takes, so that a busy machine does not fail; an extra pass or a slow tokenizer would."""
    import torch

    rows = list(read_examples(MESSAGES).examples)[:300]
    from finetune.baseline import fit_baseline
    from finetune.model import features
    from finetune.train import questions

    encoder = Encoder(weights_folder())
    head = fit_baseline(
        features(*encoder.encode(encoder.frozen, questions(rows))), [e.intent or "" for e in rows], seed=0
    )
    model = QuestionModel(encoder, head.labels, {"head.safetensors": head.to_bytes()}, "frozen")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    times = []
    for _ in range(30):
        start = time.perf_counter()
        model.read([("where is my order?", ())])
        times.append(time.perf_counter() - start)
    torch.set_num_threads(threads)
    assert min(times) < 0.1

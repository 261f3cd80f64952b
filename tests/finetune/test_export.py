"""The exported graph against the model it was made from: the same vectors, alone or in company, or no graph at all."""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from finetune.encoder import MAX_TOKENS, Encoder
from finetune.examples import OUT_OF_SCOPE, Example, FinetuneError
from finetune.export import GRAPH, LARGE, Exported, export
from finetune.model import QuestionModel, merged
from finetune.outcomes import read_outcomes
from finetune.quantise import (
    QUANTISED,
    SMOOTHING,
    eight_bits,
    factors_from,
    fast_here,
    quantised,
    smoothing,
    to_bytes,
)
from finetune.recipe import TrainConfig
from finetune.release import reads_alike, right_on_average, what_is_lost
from finetune.train import fit_versions
from tests.finetune.conftest import labelled_rows
from tests.finetune.saving import altered

QUESTIONS = [
    ("refund", ()),
    ("where is my order please " * 40, ()),
    ("cancel it", (("customer", "my parcel is late"), ("agent", "which order is it"))),
    ("", ()),
]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def graph(tiny: Encoder, trained: QuestionModel) -> bytes:
    return export(tiny.traceable(trained.adapted), MAX_TOKENS, tiny.weights())  # type: ignore[arg-type]


def test_the_graph_gives_the_vectors_of_the_model_whatever_the_length(
    tiny: Encoder, trained: QuestionModel, graph: bytes
) -> None:
    served = QuestionModel(tiny, trained.head.labels, {**trained.files, GRAPH: graph}, trained.search_vectors)
    for ours, theirs in zip(
        tiny.encode(served.adapted, QUESTIONS), tiny.encode(trained.adapted, QUESTIONS), strict=True
    ):
        assert np.allclose(ours, theirs, atol=1e-5)
    frozen = {name: content for name, content in trained.files.items() if not name.startswith("adapter")}
    baseline = QuestionModel(tiny, trained.head.labels, {**frozen, GRAPH: graph}, "frozen")
    assert np.allclose(tiny.encode(baseline.adapted, QUESTIONS)[1], tiny.encode(tiny.frozen, QUESTIONS)[1], atol=1e-5)


def test_no_questions_are_no_vectors(tiny: Encoder, trained: QuestionModel, graph: bytes) -> None:
    served = QuestionModel(tiny, trained.head.labels, {**trained.files, GRAPH: graph}, trained.search_vectors)
    assert isinstance(served.adapted, Exported)
    assert served.adapted.pooled([]).shape == (0, tiny.dimension)
    assert reads_alike(served, merged(tiny, trained.adapter()), ())


def test_the_graph_holds_none_of_the_large_weights(tiny: Encoder, graph: bytes) -> None:
    assert len(graph) < 4 * sum(t.size for t in tiny.weights().values() if t.size >= LARGE)
    with pytest.raises(FinetuneError, match="the base has no weights called"):
        export(tiny.traceable(tiny.frozen), MAX_TOKENS, {"something.else"})


def test_a_version_with_a_graph_reads_as_the_one_without(tiny: Encoder, trained: QuestionModel, graph: bytes) -> None:
    labels = trained.head.labels
    served = QuestionModel(tiny, labels, {**trained.files, GRAPH: graph}, trained.search_vectors)
    assert isinstance(served.adapted, Exported)
    ours, theirs = served.read(QUESTIONS), trained.read(QUESTIONS)
    assert np.allclose(ours.probabilities, theirs.probabilities, atol=1e-4)
    assert np.allclose(ours.out_of_scope, theirs.out_of_scope, atol=1e-4)


def test_what_reads_a_second_time_without_the_adapter_is_exported_too(tiny: Encoder, graph: bytes) -> None:
    """Of few rows the head reads frozen vectors beside the adapted ones."""
    config = TrainConfig(least_steps=6, epochs=1, threads=1, batch_of_few=16)
    model = fit_versions(labelled_rows(), tiny, config).lora.model
    assert model.head.weight.shape[1] == 4 * tiny.dimension
    served = QuestionModel(tiny, model.head.labels, {**model.files, GRAPH: graph}, model.search_vectors)
    ours, theirs = served.read(QUESTIONS), model.read(QUESTIONS)
    assert np.allclose(ours.probabilities, theirs.probabilities, atol=1e-4)
    assert np.allclose(ours.window, theirs.window, atol=1e-4)
    half = 2 * tiny.dimension
    turned = replace(model.head, weight=model.head.weight * np.where(np.arange(2 * half) < half, 1, -100))
    files = {**model.files, "head.safetensors": replace(turned, weight=turned.weight.astype(np.float32)).to_bytes()}
    other = QuestionModel(tiny, model.head.labels, files, model.search_vectors).read(QUESTIONS)
    assert (other.probabilities.argmax(1) != theirs.probabilities.argmax(1)).any(), "both are read"


def test_an_exported_version_is_read_without_torch(
    base_folder: Path, tiny: Encoder, trained: QuestionModel, graph: bytes, tmp_path: Path
) -> None:
    files = {**trained.files, GRAPH: graph}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    program = f"""
import sys
from pathlib import Path
from finetune.encoder import MAX_TOKENS, Encoder
from finetune.model import QuestionModel, merged
files = {{name: Path({str(tmp_path)!r}, name).read_bytes() for name in {sorted(files)!r}}}
model = QuestionModel(Encoder(Path({str(base_folder)!r})), {trained.head.labels!r}, files, "adapted")
loaded = {{"torch", "transformers", "peft"}} & set(sys.modules)
print(model.read([("refund", ())]).probabilities.tolist(), sorted(loaded))
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    probabilities, loaded = ast.literal_eval(said.replace("] [", "], ["))
    assert loaded == []
    assert np.allclose(probabilities, trained.read([("refund", ())]).probabilities, atol=1e-4)


def test_a_graph_of_other_weights_does_not_read_alike(tiny: Encoder, trained: QuestionModel, graph: bytes) -> None:
    """The planted fault: a graph without the adapter, also in a version that searches with frozen vectors."""
    rows = [Example(text, None, history) for text, history in QUESTIONS]
    labels, frozen = trained.head.labels, {n: c for n, c in trained.files.items() if not n.startswith("adapter")}
    for space in ("adapted", "frozen"):
        exact = merged(tiny, trained.adapter())
        assert reads_alike(QuestionModel(tiny, labels, {**trained.files, GRAPH: graph}, space), exact, rows)
        assert not reads_alike(QuestionModel(tiny, labels, {**frozen, GRAPH: graph}, space), exact, rows)


def test_eight_bits_are_nearly_the_vectors_and_no_more_than_rounding_of_them(
    tiny: Encoder, trained: QuestionModel, graph: bytes
) -> None:
    """Against NumPy: a weight rounded by output, taken back, is the weight to half a step of its own row."""
    form = QuestionModel(tiny, trained.head.labels, {**trained.files, GRAPH: graph}, "adapted")
    weights = form.weights()
    factors = smoothing(graph, weights, tiny.tokenise([(e.text, e.history) for e in labelled_rows()])[0])
    assert {name for name in factors if ".layer.0." in name and "attention" in name} == {
        f"encoder.layer.0.attention.{part}.weight" for part in ("self.query", "self.key", "self.value", "output.dense")
    }
    outside = eight_bits(weights, factors)
    for name, factor in factors.items():
        whole, scale = outside[name + ".int8"].T.astype(np.float32), outside[name + ".scale"]
        assert np.abs(whole).max(axis=1).min() == 127, "every row uses all of its range"
        back = whole * scale[:, None] * outside[name + ".factor"]
        assert np.all(np.abs(back - weights[name]) <= 0.501 * scale[:, None] / factor)
    eight = Exported(quantised(graph, factors), weights, outside)
    ours, theirs = (tiny.encode(m, QUESTIONS)[1] for m in (eight, form.adapted))
    likeness = (ours * theirs).sum(axis=1)
    assert likeness.min() > 0.99 and likeness.max() < 1 - 1e-7, "nearly, and not in float32 after all"


def test_factors_move_what_is_large_in_the_inputs_into_the_weights(tiny: Encoder, graph: bytes) -> None:
    """One input column made forty times as large, its weights as much smaller: the same model, rounded as well."""
    weights = tiny.weights()
    name = "encoder.layer.0.intermediate.dense.weight"
    norm = "encoder.layer.0.attention.output.LayerNorm."
    assert name in weights and norm + "weight" in weights
    sequences = tiny.tokenise([(e.text, e.history) for e in labelled_rows()])[0]
    plain = smoothing(graph, weights, sequences)
    assert np.ptp(np.log(plain[name])) > 0
    hard = dict(weights)
    hard[name] = weights[name] * np.where(np.arange(weights[name].shape[1]) == 3, 0.025, 1).astype(np.float32)
    column = smoothing(graph, hard, sequences)[name] / plain[name]
    assert column.argmax() == 3, "smaller weights give more room to the input"


def test_what_eight_bits_spoil_is_served_in_float32(tiny: Encoder, trained: QuestionModel, graph: bytes) -> None:
    """The planted fault: factors that round everything away."""
    form = QuestionModel(tiny, trained.head.labels, {**trained.files, GRAPH: graph}, "adapted")
    rows = labelled_rows()
    factors = smoothing(graph, form.weights(), tiny.tokenise([(e.text, e.history) for e in rows])[0])
    spoilt = {name: np.where(np.arange(len(f)) == 0, f * 1e6, f).astype(np.float32) for name, f in factors.items()}
    told = {}
    for kind, chosen in {"good": factors, "spoilt": spoilt}.items():
        files = {**form.files, QUANTISED: quantised(graph, chosen), SMOOTHING: to_bytes(chosen)}
        eight = QuestionModel(tiny, form.head.labels, files, "adapted")
        assert eight.in_eight_bits == fast_here()
        told[kind] = what_is_lost(eight, form, rows)
    assert told["good"] is None
    assert not fast_here() or (told["spoilt"] or "").startswith("in eight bits")


def test_what_is_lost_is_told_by_chances_and_not_by_near_ties(trained: QuestionModel) -> None:
    rows = [e for e in labelled_rows() if e.intent is not None]
    read = trained.read([(e.text, e.history) for e in rows])
    said = [read.labels[best] for best in read.probabilities.argmax(axis=1)]
    right = [replace(e, intent=intent) for e, intent in zip(rows, said, strict=True)]
    outside = [replace(e, intent=OUT_OF_SCOPE) for e in rows]
    assert right_on_average(trained, right) == pytest.approx(read.probabilities.max(axis=1).sum())
    assert right_on_average(trained, outside) == pytest.approx(read.out_of_scope.sum())
    assert right_on_average(trained, [replace(rows[0], intent="never seen")]) == 0

    unsure = altered(trained, temperature=20 * trained.head.temperature)
    assert read_outcomes(unsure, right).right.all(), "counted, nothing is lost"
    assert (what_is_lost(unsure, trained, right) or "").startswith("in eight bits")
    assert what_is_lost(trained, unsure, right) is None, "a gain is no loss"


@pytest.mark.parametrize("content", [b"", b"not factors"])
def test_bytes_that_are_no_factors_are_refused_with_the_cure(content: bytes) -> None:
    with pytest.raises(FinetuneError, match=r"smoothing\.safetensors: not of this program .*train again"):
        factors_from(content)


def test_factors_of_another_base_are_refused(tiny: Encoder) -> None:
    for wrong in ({"nothing.weight": np.ones(32, np.float32)}, {next(iter(tiny.weights())): np.ones(3, np.float32)}):
        with pytest.raises(FinetuneError, match="does not fit this base"):
            eight_bits(tiny.weights(), wrong)


@pytest.mark.parametrize("content", [b"", b"not a graph", b"\x08\x0a"])
def test_bytes_that_are_no_graph_are_refused_with_the_cure(content: bytes) -> None:
    with pytest.raises(FinetuneError, match=r"question\.onnx: not a graph for this base .*train again"):
        Exported(content, {})

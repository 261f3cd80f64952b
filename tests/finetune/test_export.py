"""The exported graph against the model it was made from: the same vectors, alone or in company, or no graph at all."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from finetune.encoder import Encoder
from finetune.examples import FinetuneError
from finetune.export import GRAPH, Exported, export
from finetune.model import QuestionModel

QUESTIONS = [
    ("refund", ()),
    ("where is my order please " * 40, ()),
    ("cancel it", (("customer", "my parcel is late"), ("agent", "which order is it"))),
    ("", ()),
]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def float32(tiny: Encoder, trained: QuestionModel) -> bytes:
    return export(tiny.traceable(trained.adapted), 128, "float32")  # type: ignore[arg-type]


def test_the_graph_gives_the_vectors_of_the_model_whatever_the_length(
    tiny: Encoder, trained: QuestionModel, float32: bytes
) -> None:
    graph = Exported(float32)
    for ours, theirs in zip(tiny.encode(graph, QUESTIONS), tiny.encode(trained.adapted, QUESTIONS), strict=True):
        assert np.allclose(ours, theirs, atol=1e-5)


def test_int8_is_near_and_reads_a_question_alike_in_any_company(tiny: Encoder, trained: QuestionModel) -> None:
    graph = Exported(export(tiny.traceable(trained.adapted), 128, "int8"))  # type: ignore[arg-type]
    together = tiny.encode(graph, QUESTIONS)[1]
    theirs = tiny.encode(trained.adapted, QUESTIONS)[1]
    assert 0.9 < (together * theirs).sum(axis=1).min() < 1 - 1e-6, "near, and int8 indeed"
    for row, question in enumerate(QUESTIONS):
        assert np.array_equal(tiny.encode(graph, [question])[1][0], together[row])


def test_a_version_with_a_graph_reads_as_the_one_without(tiny: Encoder, trained: QuestionModel, float32: bytes) -> None:
    labels = trained.head.labels
    served = QuestionModel(tiny, labels, {**trained.files, GRAPH: float32}, trained.search_vectors)
    assert isinstance(served.adapted, Exported)
    ours, theirs = served.read(QUESTIONS), trained.read(QUESTIONS)
    assert np.allclose(ours.probabilities, theirs.probabilities, atol=1e-4)
    assert np.allclose(ours.out_of_scope, theirs.out_of_scope, atol=1e-4)
    assert served.adapter_bytes == trained.adapter_bytes, "the graph is the base once more, not what was learnt"


def test_an_exported_version_is_read_without_torch(
    base_folder: Path, tiny: Encoder, trained: QuestionModel, float32: bytes, tmp_path: Path
) -> None:
    files = {**trained.files, GRAPH: float32}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    program = f"""
import sys
from pathlib import Path
from finetune.encoder import Encoder
from finetune.model import QuestionModel
files = {{name: Path({str(tmp_path)!r}, name).read_bytes() for name in {sorted(files)!r}}}
model = QuestionModel(Encoder(Path({str(base_folder)!r})), {trained.head.labels!r}, files, "adapted")
loaded = {{"torch", "transformers", "peft"}} & set(sys.modules)
print(model.read([("refund", ())]).probabilities.tolist(), sorted(loaded))
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    probabilities, loaded = ast.literal_eval(said.replace("] [", "], ["))
    assert loaded == []
    assert np.allclose(probabilities, trained.read([("refund", ())]).probabilities, atol=1e-4)


@pytest.mark.parametrize("content", [b"", b"not a graph", b"\x08\x0a"])
def test_bytes_that_are_no_graph_are_refused_with_the_cure(content: bytes) -> None:
    with pytest.raises(FinetuneError, match=r"question\.onnx: not a graph of this program .*train again"):
        Exported(content)

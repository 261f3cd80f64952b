"""The question side in the form that a CPU serves fastest: one ONNX graph, the adapter merged, int8 where that holds.

Owns how the form is made and run. Knows nothing about heads or versions, nor how it is judged: `finetune/evaluate`
compares it with the original before it goes live.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from finetune.calibrate import Floats
from finetune.examples import FinetuneError

if TYPE_CHECKING:
    import torch

GRAPH = "question.onnx"
"""The name of the graph among the files of a version."""
Precision = Literal["int8", "float32"]
PRECISIONS: tuple[Precision, ...] = ("int8", "float32")
"""Fastest first. One short message on one core without VNNI: torch 13 ms, float32 6 ms, int8 3.2 ms."""


class Exported:
    """A graph in memory: token ids to pooled unit vectors, as `Encoder.pooled` does.

    Sequences are run one by one: an int8 graph scales by what is in the batch, so that a question would be read a
    little differently in other company. Raises FinetuneError on bytes that are no such graph.
    """

    def __init__(self, content: bytes) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        # Concurrent questions share the cores; more threads for one short message gain nothing.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises a dozen kinds
            raise FinetuneError(f"{GRAPH}: not a graph of this program ({error!s:.200}); train again") from error

    def pooled(self, sequences: Sequence[Sequence[int]]) -> Floats:
        """Float32 unit vectors `[n, d]` of n token id sequences."""
        rows = [self._session.run(None, {"ids": np.array([ids], np.int64)})[0][0] for ids in sequences]
        return np.stack(rows).astype(np.float32)


def export(traceable: torch.nn.Module, longest: int, precision: Precision) -> bytes:
    """The graph of `Encoder.traceable`, for up to `longest` tokens; int8 is dynamic, weights per channel."""
    import onnx
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic

    length = torch.export.Dim("length", min=2, max=longest)
    with _quiet(), tempfile.TemporaryDirectory() as folder:
        program = torch.onnx.export(
            traceable,
            (torch.ones((1, 16), dtype=torch.long),),
            input_names=["ids"],
            output_names=["vector"],
            dynamo=True,
            dynamic_shapes={"ids": {1: length}},
            verbose=False,
        )
        assert program is not None
        graph = program.model_proto
        if precision == "float32":
            return bytes(graph.SerializeToString())
        whole, small = Path(folder) / "whole.onnx", Path(folder) / "small.onnx"
        onnx.save(graph, whole)
        quantize_dynamic(whole, small, per_channel=True, weight_type=QuantType.QInt8)
        return small.read_bytes()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter and the quantiser speak of their own affairs, on every channel there is."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)

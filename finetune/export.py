"""The question side in the form that a CPU serves fastest and without torch: an ONNX graph over the base's own weights.

Owns how the graph is made and run. It holds no large weights: those of the base, the adapter added, come in as NumPy
arrays when it is loaded. Knows nothing about heads or versions.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from finetune.calibrate import Floats
from finetune.examples import FinetuneError

if TYPE_CHECKING:
    import torch

GRAPH = "question.onnx"
"""The name of the graph among the files of a version."""
INSIDE = "module."
"""What the names of the base's weights begin with in the graph."""
LARGE = 1024
"""Elements from which a tensor is a weight that is left out of the graph."""


class Exported:
    """A graph with its weights: token ids to pooled unit vectors, as `Encoder.pooled` does.

    `weights` are those of the base by name, the adapter added. Raises FinetuneError on bytes that are no such graph.
    """

    def __init__(self, content: bytes, weights: Mapping[str, Floats]) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        # Concurrent questions share the cores; more threads for one short message gain nothing.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        large = {INSIDE + name: tensor for name, tensor in weights.items() if tensor.size >= LARGE}
        # A base may have weights that the graph does not use, and onnxruntime takes no others than it knows.
        large = {name: tensor for name, tensor in large.items() if name.encode() in content}
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(t)) for t in large.values()]
        try:
            options.add_external_initializers(list(large), values)
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises a dozen kinds
            raise FinetuneError(f"{GRAPH}: not a graph for this base ({error!s:.200}); train again") from error

    def pooled(self, sequences: Sequence[Sequence[int]]) -> Floats:
        """Float32 unit vectors `[n, d]` of n token id sequences, run one by one: without padding that is as fast."""
        rows = [self._session.run(None, {"ids": np.array([ids], np.int64)})[0][0] for ids in sequences]
        return np.stack(rows).astype(np.float32)


def export(traceable: torch.nn.Module, longest: int, weights: Collection[str]) -> bytes:
    """The graph of `Encoder.traceable` for up to `longest` tokens, without those of `weights` that are large.

    Raises FinetuneError when a large tensor is none of them: the base would not be enough to run the graph.
    """
    import onnx
    import torch

    length = torch.export.Dim("length", min=2, max=longest)
    with _quiet():
        program = torch.onnx.export(
            traceable,
            (torch.ones((1, 16), dtype=torch.long),),
            input_names=["ids"],
            output_names=["vector"],
            dynamo=True,
            dynamic_shapes={"ids": {1: length}},
            # Optimising would fold weights into others of no name; onnxruntime optimises when it loads the graph.
            optimize=False,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    used = {name for node in model.graph.node for name in node.input}
    for tensor in list(model.graph.initializer):
        if tensor.name not in used:
            model.graph.initializer.remove(tensor)
    for tensor in model.graph.initializer:
        if int(np.prod(tensor.dims)) < LARGE or tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        if tensor.name.removeprefix(INSIDE) not in weights:
            raise FinetuneError(
                f"the base has no weights called {tensor.name.removeprefix(INSIDE)}; it is not exported"
            )
        size = 4 * int(np.prod(tensor.dims))
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        del tensor.external_data[:]
        for key, value in (("location", "weights"), ("offset", "0"), ("length", f"{size}")):
            tensor.external_data.add(key=key, value=value)
    # Where in the source each came from, and shapes that onnxruntime finds by itself.
    del model.graph.value_info[:], model.graph.metadata_props[:], model.metadata_props[:]
    for node in model.graph.node:
        del node.metadata_props[:]
    return bytes(model.SerializeToString())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter speaks of its own affairs, on every channel there is."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)

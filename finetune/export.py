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
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from finetune.calibrate import Floats
from finetune.examples import FinetuneError

if TYPE_CHECKING:
    import onnx
    import torch

GRAPH = "question.onnx"
"""The name of the graph among the files of a version."""
INSIDE = "module."
"""What the names of the base's weights begin with in the graph."""
LARGE = 1024
"""Elements from which a tensor is a weight that is left out of the graph."""


class Exported:
    """A graph with its weights: token ids to pooled unit vectors, as `Encoder.pooled` does.

    `weights` are those of the base by name, the adapter added; `beside` what else the graph asks for from outside.
    Raises FinetuneError on bytes that are no such graph.
    """

    def __init__(
        self, content: bytes, weights: Mapping[str, Floats], beside: Mapping[str, NDArray[Any]] | None = None
    ) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        # Concurrent questions share the cores; more threads for one short message gain nothing.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        large = {name: tensor for name, tensor in weights.items() if tensor.size >= LARGE} | dict(beside or {})
        # A base may have weights that the graph does not use, and onnxruntime takes no others than it knows.
        large = {INSIDE + name: tensor for name, tensor in large.items() if _field(INSIDE + name) in content}
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(t)) for t in large.values()]
        try:
            options.add_external_initializers(list(large), values)
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises a dozen kinds
            raise FinetuneError(f"{GRAPH}: not a graph for this base ({error!s:.200}); train again") from error

    def pooled(self, sequences: Sequence[Sequence[int]]) -> Floats:
        """Float32 unit vectors `[n, d]` of n token id sequences, run one by one: without padding that is as fast."""
        if not len(sequences):
            return np.zeros((0, self._session.get_outputs()[0].shape[-1]), np.float32)
        return np.stack([self.outputs(ids)[0][0] for ids in sequences]).astype(np.float32)

    def outputs(self, ids: Sequence[int]) -> list[Floats]:
        """Everything that the graph gives for one sequence."""
        return list(self._session.run(None, {"ids": np.array([ids], np.int64)}))


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
        tensor.CopyFrom(external(tensor.name, tensor.data_type, tensor.dims))
    # Where in the source each came from, and shapes that onnxruntime finds by itself.
    del model.graph.value_info[:], model.graph.metadata_props[:], model.metadata_props[:]
    for node in model.graph.node:
        del node.metadata_props[:]
    return bytes(model.SerializeToString())


def external(name: str, kind: int, shape: Sequence[int]) -> onnx.TensorProto:
    """A tensor that says its name and shape alone; what it holds comes in when the graph is loaded."""
    import onnx

    size = int(np.prod(shape)) * onnx.helper.tensor_dtype_to_np_dtype(kind).itemsize
    tensor = onnx.TensorProto(name=name, data_type=kind, dims=shape, data_location=onnx.TensorProto.EXTERNAL)
    for key, value in (("location", "weights"), ("offset", "0"), ("length", f"{size}")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def _field(name: str) -> bytes:
    """A name as it stands in a serialised graph, its length before it: another may only begin alike."""
    content = name.encode()
    assert len(content) < 128
    return bytes([len(content)]) + content


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

"""The exported graph in eight bits: a third of the time where a CPU multiplies bytes, and nearly the same vectors.

Weights are rounded by output, the inputs of each product as they come; before that a factor for each input column
moves what is large in the inputs into the weights (SmoothQuant, Xiao et al. 2022, arXiv 2211.10438). Like the graph it
is made from, this one holds no weights: they are rounded when it is loaded. Owns the rewriting, the factors and the
rounding. Knows nothing about heads or versions.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from finetune.calibrate import Floats
from finetune.examples import FinetuneError
from finetune.export import INSIDE, Exported, external

if TYPE_CHECKING:
    import onnx

QUANTISED = "question-int8.onnx"
SMOOTHING = "smoothing.safetensors"
"""The names of the graph and of its factors among the files of a version."""

SHARE, SHARE_TWICE = 0.75, 0.5
"""How much of an input's range moves into the weights, and how much where inputs are rounded twice. Frozen base, 1 -
cosine to float32: without factors .0055, all at .75 .0015, rounded twice .0009, these .0005 (docs/decisions.md)."""
FACTOR, BYTES, SCALE = ".factor", ".int8", ".scale"
"""What the names of a weight's input factors, of its bytes and of their scale end with in the graph."""


@dataclass(frozen=True, slots=True)
class _Product:
    """`asked` times the transposed weight `name` plus `bias` gives `result`; `nodes` are those that say so."""

    asked: str
    name: str
    bias: str
    result: str
    nodes: tuple[str, ...]
    """By what they give; the product stands in place of the last one."""


def fast_here() -> bool:
    """Whether this CPU multiplies bytes in one instruction; without it eight bits are slower and overflow."""
    try:
        flags = Path("/proc/cpuinfo").read_text("utf-8", "replace")
    except OSError:
        return False
    return "avx512_vnni" in flags or "avx_vnni" in flags


def quantised(graph: bytes, names: Collection[str]) -> bytes:
    """The graph with the products of the weights `names` in eight bits.

    What its weights are comes in from outside, see `eight_bits`. The inputs of products that narrow (the second half of
    a feed-forward layer) are rounded twice, the second time what the first left: two thirds of the loss were there.
    """
    import onnx
    from onnx import TensorProto, helper

    model = onnx.load_from_string(graph)
    products = {p.nodes[-1]: p for p in _products(model) if p.name.removeprefix(INSIDE) in names}
    gone = {output for product in products.values() for output in product.nodes}
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    nodes: list[Any] = []
    rounded: set[str] = set()
    for node in list(model.graph.node):
        product = products.get(node.output[0])
        if product is None:
            if node.output[0] not in gone:
                nodes.append(node)
            continue
        name, asked, (high, wide) = product.name, product.asked, shapes[product.name]
        smooth, rest = f"{asked}.smooth", f"{asked}.rest"
        twice = _narrows(shapes[name])
        if asked not in rounded:
            rounded.add(asked)
            nodes.append(helper.make_node("Mul", [asked, name + FACTOR], [smooth]))
            nodes.append(helper.make_node("DynamicQuantizeLinear", [smooth], _parts(smooth)))
            if twice:
                nodes.append(helper.make_node("DequantizeLinear", _parts(smooth), [f"{smooth}.back"]))
                nodes.append(helper.make_node("Sub", [smooth, f"{smooth}.back"], [rest]))
                nodes.append(helper.make_node("DynamicQuantizeLinear", [rest], _parts(rest)))
            model.graph.initializer.append(external(name + FACTOR, TensorProto.FLOAT, [wide]))
        results = [f"{product.result}.first", f"{product.result}.second"] if twice else [product.result]
        for inputs, bias, result in zip((smooth, rest), (product.bias, ""), results, strict=False):
            bytes_, scale, zero = _parts(inputs)
            given = [bytes_, name + BYTES, scale, name + SCALE, zero, "", bias]
            nodes.append(helper.make_node("MatMulIntegerToFloat", given, [result], domain="com.microsoft"))
        if twice:
            nodes.append(helper.make_node("Add", results, [product.result]))
        model.graph.initializer.append(external(name + BYTES, TensorProto.INT8, [wide, high]))
        model.graph.initializer.append(external(name + SCALE, TensorProto.FLOAT, [high]))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    for tensor in list(model.graph.initializer):
        if tensor.name not in used:
            model.graph.initializer.remove(tensor)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return bytes(model.SerializeToString())


def _narrows(shape: Sequence[int]) -> bool:
    return shape[1] > shape[0]


def _parts(tensor: str) -> list[str]:
    """The names of a rounded tensor: its bytes, their scale and what stands for zero."""
    return [f"{tensor}.bytes", f"{tensor}.scale", f"{tensor}.zero"]


def smoothing(graph: bytes, weights: Mapping[str, Floats], sequences: Sequence[Sequence[int]]) -> dict[str, Floats]:
    """For each weight `[o, i]` that a product has, by its name in `weights`, the factors `[i]` of its columns.

    `sequences` are token ids of typical questions; weights that read the same inputs share their factors.
    """
    import onnx
    from onnx import TensorProto, helper

    model = onnx.load_from_string(graph)
    readers: dict[str, list[str]] = {}
    for product in _products(model):
        if product.name.removeprefix(INSIDE) in weights:
            readers.setdefault(product.asked, []).append(product.name.removeprefix(INSIDE))
    for asked in readers:
        model.graph.output.append(helper.make_tensor_value_info(asked, TensorProto.FLOAT, None))
    watched = Exported(model.SerializeToString(), weights)
    peaks = {asked: np.full(weights[names[0]].shape[1], 1e-5, np.float32) for asked, names in readers.items()}
    for ids in sequences:
        for asked, inputs in zip(readers, watched.outputs(ids)[1:], strict=True):
            peaks[asked] = np.maximum(peaks[asked], np.abs(inputs).reshape(-1, inputs.shape[-1]).max(axis=0))
    factors: dict[str, Floats] = {}
    for asked, names in readers.items():
        largest = np.max([np.abs(weights[name]).max(axis=0) for name in names], axis=0)
        share = SHARE_TWICE if _narrows(weights[names[0]].shape) else SHARE
        factor = peaks[asked] ** share / np.maximum(largest, 1e-5) ** (1 - share)
        factor = np.asarray(factor / np.exp(np.log(factor).mean()), np.float32)
        factors |= dict.fromkeys(names, factor)
    return factors


def eight_bits(weights: Mapping[str, Floats], factors: Mapping[str, Floats]) -> dict[str, NDArray[Any]]:
    """What a quantised graph asks for from outside besides the weights that stay as they are.

    Raises FinetuneError when the factors are of another base.
    """
    tensors: dict[str, NDArray[Any]] = {}
    for name, factor in factors.items():
        if name not in weights or weights[name].shape[1:] != factor.shape:
            raise FinetuneError(f"{SMOOTHING}: does not fit this base ({name}); train again")
        smooth = weights[name] * factor
        scale = np.maximum(np.abs(smooth).max(axis=1), 1e-12) / np.float32(127)
        tensors[name + BYTES] = np.ascontiguousarray(np.rint(smooth / scale[:, None]).astype(np.int8).T)
        tensors[name + SCALE] = scale.astype(np.float32)
        tensors[name + FACTOR] = 1 / factor
    return tensors


def to_bytes(factors: Mapping[str, Floats]) -> bytes:
    from safetensors.numpy import save

    return bytes(save({name: np.ascontiguousarray(factor) for name, factor in factors.items()}))


def factors_from(content: bytes) -> dict[str, Floats]:
    """Raises FinetuneError on bytes that are no factors."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return {name: np.asarray(factor, np.float32) for name, factor in load(content).items()}
    except (SafetensorError, ValueError) as error:
        raise FinetuneError(f"{SMOOTHING}: not of this program ({error}); train again") from error


def _products(model: onnx.ModelProto) -> list[_Product]:
    """Every product of something with a weight that comes from outside, with the bias that is added to it, if any."""
    from onnx import TensorProto

    outside = {t.name for t in model.graph.initializer if t.data_location == TensorProto.EXTERNAL}
    within = {t.name for t in model.graph.initializer} - outside
    turned = {n.output[0]: n.input[0] for n in model.graph.node if n.op_type == "Transpose" and n.input[0] in outside}
    readers: dict[str, list[Any]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found = []
    for node in model.graph.node:
        if node.op_type != "MatMul" or node.input[1] not in turned:
            continue
        following = readers.get(node.output[0], [])
        added = [name for name in following[0].input if name in within] if len(following) == 1 else []
        with_bias = bool(added) and following[0].op_type == "Add"
        result = following[0].output[0] if with_bias else node.output[0]
        nodes = dict.fromkeys((node.input[1], node.output[0], result))
        found.append(
            _Product(node.input[0], turned[node.input[1]], added[0] if with_bias else "", result, tuple(nodes))
        )
    return found

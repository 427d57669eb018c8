"""The convolutions and pools of an ONNX model.

The onnx library parses the file and infers the shapes; nothing of it is run, and no file that it
names is opened. Source of the operators: ONNX Operator Schemas.

As in ``workloads.toml`` a pool that directly follows a convolution is in its row, and an activation
between them is left out where a maximum commutes with it; of a batch normalisation a bias is left.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from convbench.errors import SpecError, WorkloadError
from convbench.stimulus.elsewhere.layers import Layer, layer, pipeline, two_axes, with_output
from convbench.stimulus.spec import ConvSpec, PipelineSpec, PoolSpec

_POOLS = {"MaxPool", "GlobalMaxPool", "AveragePool", "GlobalAveragePool"}
_COMMUTE = {"Relu", "Clip", "Sigmoid", "Tanh"}
"""What never falls: the maximum of its values is its value of the maximum."""

_ELSEWHERE = -1
"""Who uses a value: a graph's caller, or a branch."""

_Shape = tuple[int | None, ...]


def read(path: Path, shapes: Sequence[Sequence[int]] = ()) -> Iterator[Layer]:
    """Yield the layers of a model in the order of its nodes.

    Parameters
    ----------
    shapes : sequence of (N, C, H, W)
        Of the model's inputs, instead of those that it declares.

    Raises
    ------
    WorkloadError
        If onnx is not installed, or the file is no model, or has not so many inputs.
    """
    graph = _graph(path, shapes)
    model = _Model(tuple(graph.node), _shapes(graph), _users(graph), _constants(graph))
    taken: set[int] = set()
    for index, node in enumerate(model.nodes):
        for nested in _nested(node):
            reason = "it is in a branch or a loop: whether it runs is not known from the file"
            yield from (
                Layer(path.stem, inner.name or inner.op_type, path.name, None, reason)
                for inner in nested.node
                if _concerns(inner)
            )
        if _concerns(node) and index not in taken:
            name = node.name or f"{node.op_type}_{index}"
            found = layer(path.stem, name, path.name, lambda node=node: model.alone(node))  # type: ignore[misc]
            if found.pipeline is not None and found.pipeline.conv is not None:
                whole, pool = model.followed(index, found.pipeline)
                found = replace(found, pipeline=whole)
                taken.add(pool)
            yield found


def _graph(path: Path, shapes: Sequence[Sequence[int]]) -> Any:
    """Parse a model, with all shapes that follow from those of its inputs."""
    try:
        import onnx  # noqa: PLC0415  # only who reads a model has to have it
        from onnx import inliner, shape_inference  # noqa: PLC0415
    except ImportError as error:
        raise WorkloadError(
            f"{path}: the library onnx is not importable ({error}); expected it beside convbench. "
            'Install it: pip install "convbench[onnx]".'
        ) from error
    try:
        model = onnx.load_model_from_string(path.read_bytes())
    except OSError as error:
        raise WorkloadError(
            f"{path}: the file is not readable ({error.strerror}); expected an ONNX model. Check "
            "the path."
        ) from error
    except Exception as error:  # protobuf's own, which is not ours to name
        raise WorkloadError(
            f"{path}: the content is damaged ({error}); expected an ONNX model. Export it again."
        ) from error
    if not model.graph.node:
        raise WorkloadError(
            f"{path}: the graph is empty; expected the nodes of an ONNX model. Export it again."
        )
    weights = {it.name for it in model.graph.initializer}  # which are inputs, too, in old files
    inputs = [it for it in model.graph.input if it.name not in weights]
    if len(shapes) > len(inputs):
        raise WorkloadError(
            f"{path}: the number of shapes is {len(shapes)}; expected at most one for each input: "
            f"{', '.join(str(it.name) for it in inputs)}. Leave out the others."
        )
    if shapes:  # what was inferred before contradicts them
        del model.graph.value_info[:]
        for value in model.graph.output:
            value.type.tensor_type.ClearField("shape")
    for value, shape in zip(inputs, shapes, strict=False):
        value.type.tensor_type.ClearField("shape")
        for size in shape:
            value.type.tensor_type.shape.dim.add().dim_value = size
    try:
        if model.functions:
            model = inliner.inline_local_functions(model)
        graph = shape_inference.infer_shapes(model, data_prop=True).graph
    except Exception as error:
        raise WorkloadError(
            f"{path}: the model is inconsistent ({error}); expected one that onnx.checker accepts. "
            "Export it again, or check --shape."
        ) from error
    inner = [it for node in graph.node for nested in _nested(node) for it in nested.node]
    if not all(map(_is_text, (*graph.node, *inner))):
        raise WorkloadError(
            f"{path}: a name is no text; expected UTF-8 in all of an ONNX model. Export it again."
        )
    return graph


def _is_text(node: Any) -> bool:
    """Whether its names are text: what is not UTF-8 comes as bytes."""
    names = (node.op_type, node.domain, node.name, *node.input, *node.output)
    return all(isinstance(name, str) for name in names)


def _shapes(graph: Any) -> dict[str, _Shape]:
    """Of every value that has one; a size that is not known is None."""
    shapes: dict[str, _Shape] = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        if value.type.tensor_type.HasField("shape"):
            dims = value.type.tensor_type.shape.dim
            shapes[value.name] = tuple(
                dim.dim_value if dim.HasField("dim_value") else None for dim in dims
            )
    return shapes | {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}


def _constants(graph: Any) -> set[str]:
    """Names of what does not depend on the inputs."""
    made = {it.output[0] for it in graph.node if it.op_type == "Constant" and it.output}
    return made | {tensor.name for tensor in graph.initializer}


def _users(graph: Any) -> dict[str, list[int]]:
    """Which nodes read a value, by their places."""
    users: dict[str, list[int]] = defaultdict(list)
    for value in graph.output:
        users[value.name].append(_ELSEWHERE)
    for index, node in enumerate(graph.node):
        for name in node.input:
            users[name].append(index)
        for nested in _nested(node):
            for inner in nested.node:
                for name in inner.input:
                    users[name].append(_ELSEWHERE)
    return users


def _nested(node: Any) -> Iterator[Any]:
    """The graphs inside a node, and those inside of them."""
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            if graph.node:
                yield graph
                for inner in graph.node:
                    yield from _nested(inner)


def _concerns(node: Any) -> bool:
    return "Conv" in node.op_type or "Pool" in node.op_type


@dataclass(frozen=True, slots=True)
class _Model:
    nodes: tuple[Any, ...]
    shapes: dict[str, _Shape]
    users: dict[str, list[int]]
    constants: set[str]

    def alone(self, node: Any) -> PipelineSpec:
        """The pipeline of one node.

        Raises
        ------
        SpecError
            If there is none.
        """
        if node.op_type not in {"Conv", *_POOLS} or node.domain not in {"", "ai.onnx"}:
            what = f"{node.domain}.{node.op_type}".lstrip(".")
            raise SpecError(
                f"layer: the operator is {what}; expected Conv, {', '.join(sorted(_POOLS))}. "
                "There is no row for it."
            )
        n, c, h, w = self._sizes(node, 0)
        if node.op_type == "Conv":
            conv = self._conv(node, c)
            bias = len(node.input) > 2 and node.input[2] != ""
            found = pipeline((n, h, w, c), conv=conv, bias=bias)
        else:
            found = pipeline((n, h, w, c), pool=_pool(node, h, w))
        return self._checked(found, node)

    def followed(self, index: int, found: PipelineSpec) -> tuple[PipelineSpec, int]:
        """The pipeline of a convolution and of what nobody else reads after it.

        Returns
        -------
        PipelineSpec
            With the bias and the pool that follow.
        int
            The place of that pool; -1 without one.
        """
        activated = False
        while True:
            value = "".join(self.nodes[index].output[:1])
            users = self.users.get(value, ())
            if len(users) != 1 or users[0] <= index:  # a file can have a circle
                return found, _ELSEWHERE
            index = users[0]
            node = self.nodes[index]
            if node.op_type in _COMMUTE and node.input[0] == value:
                activated = True
            elif not activated and self._is_bias(node, value, found):
                found = replace(found, bias=True)
            elif node.op_type in _POOLS and not (activated and "Average" in node.op_type):
                try:
                    return self._checked(replace(found, pool=self.alone(node).pool), node), index
                except SpecError:  # it says so in its turn
                    return found, _ELSEWHERE
            else:
                return found, _ELSEWHERE

    def _is_bias(self, node: Any, value: str, found: PipelineSpec) -> bool:
        """Whether it adds one constant per channel: by itself, or as a folded normalisation."""
        if node.op_type == "BatchNormalization":
            return node.input[0] == value and not _attributes(node).get("training_mode")
        if node.op_type != "Add":
            return False
        (other,) = [name for name in node.input if name != value] or [""]
        shape = self.shapes.get(other, ())
        per_channel = (*(1,) * (4 - len(shape)), *shape) == (1, found.conv_shape[3], 1, 1)
        return other in self.constants and per_channel

    def _conv(self, node: Any, c: int) -> ConvSpec:
        k, per_group, r, s = self._sizes(node, 1)
        given = _attributes(node)
        conv = ConvSpec(
            k, r, s, given.get("strides", 1), given.get("dilations", 1), given.get("group", 1),
            _padding(given),
        )  # fmt: skip
        if per_group * conv.groups != c:
            raise SpecError(
                f"conv: the channels of the filters are {per_group} in {conv.groups} groups; "
                f"expected the {c} of the input. Export the model again."
            )
        return conv

    def _sizes(self, node: Any, place: int) -> tuple[int, ...]:
        """The four sizes of an input of a node."""
        name = node.input[place] if place < len(node.input) else ""
        shape = self.shapes.get(name)
        if shape is not None:
            two_axes(len(shape))
        known = [size for size in shape or () if size is not None]
        if len(known) != 4:
            text = "unknown" if shape is None else "x".join(str(it or "?") for it in shape)
            raise SpecError(
                f"layer: the shape of {name!r} is {text}; expected N x C x H x W in numbers. Give "
                "those of the model's inputs: --shape 1x3x224x224."
            )
        return tuple(known)

    def _checked(self, found: PipelineSpec, node: Any) -> PipelineSpec:
        """Refuse what ONNX gives another shape, as some windows of `ceil_mode`."""
        shape = self.shapes.get("".join(node.output[:1]), (None,) * 4)
        two_axes(len(shape))
        n, c, h, w = shape
        return with_output(found, (n, h, w, c))


def _pool(node: Any, h: int, w: int) -> PoolSpec:
    op = "max" if "Max" in node.op_type else "avg"
    if node.op_type.startswith("Global"):
        return PoolSpec(op, (h, w))  # type: ignore[arg-type]  # mypy widens it to str
    if len(node.output) > 1 and node.output[1]:
        raise SpecError(
            f"pool: the second output is {node.output[1]!r}; expected the maxima alone. There is "
            "no row for their places."
        )
    given = _attributes(node)
    return PoolSpec(
        op,  # type: ignore[arg-type]
        given.get("kernel_shape"),  # type: ignore[arg-type]  # what is wrong is refused there
        given.get("strides", 1),
        _padding(given),
        given.get("dilations", 1),
        count_include_pad=bool(given.get("count_include_pad", 0)),
        ceil_mode=bool(given.get("ceil_mode", 0)),
    )


def _padding(given: dict[str, Any]) -> Any:
    auto = given.get("auto_pad", b"NOTSET")
    if auto != b"NOTSET":
        return auto.decode("utf-8", "replace") if isinstance(auto, bytes) else str(auto)
    return {"onnx": given.get("pads", [0, 0, 0, 0])}


def _attributes(node: Any) -> dict[str, Any]:
    """Numbers, lists of them and bytes, by name."""
    kinds = {1: "f", 2: "i", 3: "s", 7: "ints"}  # AttributeProto.AttributeType
    found = {}
    for attribute in node.attribute:
        if (field := kinds.get(attribute.type)) is not None:
            value = getattr(attribute, field)
            found[attribute.name] = list(value) if field == "ints" else value
    return found

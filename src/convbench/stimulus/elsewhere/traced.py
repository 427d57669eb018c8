"""The convolutions and pools that a PyTorch or Keras model computes when it is called.

The model comes from a factory of the user's, which runs as any code of theirs, and is called once
on zeros. Each of them is a row; what an activation or a normalisation does between is not seen.
"""

from __future__ import annotations

import contextlib
import importlib
import operator
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

from convbench.errors import SpecError, WorkloadError
from convbench.stimulus.elsewhere.layers import Layer, layer, pipeline, two_axes, with_output
from convbench.stimulus.spec import ConvSpec, PipelineSpec, PoolSpec

_Seen = list[tuple[str, Callable[[], PipelineSpec]]]
"""Names, and what makes the pipeline."""


def read(origin: str, shapes: Sequence[Sequence[int]]) -> list[Layer]:
    """Call the model of a factory, and read what it computes.

    Parameters
    ----------
    origin : str
        ``package.module:factory``, found from the current folder, too. A model that was made
        already will do.
    shapes : sequence of shapes
        Of the inputs, as the model takes them: (N, C, H, W) in PyTorch.

    Raises
    ------
    WorkloadError
        If there is no such factory, or what it makes is no model or cannot be called so.
    """
    if not shapes:
        raise WorkloadError(
            f"{origin}: --shape is absent; expected the shape of each input of the model. Add it: "
            "--shape 1x3x224x224."
        )
    module, _, name = origin.partition(":")
    sys.path.insert(0, "")
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what it prints is no row
            model = operator.attrgetter(name)(importlib.import_module(module))
            trace = _tracer(model)
            if trace is None:
                model = model()
                trace = _tracer(model)
            if trace is not None:
                seen = trace(model, shapes)
    except (Exception, SystemExit) as error:
        raise WorkloadError(
            f"{origin}: the call is a failure ({type(error).__name__}: {error}); expected a "
            f"factory without arguments, and a model that takes {_shown(shapes)}. Correct it."
        ) from error
    finally:
        with contextlib.suppress(ValueError):  # the factory can have changed it
            sys.path.remove("")
    if trace is None:
        raise WorkloadError(
            f"{origin}: the result is a {type(model).__name__}; expected a torch.nn.Module or a "
            "keras.Model. Return the model."
        )
    return [layer(name, label, origin, make) for label, make in seen]


def _shown(shapes: Sequence[Sequence[int]]) -> str:
    return ", ".join("x".join(map(str, shape)) for shape in shapes)


def _tracer(model: object) -> Callable[[Any, Sequence[Sequence[int]]], _Seen] | None:
    """What reads it; a library that the factory has not imported has not made it."""
    torch, keras = sys.modules.get("torch"), sys.modules.get("keras")
    if torch is not None and isinstance(model, torch.nn.Module):
        return _torch
    if keras is not None and isinstance(model, keras.Layer):
        return _keras
    return None


# -- PyTorch --------------------------------------------------------------------------------------


def _torch(model: Any, shapes: Sequence[Sequence[int]]) -> _Seen:
    """Watch the operators that are called, below modules and functions: none goes by unseen."""
    torch = sys.modules["torch"]
    mode: Any = importlib.import_module("torch.utils._python_dispatch").TorchDispatchMode
    where: list[str] = []
    seen: _Seen = []

    class Watch(mode):  # type: ignore[misc]
        def __torch_dispatch__(self, func: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            op = func._schema.name.removeprefix("aten::")
            if "conv" in op or "pool" in op or op == "mean":
                given = {it.name: it.default_value for it in func._schema.arguments}
                given |= dict(zip(given, args, strict=False)) | (kwargs or {})
                result = out[0] if isinstance(out, tuple) else out
                for name, value in given.items():  # tensors need not outlive the call
                    given[name] = tuple(value.shape) if hasattr(value, "shape") else value
                if op != "mean" or _is_pool(given):
                    shape = tuple(result.shape)
                    label = f"{where[-1] if where else ''} {op}".strip()
                    seen.append((label, lambda: _torch_pipeline(op, given, shape)))
            return out

    def left(*_: Any) -> None:  # what a hook returns would take the place of the output
        where.pop()

    handles = []
    for name, module in model.named_modules():
        handles += [
            module.register_forward_pre_hook(lambda *_, name=name: where.append(name)),
            module.register_forward_hook(left),
        ]
    like = next(model.parameters(), torch.zeros(0))
    inputs = [like.new_zeros(*shape) for shape in shapes]
    model.eval()
    try:
        with torch.no_grad(), Watch():
            model(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _is_pool(given: dict[str, Any]) -> bool:
    """Whether a mean is over height and width: what PyTorch makes of a pool to 1x1."""
    shape, axes = given["self"], given.get("dim") or ()
    return len(shape) == 4 and sorted(axis % 4 for axis in axes) == [2, 3]


def _torch_pipeline(op: str, given: dict[str, Any], out: tuple[int, ...]) -> PipelineSpec:
    shape = given["input"] if "input" in given else given["self"]
    if "2d" in op and len(shape) == 3:  # one image, without its batch
        shape, out = (1, *shape), (1, *out)
    two_axes(len(shape))
    n, c, h, w = shape
    sizes = (n, h, w, c)
    shaped: Sequence[object] = (out[0], out[2], out[3], out[1]) if len(out) == 4 else (None,) * 4
    if op == "convolution" and not given["transposed"]:
        k, _, r, s = given["weight"]
        conv = ConvSpec(
            k, r, s, tuple(given["stride"]), tuple(given["dilation"]), given["groups"],
            _pair(given["padding"]),
        )  # fmt: skip
        found = pipeline(sizes, conv=conv, bias=given["bias"] is not None)
    elif op in {"max_pool2d_with_indices", "avg_pool2d"}:
        window = _pair(given["kernel_size"])
        pool = PoolSpec(
            "max" if op.startswith("max") else "avg",
            window,
            _pair(given["stride"] or window),
            _pair(given["padding"]),
            _pair(given.get("dilation", 1)),
            count_include_pad=given.get("count_include_pad", False),
            ceil_mode=given["ceil_mode"],
            divisor_override=given.get("divisor_override"),
        )
        found = pipeline(sizes, pool=pool)
    elif op == "mean":
        found = pipeline(sizes, pool=PoolSpec("avg", (h, w)))
    elif op in {"_adaptive_avg_pool2d", "adaptive_max_pool2d"} and not (h % out[2] or w % out[3]):
        kind: Literal["max", "avg"] = "max" if "max" in op else "avg"
        found = pipeline(sizes, pool=PoolSpec(kind, (h // out[2], w // out[3])))
    else:
        what = "a transposed convolution" if op == "convolution" else op
        raise SpecError(
            f"layer: the operator is {what}; expected a convolution, or a pool whose windows are "
            "all of one size. There is no row for it."
        )
    return with_output(found, shaped)


def _pair(value: Any) -> Any:
    """(height, width) of one number, or of one or two in a list."""
    first, *rest = value if isinstance(value, list | tuple) else (value,)
    return (first, rest[0] if rest else first)


# -- Keras ----------------------------------------------------------------------------------------


def _keras(model: Any, shapes: Sequence[Sequence[int]]) -> _Seen:
    """Watch the layers that are called, in whatever model and however deep."""
    from unittest import mock  # noqa: PLC0415

    import numpy as np  # noqa: PLC0415

    keras = sys.modules["keras"]
    seen: _Seen = []
    call = keras.Layer.__call__

    def watched(self: Any, *args: Any, **kwargs: Any) -> Any:
        out = call(self, *args, **kwargs)
        x: Any = args[0] if args else next(iter(kwargs.values()), None)
        # Somebody's block of layers is seen by what is in it.
        own = {it.__name__ for it in type(self).__mro__ if it.__module__.startswith("keras.")}
        if any("Conv" in name or "Pool" in name for name in own) and hasattr(x, "shape"):
            before, after = (tuple(map(int, it.shape)) for it in (x, out))
            for part, make in _keras_pipelines(self, before, after):
                seen.append((f"{self.name}{part}", make))
        return out

    inputs = [np.zeros(shape, np.float32) for shape in shapes]
    with mock.patch.object(keras.Layer, "__call__", watched):
        model(inputs[0] if len(inputs) == 1 else inputs, training=False)
    return seen


def _keras_pipelines(
    it: Any, before: tuple[int, ...], after: tuple[int, ...]
) -> Iterator[tuple[str, Callable[[], PipelineSpec]]]:
    """The pipelines of a layer: a separable convolution has two."""
    layers = sys.modules["keras"].layers

    def sized(shape: tuple[int, ...]) -> tuple[int, ...]:
        first = it.data_format == "channels_first"
        two_axes(len(shape))
        return (shape[0], shape[2], shape[3], shape[1]) if first else shape

    def conv(k: int, groups: int, *, bias: bool) -> PipelineSpec:
        r, s = it.kernel_size
        spec = ConvSpec(k, r, s, it.strides, it.dilation_rate, groups, it.padding)
        return pipeline(sized(before), conv=spec, bias=bias)

    def pool() -> PipelineSpec:
        op: Literal["max", "avg"] = "max" if "Max" in type(it).__name__ else "avg"
        n, h, w, c = sized(before)
        if isinstance(it, layers.GlobalMaxPooling2D | layers.GlobalAveragePooling2D):
            return pipeline((n, h, w, c), pool=PoolSpec(op, (h, w)))
        spec = PoolSpec(op, it.pool_size, it.strides, it.padding)
        return with_output(pipeline((n, h, w, c), pool=spec), sized(after))

    def refused() -> PipelineSpec:
        two_axes(len(before))
        raise SpecError(
            f"layer: the layer is a {type(it).__name__}; expected Conv2D, DepthwiseConv2D, "
            "SeparableConv2D or a pool of two axes. There is no row for it."
        )

    def depthwise(*, bias: bool) -> PipelineSpec:
        c = sized(before)[3]
        return conv(c * it.depth_multiplier, c, bias=bias)

    def pointwise() -> PipelineSpec:
        n, p, q, _ = sized(after)
        c = sized(before)[3] * it.depth_multiplier
        return pipeline((n, p, q, c), conv=ConvSpec(it.filters, 1, 1), bias=it.use_bias)

    if isinstance(it, layers.SeparableConv2D):
        yield " depthwise", lambda: depthwise(bias=False)
        yield " pointwise", pointwise
    elif isinstance(it, layers.DepthwiseConv2D):
        yield "", lambda: with_output(depthwise(bias=it.use_bias), sized(after))
    elif isinstance(it, layers.Conv2D):
        yield (
            "",
            lambda: with_output(conv(it.filters, it.groups, bias=it.use_bias), sized(after)),
        )
    elif isinstance(
        it,
        layers.MaxPooling2D
        | layers.AveragePooling2D
        | layers.GlobalMaxPooling2D
        | layers.GlobalAveragePooling2D,
    ):
        yield "", pool
    else:
        yield "", refused

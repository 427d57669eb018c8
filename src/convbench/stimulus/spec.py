"""What is computed: shapes, padding, arithmetic and traffic, from the specification alone.

Arrays are NHWC and filters HWIO = (R, S, C // groups, K). The letters are the field's: N batch;
H, W input height and width; C input channels; K output channels; R, S filter (or window) height and
width; P, Q output height and width. Nothing here imports an array library.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypeVar, get_args

from convbench.errors import SpecError

Pads = tuple[int, int, int, int]
"""Explicit padding: (top, bottom, left, right), in rows and columns."""

Padding = Literal["VALID", "SAME", "SAME_LOWER"] | Pads
PoolOp = Literal["max", "avg"]
Shape = tuple[int, int, int, int]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ConvSpec:
    """A 2-D convolution (cross-correlation, as in every deep-learning library).

    Parameters
    ----------
    k : int
        Output channels.
    r, s : int
        Filter height and width.
    stride, dilation : int or (int, int)
        Over (height, width); an int means the same for both. A dilation of 1 is none.
    groups : int
        Input and output channels are split into this many independent convolutions.
        ``groups == C`` is a depthwise convolution.
    padding : "VALID", "SAME", "SAME_LOWER", int, tuple or {"onnx": (top, left, bottom, right)}
        SAME is TensorFlow's: the output has ceil(H / stride) rows and the odd row of padding goes
        after; ONNX calls it SAME_UPPER, and SAME_LOWER puts that row before. Upper and lower case
        are the same. An int pads every side, and (height, width) both sides of either axis, as in
        PyTorch; ((top, bottom), (left, right)) is JAX's form, and with a (0, 0) for N before and
        one for C after, TensorFlow's. Four numbers are (top, bottom, left, right), which is what
        all of them are kept as. ONNX's `pads` have another order, so they have to be named.

    Examples
    --------
    >>> ConvSpec(8, 3, 3, padding=1) == ConvSpec(8, 3, 3, padding=((1, 1), (1, 1)))
    True
    >>> ConvSpec(8, 3, 3, padding={"onnx": (0, 1, 2, 3)}).padding
    (0, 2, 1, 3)
    """

    k: int
    r: int
    s: int
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    padding: Padding = "VALID"

    def __post_init__(self) -> None:
        for name in ("k", "r", "s", "groups"):
            _set(self, name, _count("conv", name, getattr(self, name)))
        for name in ("stride", "dilation"):
            _set(self, name, _pair("conv", name, getattr(self, name)))
        _set(self, "padding", _padding("conv", self.padding))

    @property
    def window(self) -> tuple[int, int]:
        """(R, S), under the name that it has in a pool."""
        return (self.r, self.s)


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """Max or average pooling.

    Parameters
    ----------
    op : "max" or "avg"
    window, stride, dilation : int or (int, int)
        Over (height, width). The stride defaults to the window.
    padding : "VALID", "SAME", "SAME_LOWER", int, tuple or {"onnx": (top, left, bottom, right)}
        As of :class:`ConvSpec`. Max pooling pads with -inf. Every window must cover some of the
        input.
    count_include_pad : bool
        Whether average pooling divides by the padded positions too. Rows that `ceil_mode` adds
        beyond the padding are never counted.
    ceil_mode : bool
        Round the output size up instead of down, as long as the last window starts inside the
        input or its leading padding (PyTorch's and Caffe's rule).
    divisor_override : int, optional
        What average pooling divides every window by, whatever it covers (PyTorch's); 1 makes sums.
    """

    op: PoolOp
    window: tuple[int, int]
    stride: tuple[int, int] = None  # type: ignore[assignment]  # replaced by the window below
    padding: Padding = "VALID"
    dilation: tuple[int, int] = (1, 1)
    count_include_pad: bool = False
    ceil_mode: bool = False
    divisor_override: int | None = None

    def __post_init__(self) -> None:
        if self.op not in get_args(PoolOp):
            raise SpecError(
                f'pool: op is {self.op!r}; expected "max" or "avg". Choose one of the two.'
            )
        _set(self, "window", _pair("pool", "window", self.window))
        if self.stride is None:
            _set(self, "stride", self.window)
        for name in ("stride", "dilation"):
            _set(self, name, _pair("pool", name, getattr(self, name)))
        _set(self, "padding", _padding("pool", self.padding))
        for name in ("count_include_pad", "ceil_mode"):
            if not isinstance(getattr(self, name), bool):
                raise SpecError(
                    f"pool: {name} is {getattr(self, name)!r}; expected true or false. Write one "
                    "of them."
                )
        if self.divisor_override is not None:
            divisor = _count("pool", "divisor_override", self.divisor_override)
            if self.op == "max":
                raise SpecError(
                    f"pool: divisor_override is {divisor}; expected none, since a maximum is not "
                    "divided. Leave it out, or pool with avg."
                )
            _set(self, "divisor_override", divisor)


@dataclass(frozen=True, slots=True)
class Window:
    """One axis of a convolution or a pool, with its padding worked out.

    Attributes
    ----------
    size : int
        Length of the input along this axis.
    taps, stride, dilation : int
        Taps in the window, distance between windows, distance between taps.
    before, after : int
        Padding. `after` includes what `ceil_mode` adds, and may be smaller than what was asked
        for: positions that no window reads are not padded.
    out : int
        Length of the output along this axis.
    counted_after : int
        The part of `after` that `count_include_pad` counts.
    """

    size: int
    taps: int
    stride: int
    dilation: int
    before: int
    after: int
    out: int
    counted_after: int

    @property
    def extent(self) -> int:
        """Distance from the first tap to one past the last."""
        return (self.taps - 1) * self.dilation + 1

    def counts(self, *, include_pad: bool) -> tuple[int, ...]:
        """How many taps of each output position count in an average."""
        low = -self.before if include_pad else 0
        high = self.size + (self.counted_after if include_pad else 0)
        return tuple(sum(low <= tap < high for tap in taps) for taps in self.reads)

    @property
    def reads(self) -> Iterator[range]:
        """What each output position reads of the input; what lies outside of it is padding."""
        starts = (i * self.stride - self.before for i in range(self.out))
        return (range(start, start + self.extent, self.dilation) for start in starts)


Windows = tuple[Window, Window]
"""Over (height, width)."""


@dataclass(frozen=True, slots=True)
class PipelineSpec:
    """A convolution, a bias and a pool, in that order, each of which may be absent.

    Parameters
    ----------
    n, h, w, c : int
        Batch, height, width and channels of the input. `n` may be 0.
    conv : ConvSpec, optional
    bias : bool
        Add one number per channel to the convolution's output (or to the input if there is no
        convolution).
    pool : PoolSpec, optional

    Raises
    ------
    SpecError
        If the pipeline cannot be computed; the message says what to change.

    Examples
    --------
    >>> spec = PipelineSpec(1, 5, 5, 3, conv=ConvSpec(k=6, r=5, s=5, stride=2), bias=True)
    >>> spec.output_shape, spec.flops
    ((1, 1, 1, 6), 906)
    """

    n: int
    h: int
    w: int
    c: int
    conv: ConvSpec | None = None
    bias: bool = False
    pool: PoolSpec | None = None

    def __post_init__(self) -> None:
        _set(self, "n", _count("input", "n", self.n, least=0))
        for name in ("h", "w", "c"):
            _set(self, name, _count("input", name, getattr(self, name)))
        for name, kind in (("conv", ConvSpec), ("pool", PoolSpec)):
            if not isinstance(getattr(self, name), kind | None):
                raise SpecError(
                    f"pipeline: {name} is {getattr(self, name)!r}; expected a {kind.__name__} or "
                    "None. Use PipelineSpec.from_dict to build one from a dictionary."
                )
        if not isinstance(self.bias, bool):
            raise SpecError(f"pipeline: bias is {self.bias!r}; expected true or false. Write one.")
        if self.conv is None and not self.bias and self.pool is None:
            raise SpecError(
                "pipeline: every stage is absent; expected at least one of conv, bias and pool. "
                "Add the stage that is to be computed."
            )
        if self.conv is not None:
            for what, value in (("the channels C", self.c), ("the output channels K", self.conv.k)):
                if value % self.conv.groups:
                    raise SpecError(
                        f"conv: groups is {self.conv.groups}; expected a divisor of {what} = "
                        f"{value}. Choose groups among the divisors of both C = {self.c} and K = "
                        f"{self.conv.k}."
                    )
            _ = self.conv_windows
        if self.pool is not None:
            _ = self.pool_windows

    # -- shapes ------------------------------------------------------------------------------

    @property
    def input_shape(self) -> Shape:
        """(N, H, W, C)."""
        return (self.n, self.h, self.w, self.c)

    @property
    def filter_shape(self) -> Shape | None:
        """(R, S, C // groups, K), or None without a convolution."""
        if self.conv is None:
            return None
        return (self.conv.r, self.conv.s, self.c // self.conv.groups, self.conv.k)

    @property
    def bias_shape(self) -> tuple[int] | None:
        """(K,), or None without a bias."""
        return (self.conv_shape[3],) if self.bias else None

    @property
    def conv_windows(self) -> Windows:
        """The convolution along (height, width). Only for a pipeline that has one."""
        if self.conv is None:
            raise ValueError("this pipeline has no convolution")
        return _windows("conv", self.conv, self.h, self.w)

    @property
    def conv_shape(self) -> Shape:
        """Shape after the convolution and the bias; the input's where there is no convolution."""
        if self.conv is None:
            return self.input_shape
        rows, columns = self.conv_windows
        return (self.n, rows.out, columns.out, self.conv.k)

    @property
    def pool_windows(self) -> Windows:
        """The pool along (height, width). Only for a pipeline that has one."""
        if self.pool is None:
            raise ValueError("this pipeline has no pool")
        where, (_, p, q, _) = "pool", self.conv_shape
        if self.conv is not None:
            where = f"pool after conv (which turns {self.h}x{self.w} into {p}x{q})"
        return _windows(where, self.pool, p, q)

    @property
    def pool_divisors(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """What an average is divided by, along (height, width); by the product of the two."""
        (rows, columns), pool = self.pool_windows, present(self.pool)
        if (divisor := pool.divisor_override) is not None:
            return (divisor,) * rows.out, (1,) * columns.out
        include_pad = pool.count_include_pad
        return rows.counts(include_pad=include_pad), columns.counts(include_pad=include_pad)

    @property
    def output_shape(self) -> Shape:
        """(N, P, Q, K) after the last stage."""
        if self.pool is None:
            return self.conv_shape
        rows, columns = self.pool_windows
        return (self.n, rows.out, columns.out, self.conv_shape[3])

    # -- arithmetic and traffic --------------------------------------------------------------

    @property
    def depthwise(self) -> bool:
        """Whether each channel is convolved for itself, with one filter or several."""
        return self.conv is not None and 1 < self.conv.groups == self.c

    @property
    def reduction(self) -> int:
        """Products summed for one output of the convolution, (C / groups) * R * S."""
        if self.conv is None:
            return 0
        return self.c // self.conv.groups * self.conv.r * self.conv.s

    @property
    def flops(self) -> int:
        """Floating-point operations of the direct method.

        A multiply-add counts as two, taps that fall on padding count (the usual convention, so
        that figures agree with published ones), a bias is one per element, and a pool is one per
        tap after the first, and one division more for an average.
        """
        flops = 2 * math.prod(self.conv_shape) * self.reduction
        if self.bias:
            flops += math.prod(self.conv_shape)
        if self.pool is not None:
            taps = math.prod(self.pool.window)
            flops += math.prod(self.output_shape) * (taps - 1 + (self.pool.op == "avg"))
        return flops

    @property
    def window_flops(self) -> int:
        """Operations for one output position alone, sharing nothing with its neighbours."""
        taps = math.prod(self.pool.window) if self.pool is not None else 1
        return max(taps * self.conv_shape[3] * (2 * self.reduction + 2), 1)

    def bytes(self, itemsize: int) -> int:
        """Compulsory traffic: input, filters and bias read once, output written once."""
        shapes = (self.input_shape, self.filter_shape, self.bias_shape, self.output_shape)
        return itemsize * sum(math.prod(shape) for shape in shapes if shape is not None)

    # -- parts -------------------------------------------------------------------------------

    def stages(self) -> dict[str, PipelineSpec]:
        """The present stages as pipelines of their own, each on the shape that reaches it."""
        n, h, w, c = self.conv_shape
        parts: dict[str, PipelineSpec] = {}
        if self.conv is not None:
            parts["conv"] = replace(self, bias=False, pool=None)
        if self.bias:
            parts["bias"] = PipelineSpec(n, h, w, c, bias=True)
        if self.pool is not None:
            parts["pool"] = PipelineSpec(n, h, w, c, pool=self.pool)
        return parts

    def with_batch(self, n: int) -> PipelineSpec:
        """The same pipeline on another batch."""
        return replace(self, n=n)

    # -- text --------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionary of everything that differs from the defaults; see :meth:`from_dict`."""
        return _differing(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PipelineSpec:
        """Build from a dictionary of the names of the fields, as in a row of ``workloads.toml``.

        Examples
        --------
        >>> row = {"n": 1, "h": 5, "w": 5, "c": 3, "pool": {"op": "max", "window": 2}}
        >>> PipelineSpec.from_dict(row).output_shape
        (1, 2, 2, 3)
        >>> PipelineSpec.from_dict(row).to_dict() == row
        True

        Raises
        ------
        SpecError
            If a name is unknown or missing, or if the pipeline cannot be computed.
        """
        fields = _fields("pipeline", cls, data)
        for name, kind in (("conv", ConvSpec), ("pool", PoolSpec)):
            if fields.get(name) is not None:
                fields[name] = kind(**_fields(name, kind, fields[name]))
        return cls(**fields)

    def __str__(self) -> str:
        parts = [f"{self.n}x{self.h}x{self.w}x{self.c}"]
        if (conv := self.conv) is not None:
            text = f"conv {conv.r}x{conv.s}x{conv.k}"
            text += f" stride {_text(conv.stride)}" if conv.stride != (1, 1) else ""
            text += f" dilation {_text(conv.dilation)}" if conv.dilation != (1, 1) else ""
            text += f" groups {conv.groups}" if conv.groups != 1 else ""
            parts.append(f"{text} {_pad_text(conv.padding)}")
        if self.bias:
            parts.append("bias")
        if (pool := self.pool) is not None:
            text = f"{pool.op} pool {pool.window[0]}x{pool.window[1]}"
            text += f" stride {_text(pool.stride)}"
            text += f" dilation {_text(pool.dilation)}" if pool.dilation != (1, 1) else ""
            text += " ceil" if pool.ceil_mode else ""
            text += " count pad" if pool.count_include_pad else ""
            text += f" divisor {pool.divisor_override}" if pool.divisor_override else ""
            parts.append(f"{text} {_pad_text(pool.padding)}")
        return " -> ".join(parts)


def present(part: T | None) -> T:
    """What is known to be there: a stage of a pipeline, or its weights."""
    assert part is not None
    return part


def _windows(where: str, spec: ConvSpec | PoolSpec, height: int, width: int) -> Windows:
    return (
        _window(f"{where}, height", spec, 0, height),
        _window(f"{where}, width", spec, 1, width),
    )


def _window(where: str, spec: ConvSpec | PoolSpec, axis: int, size: int) -> Window:
    pool = spec if isinstance(spec, PoolSpec) else None
    taps, stride, dilation = spec.window[axis], spec.stride[axis], spec.dilation[axis]
    extent = (taps - 1) * dilation + 1
    if spec.padding in {"SAME", "SAME_LOWER"}:
        out = -(-size // stride)
        total = max((out - 1) * stride + extent - size, 0)
        before = (total + (spec.padding == "SAME_LOWER")) // 2
        after = total - before
    else:
        pads = (0, 0, 0, 0) if isinstance(spec.padding, str) else spec.padding
        before, after = pads[2 * axis : 2 * axis + 2]
        spare = size + before + after - extent
        out = spare // stride + 1
        ceil_mode = pool is not None and pool.ceil_mode
        if ceil_mode and spare % stride and out * stride < size + before:
            out += 1
        if out < 1:
            what = "the filter" if pool is None else "the window"
            if dilation > 1:
                what += f" (dilated by {dilation})"
            padded = f"the {size} there are" + (f" plus {before} + {after}" * (before + after > 0))
            padded += f" plus {stride - 1} for ceil_mode" * ceil_mode
            raise SpecError(
                f"{where}: {what} is {extent}; expected at most {padded}. Make it smaller, pad "
                "more, or feed a larger input to this stage."
            )
    counted_after = after
    # What the windows read decides what is padded: no more (VALID ignores the remainder), and with
    # ceil_mode sometimes further than was asked for.
    after = max((out - 1) * stride + extent - size - before, 0)
    window = Window(size, taps, stride, dilation, before, after, out, min(counted_after, after))
    if pool is not None and 0 in window.counts(include_pad=False):
        raise SpecError(
            f"{where}: the padding is {before} before and {after} after; expected a window of "
            f"{taps} that always covers some of the {size} there are. Pad by less than the "
            "window."
        )
    return window


def _set(spec: object, name: str, value: object) -> None:
    object.__setattr__(spec, name, value)  # the dataclasses are frozen


def _count(where: str, what: str, value: object, least: int = 1) -> int:
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = least - 1
    if number < least:
        raise SpecError(
            f"{where}: {what} is {value!r}; expected a whole number of at least {least}. Correct "
            "it."
        )
    return number


def _pair(where: str, what: str, value: object) -> tuple[int, int]:
    if isinstance(value, list | tuple):
        if len(value) != 2:
            raise SpecError(
                f"{where}: {what} is {value!r}; expected one number or (height, width). Give one "
                "or two."
            )
        return (_count(where, what, value[0]), _count(where, what, value[1]))
    number = _count(where, what, value)
    return (number, number)


_NAMED: dict[str, Padding] = {
    "VALID": "VALID",
    "SAME": "SAME",
    "SAME_UPPER": "SAME",
    "SAME_LOWER": "SAME_LOWER",
}


def _padding(where: str, value: object) -> Padding:
    """Bring padding, in any form that a library has, into the one that it is kept in."""
    match value:
        case str() if value.upper() in _NAMED:
            return _NAMED[value.upper()]
        case {"onnx": [top, left, bottom, right], **others} if not others:
            pass
        case [[0, 0], [top, bottom], [left, right], [0, 0]] | [[top, bottom], [left, right]]:
            pass
        case [top, bottom, left, right] if not isinstance(top, list | tuple):
            pass
        case [height, width]:
            top, bottom, left, right = height, height, width, width
        case _ if hasattr(value, "__index__"):
            top = bottom = left = right = value
        case _:
            raise SpecError(
                f'{where}: padding is {value!r}; expected "VALID", "SAME", "SAME_LOWER", one '
                "number, (height, width), ((top, bottom), (left, right)), (top, bottom, left, "
                'right) or {"onnx": (top, left, bottom, right)}. Choose one of them.'
            )
    sides = (_count(where, "padding", side, least=0) for side in (top, bottom, left, right))
    top, bottom, left, right = sides
    return (top, bottom, left, right)


def _fields(where: str, kind: type, data: object) -> dict[str, Any]:
    known = kind.__dataclass_fields__  # type: ignore[attr-defined]
    if not isinstance(data, Mapping):
        raise SpecError(
            f"{where}: the value is {data!r}; expected a table with {', '.join(known)}. Write a "
            "table."
        )
    if unknown := sorted(set(map(str, data)) - set(known)):
        raise SpecError(
            f"{where}: the field is {', '.join(unknown)}; expected one of {', '.join(known)}. "
            "Correct it."
        )
    required = {"n", "h", "w", "c", "k", "r", "s", "op", "window"} & set(known)
    if missing := sorted(required - set(data)):
        raise SpecError(
            f"{where}: {', '.join(missing)} is missing; expected a value for each. Add it."
        )
    return dict(data)


def _differing(spec: PipelineSpec | ConvSpec | PoolSpec) -> dict[str, Any]:
    out = {}
    for field in fields(spec):
        value = getattr(spec, field.name)
        default = field.default
        if isinstance(spec, PoolSpec) and field.name == "stride":
            default = spec.window
        if value != default:
            out[field.name] = _plain(value)
    return out


def _plain(value: Any) -> Any:
    if isinstance(value, ConvSpec | PoolSpec):
        return _differing(value)
    if isinstance(value, tuple):
        return value[0] if len(value) == 2 and value[0] == value[1] else list(value)
    return value


def _text(value: Any) -> str:
    value = _plain(value)
    return "x".join(map(str, value)) if isinstance(value, list) else str(value)


def _pad_text(padding: Padding) -> str:
    if isinstance(padding, str):
        return padding
    same = len(set(padding)) == 1
    return f"pad {padding[0]}" if same else f"pad {','.join(map(str, padding))}"

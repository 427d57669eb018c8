"""Hypothesis strategies for pipelines: the whole space, and the shapes that nobody likes."""

from __future__ import annotations

from hypothesis import assume
from hypothesis import strategies as st

from convbench import ConvSpec, PipelineSpec, PoolSpec, SpecError

_pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
_dilations = st.tuples(st.integers(1, 3), st.integers(1, 2))


def _paddings(largest: int) -> st.SearchStrategy:
    pad = st.integers(0, largest)
    return st.sampled_from(["VALID", "SAME"]) | st.tuples(pad, pad, pad, pad)


@st.composite
def convs(draw: st.DrawFn) -> tuple[int, ConvSpec]:
    """(input channels, convolution): dense, grouped, or depthwise with a multiplier."""
    groups = draw(st.integers(1, 4))
    channels = groups * draw(st.integers(1, 3))
    filters = groups * draw(st.integers(1, 3))
    taps = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    conv = ConvSpec(filters, *taps, draw(_pairs), draw(_dilations), groups, draw(_paddings(4)))
    return channels, conv


pools = st.builds(
    PoolSpec,
    op=st.sampled_from(["max", "avg"]),
    window=_pairs,
    stride=_pairs,
    padding=_paddings(2),
    dilation=_dilations,
    count_include_pad=st.booleans(),
    ceil_mode=st.booleans(),
)


@st.composite
def pipelines(draw: st.DrawFn) -> PipelineSpec:
    """Any pipeline that can be computed, with a batch of 0 to 3 and up to 11x13 pixels."""
    channels, conv = draw(convs() | st.tuples(st.integers(1, 5), st.none()))
    bias = draw(st.booleans())
    pool = draw(st.none() | pools)
    shape = (draw(st.integers(0, 3)), draw(st.integers(1, 11)), draw(st.integers(1, 13)))
    try:
        return PipelineSpec(*shape, channels, conv, bias, pool)
    except SpecError:
        assume(False)
        raise

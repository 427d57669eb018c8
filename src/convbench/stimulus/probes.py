"""Small pipelines that between them have everything that can go wrong.

Dimensions are distinct and asymmetric, so that no two of them can be swapped unseen.
"""

from __future__ import annotations

from typing import Any

from convbench.stimulus.spec import ConvSpec, PipelineSpec, PoolSpec

# One number may stand for a pair, which the annotations of the dataclasses do not say.
_conv: Any = ConvSpec
_pool: Any = PoolSpec

_CEIL = _pool("avg", 3, stride=2, padding=(1, 1, 0, 1), count_include_pad=True, ceil_mode=True)
_GROUPED = _conv(8, 3, 3, stride=(2, 1), dilation=(2, 1), groups=2, padding=(2, 1, 0, 3))
_PADDED_MAX = _pool("max", 2, stride=(1, 2), padding=(1, 0, 1, 1))
_PADDED_AVG = _pool("avg", 2, stride=(2, 1), padding=(1, 1, 0, 1))
_COUNTING = _pool("avg", (2, 3), stride=1, padding=(1, 1, 0, 1), count_include_pad=True)

PROBES = {
    "1x1 input": PipelineSpec(1, 1, 1, 3, _conv(5, 1, 1), True),
    "1x1 input, SAME": PipelineSpec(2, 1, 1, 3, _conv(5, 3, 2, padding="SAME")),
    "filter as large as the input": PipelineSpec(2, 7, 5, 3, _conv(4, 7, 5), True),
    "filter larger before padding": PipelineSpec(1, 2, 3, 2, _conv(3, 5, 4, padding=(2, 1, 1, 2))),
    "stride over filter": PipelineSpec(2, 11, 13, 3, _conv(4, 2, 1, stride=(3, 5)), True),
    "dilation with stride": PipelineSpec(
        2, 13, 11, 3, _conv(4, 3, 2, stride=(2, 3), dilation=(2, 3)), True
    ),
    "dilation, SAME": PipelineSpec(1, 7, 9, 2, _conv(3, 3, 3, dilation=(3, 2), padding="SAME")),
    "one channel": PipelineSpec(3, 7, 5, 1, _conv(1, 3, 2, stride=(2, 1), padding="SAME"), True),
    "3x3 without stride": PipelineSpec(
        2, 9, 7, 5, _conv(6, 3, 3, padding=(2, 1, 0, 3)), True, _pool("max", 2)
    ),
    "primes": PipelineSpec(3, 11, 7, 5, _conv(13, 3, 5, stride=(2, 3), padding=(1, 2, 3, 1)), True),
    "one row": PipelineSpec(2, 1, 9, 3, _conv(4, 1, 3, stride=(1, 2)), True, _pool("max", (1, 2))),
    "one column": PipelineSpec(2, 9, 1, 3, _conv(4, 3, 1, stride=(2, 1)), True),
    "one filter a group": PipelineSpec(2, 6, 5, 6, _conv(3, 3, 2, groups=3), True),
    "groups": PipelineSpec(
        2, 6, 7, 6, _conv(9, 2, 3, stride=(2, 1), dilation=(1, 2), groups=3, padding="SAME"), True
    ),
    "depthwise": PipelineSpec(
        2, 7, 8, 5, _conv(5, 3, 2, stride=(2, 1), groups=5, padding="SAME"), True
    ),
    "depthwise, multiplier": PipelineSpec(
        1, 7, 8, 3, _conv(6, 3, 3, stride=(1, 2), dilation=(2, 1), groups=3), True
    ),
    "depthwise, dilated": PipelineSpec(
        1, 9, 8, 3, _conv(3, 3, 2, dilation=(2, 3), groups=3, padding="SAME")
    ),
    "zero batch": PipelineSpec(0, 5, 5, 3, _conv(6, 3, 3), True, _pool("avg", 2)),
    "zero batch, 1x1": PipelineSpec(0, 5, 5, 3, _conv(6, 1, 1)),
    "zero batch, depthwise": PipelineSpec(0, 5, 5, 3, _conv(3, 3, 3, groups=3)),
    "1x1 with padding": PipelineSpec(1, 3, 4, 2, _conv(3, 1, 1, padding=(1, 0, 2, 1)), True),
    "1x1 with stride": PipelineSpec(2, 7, 6, 3, _conv(4, 1, 1, stride=(3, 2)), True),
    "windows over the edge": PipelineSpec(
        1, 5, 7, 3, pool=_pool("max", 3, stride=2, padding=(1, 1, 2, 2))
    ),
    "average over the edge": PipelineSpec(
        1, 5, 7, 3, pool=_pool("avg", 3, stride=2, padding="SAME")
    ),
    "average counts the edge": PipelineSpec(
        1, 5, 7, 3, pool=_pool("avg", 3, stride=2, padding=(1, 1, 2, 2), count_include_pad=True)
    ),
    "ceil mode": PipelineSpec(1, 6, 8, 3, pool=_CEIL),
    "dilated pool": PipelineSpec(
        1, 9, 8, 3, pool=_pool("max", (2, 3), stride=(1, 2), padding="SAME", dilation=(3, 2))
    ),
    "odd row before": PipelineSpec(
        2, 6, 7, 3, _conv(4, 2, 4, stride=(1, 2), padding="SAME_LOWER"), True
    ),
    "odd row before, dilated": PipelineSpec(
        1, 8, 7, 4, _conv(4, 4, 2, dilation=(1, 3), groups=4, padding="SAME_LOWER")
    ),
    "average, odd row before": PipelineSpec(
        1, 5, 8, 3, pool=_pool("avg", (2, 3), stride=(1, 2), padding="SAME_LOWER")
    ),
    "maximum, odd row before": PipelineSpec(
        1, 5, 8, 3, pool=_pool("max", (2, 3), stride=(1, 2), padding="SAME_LOWER")
    ),
    "divisor": PipelineSpec(
        1, 5, 7, 3, pool=_pool("avg", (4, 2), 2, (1, 1, 0, 1), ceil_mode=True, divisor_override=4)
    ),
    "1x1 pool": PipelineSpec(1, 4, 5, 3, pool=_pool("max", 1, stride=2)),
    "bias alone": PipelineSpec(2, 3, 4, 5, bias=True),
    "bias and pool": PipelineSpec(2, 4, 6, 5, bias=True, pool=_pool("avg", 2)),
}
"""The shapes that nobody likes, by name."""

SENSITIVE = (
    PipelineSpec(2, 9, 8, 6, _conv(6, 3, 3, stride=(1, 2), padding="SAME"), True),
    PipelineSpec(2, 12, 9, 6, _GROUPED, True, _PADDED_MAX),
    PipelineSpec(3, 9, 9, 6, _conv(6, 3, 3, groups=6), pool=_PADDED_AVG),
    PipelineSpec(2, 9, 9, 6, _conv(6, 5, 2, stride=2, dilation=(1, 3)), True, _COUNTING),
    PipelineSpec(3, 9, 8, 6, pool=_pool("max", 3, stride=2, padding=(1, 1, 2, 1))),
    PipelineSpec(2, 9, 8, 6, pool=_pool("max", (2, 3), stride=1, padding="SAME", dilation=(3, 2))),
    PipelineSpec(2, 6, 8, 5, pool=_CEIL),
)
"""A few in which every fault of :mod:`convbench.correctness.faults` has room and shows."""

"""A convolution in Triton, as a backend of convbench.

``convbench verify --target mine@gpu:0`` holds it against a float64 oracle, and ``convbench bench``
measures it. Put your own kernel where ``_conv`` is; `convbench.backends.base` is the whole
contract.
"""

from __future__ import annotations

import importlib
from typing import Any, ClassVar

from convbench.backends.base import Array, Backend, Capabilities, DeviceArray, Hole, Run, Weights
from convbench.errors import BackendUnavailable, Unavailability
from convbench.stimulus.spec import PipelineSpec


class MyBackend(Backend):
    """A program for each output position, over blocks of the output channels."""

    name = "mine"
    # Modules that must be importable, and what installs them.
    requires: ClassVar = ("torch", "triton")
    install = "pip install torch triton"
    # What it does not compute is declared, with the reason: it is skipped then, and not wrong.
    capabilities = Capabilities(
        devices=("gpu",),
        holes=(Hole("pools", "they are not written yet", lambda spec, _: spec.pool is not None),),
    )

    def __init__(self, device: str, variant: str = "") -> None:
        super().__init__(device, variant)
        # Imported here and in devices(), and nowhere else. The kernel finds `tl` in this module.
        triton: Any = self.library()
        globals()["tl"] = importlib.import_module("triton.language")
        self._torch: Any = importlib.import_module("torch")
        self._device = self._torch.device(device.replace("gpu", "cuda"))
        self._triton, self._conv = triton, triton.jit(_conv)

    @classmethod
    def devices(cls) -> tuple[str, ...]:
        """Which devices there are, as in ("cpu", "gpu:0"); or why there is none."""
        cls.library()
        count = importlib.import_module("torch").cuda.device_count()
        if count == 0:
            raise BackendUnavailable(
                Unavailability.NO_DEVICE, "PyTorch counts no GPU", "See what `nvidia-smi` says."
            )
        return tuple(f"gpu:{i}" for i in range(count))

    def to_device(self, array: Array) -> DeviceArray:
        """Copy the input, (N, H, W, C), to where it is computed."""
        native = array.astype(array.dtype.newbyteorder("="))
        return self._torch.tensor(native, device=self._device)

    def to_numpy(self, array: DeviceArray) -> Array:
        """Copy the output, (N, P, Q, K), back, waiting for it."""
        return array.cpu().numpy()

    def build(self, pipeline: PipelineSpec, weights: Weights) -> Run:
        """Do once, untimed, what does not depend on the input."""
        self.check(pipeline, weights.dtype)  # refuses what is declared above
        torch, conv, placed = self._torch, pipeline.conv, self.place(weights)
        if conv is None:
            return Run(lambda x: x + placed.bias, "add")
        filters: Any = placed.filters  # (R, S, C // groups, K)
        bias = torch.zeros_like(filters[0, 0, 0]) if placed.bias is None else placed.bias
        n, p, q, k = shape = pipeline.output_shape
        block = 64
        grid = (n * p * q, -(-k // block))
        _, h, w, c = pipeline.input_shape
        numbers = [h, w, c, p, q, k, conv.r, conv.s, conv.groups]
        for what in ("stride", "dilation", "before"):  # "before" is the padding there
            numbers += [getattr(axis, what) for axis in pipeline.conv_windows]  # along H and W
        kernel = self._conv

        def run(x: DeviceArray) -> DeviceArray:
            """What is timed. It leaves x alone, and gives a new array each time."""
            y = torch.empty(shape, dtype=x.dtype, device=x.device)
            if n:
                kernel[grid](x, filters, bias, y, *numbers, BLOCK=block)
            return y

        return Run(run, "direct, a program a position")

    def synchronize(self) -> None:
        """Wait until all of it is done: without this, a GPU looks as fast as the asking is."""
        self._torch.cuda.synchronize(self._device)

    def versions(self) -> dict[str, str]:
        """What decides the result, for the evidence."""
        return {"triton": self._triton.__version__, "torch": self._torch.__version__}


tl: Any = None


def _conv(
    x, f, bias, y, h, w, c, p, q, k, r, s, groups,
    stride_h, stride_w, dilation_h, dilation_w, top, left, BLOCK: tl.constexpr,
):  # fmt: skip
    position = tl.program_id(0)
    o = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    each = c // groups
    first = o // (k // groups) * each
    total = tl.load(bias + o, mask=o < k, other=0)
    for tap in range(r * s):
        row = position // q % p * stride_h + tap // s * dilation_h - top
        column = position % q * stride_w + tap % s * dilation_w - left
        seen = (row >= 0) & (row < h) & (column >= 0) & (column < w)
        at = x + ((position // q // p * h + row) * w + column) * c + first
        for d in range(each):
            value = tl.load(at + d, mask=(o < k) & seen, other=0)
            weight = tl.load(f + (tap * each + d) * k + o, mask=(o < k) & seen, other=0)
            total += value * weight
    tl.store(y + position * k + o, total, mask=o < k)

"""A convolution on CuPy's arrays, as a backend of convbench.

``convbench verify --target mine@gpu:0`` holds it against a float64 oracle, and ``convbench bench``
measures it. Put your own kernel where ``run`` is; `convbench.backends.base` is the whole
contract.
"""

from __future__ import annotations

from typing import Any, ClassVar

from convbench.backends.base import Array, Backend, Capabilities, DeviceArray, Hole, Run, Weights
from convbench.errors import BackendUnavailable, Unavailability
from convbench.stimulus.spec import PipelineSpec


class MyBackend(Backend):
    """Tap by tap: each tap of the filter is a matrix product over the channels, on cuBLAS."""

    name = "mine"
    # Modules that must be importable, and what installs them.
    requires: ClassVar = ("cupy",)
    install = "pip install cupy-cuda12x"
    # What it does not compute is declared, with the reason: it is skipped then, and not wrong.
    capabilities = Capabilities(
        devices=("gpu",),
        holes=(
            Hole("pools", "they are not written yet", lambda spec, _: spec.pool is not None),
            Hole(
                "groups",
                "they are not written yet",
                lambda spec, _: spec.conv is not None and spec.conv.groups > 1,
            ),
        ),
    )

    def __init__(self, device: str, variant: str = "") -> None:
        super().__init__(device, variant)
        self._cupy: Any = self.library()  # imported here and in devices(), and nowhere else
        self._device = self._cupy.cuda.Device(int(device.partition(":")[2]))
        self._device.use()

    @classmethod
    def devices(cls) -> tuple[str, ...]:
        """Which devices there are, as in ("cpu", "gpu:0"); or why there is none."""
        cupy: Any = cls.library()
        try:
            count = cupy.cuda.runtime.getDeviceCount()
        except cupy.cuda.runtime.CUDARuntimeError as error:
            why = f"CUDA counts no GPU ({error})"
            raise BackendUnavailable(
                Unavailability.NO_DEVICE, why, "See what `nvidia-smi` says."
            ) from error
        return tuple(f"gpu:{i}" for i in range(count))

    def to_device(self, array: Array) -> DeviceArray:
        """Copy the input, (N, H, W, C), to where it is computed."""
        return self._cupy.array(array.astype(array.dtype.newbyteorder("=")), order="C")

    def to_numpy(self, array: DeviceArray) -> Array:
        """Copy the output, (N, P, Q, K), back, waiting for it."""
        return self._cupy.asnumpy(array)

    def build(self, pipeline: PipelineSpec, weights: Weights) -> Run:
        """Do once, untimed, what does not depend on the input."""
        self.check(pipeline, weights.dtype)  # refuses what is declared above
        cupy, conv, shape = self._cupy, pipeline.conv, pipeline.output_shape
        placed = self.place(weights)  # filters (R, S, C, K) and bias (K,), or None
        if conv is None:
            return Run(lambda x: x + placed.bias, "add")
        filters: Any = placed.filters
        rows, columns = pipeline.conv_windows  # what padding and stride come to along H and W
        pads = ((0, 0), (rows.before, rows.after), (columns.before, columns.after), (0, 0))

        def run(x: DeviceArray) -> DeviceArray:
            """What is timed. It leaves x alone, and gives a new array each time."""
            x = cupy.pad(x, pads)
            y = cupy.zeros(shape, x.dtype)
            for r in range(conv.r):
                top = r * rows.dilation
                for s in range(conv.s):
                    left = s * columns.dilation
                    seen = x[
                        :,
                        top : top + (rows.out - 1) * rows.stride + 1 : rows.stride,
                        left : left + (columns.out - 1) * columns.stride + 1 : columns.stride,
                    ]
                    y += seen @ filters[r, s]
            return y if placed.bias is None else y + placed.bias

        return Run(run, "tap by tap")

    def synchronize(self) -> None:
        """Wait until all of it is done: without this, a GPU looks as fast as the asking is."""
        self._device.synchronize()

    def versions(self) -> dict[str, str]:
        """What decides the result, for the evidence."""
        cuda = self._cupy.cuda.runtime.runtimeGetVersion()
        return {"cupy": self._cupy.__version__, "cuda": str(cuda)}

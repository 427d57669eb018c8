"""A convolution in CUDA C++, as a backend of convbench.

``convbench verify --target mine@gpu:0`` holds it against a float64 oracle, and ``convbench bench``
measures it. Put your own kernel where ``SOURCE`` is; `convbench.backends.base` is the whole
contract.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

from convbench.backends.base import Array, Backend, Capabilities, DeviceArray, Hole, Run, Weights
from convbench.errors import BackendUnavailable, Unavailability
from convbench.stimulus.spec import PipelineSpec

SOURCE = r"""
// z: n h w c  r s k groups  p q  stride, dilation and padding before, along H and W
extern "C" __global__ void conv(
    const REAL *x, const REAL *f, const REAL *bias, REAL *y, const int *z) {
  const int h = z[1], w = z[2], c = z[3], k = z[6], each = c / z[7], p = z[8], q = z[9];
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= z[0] * p * q * k) return;
  const int o = i % k, column = i / k % q * z[11] - z[15], row = i / k / q % p * z[10] - z[14];
  REAL total = bias[o];
  for (int a = 0; a < z[4]; a++) {
    const int high = row + a * z[12];
    if (high < 0 || high >= h) continue;
    for (int b = 0; b < z[5]; b++) {
      const int wide = column + b * z[13];
      if (wide < 0 || wide >= w) continue;
      const REAL *seen = x + ((i / k / q / p * h + high) * w + wide) * c + o / (k / z[7]) * each;
      for (int d = 0; d < each; d++) total += seen[d] * f[((a * z[5] + b) * each + d) * k + o];
    }
  }
  y[i] = total;
}
"""


class MyBackend(Backend):
    """A thread for each output. CuPy compiles it, and has the memory of the card."""

    name = "mine"
    # Modules that must be importable, and what installs them.
    requires: ClassVar = ("cupy",)
    install = "pip install cupy-cuda12x"
    # What it does not compute is declared, with the reason: it is skipped then, and not wrong.
    capabilities = Capabilities(
        devices=("gpu",),
        holes=(Hole("pools", "they are not written yet", lambda spec, _: spec.pool is not None),),
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
        """Do once, untimed, what does not depend on the input; compiling, for one."""
        self.check(pipeline, weights.dtype)  # refuses what is declared above
        conv, placed = pipeline.conv, self.place(weights)
        if conv is None:
            return Run(lambda x: x + placed.bias, "add")
        cupy, shape = self._cupy, pipeline.output_shape
        filters: Any = placed.filters  # (R, S, C // groups, K)
        bias = cupy.zeros(conv.k, filters.dtype) if placed.bias is None else placed.bias
        ctype = {"float32": "float", "float64": "double"}[weights.dtype]
        kernel = cupy.RawKernel(SOURCE, "conv", options=(f"-DREAL={ctype}",))
        kernel.compile()
        numbers = [*pipeline.input_shape, conv.r, conv.s, conv.k, conv.groups, *shape[1:3]]
        for what in ("stride", "dilation", "before"):  # "before" is the padding there
            numbers += [getattr(axis, what) for axis in pipeline.conv_windows]  # along H and W
        sizes, outputs = cupy.array(numbers, "int32"), math.prod(shape)

        def run(x: DeviceArray) -> DeviceArray:
            """What is timed. It leaves x alone, and gives a new array each time."""
            y = cupy.empty(shape, x.dtype)
            if outputs:
                kernel((-(-outputs // 128),), (128,), (x, filters, bias, y, sizes))
            return y

        return Run(run, "direct, a thread an output")

    def synchronize(self) -> None:
        """Wait until all of it is done: without this, a GPU looks as fast as the asking is."""
        self._device.synchronize()

    def versions(self) -> dict[str, str]:
        """What decides the result, for the evidence."""
        cuda = self._cupy.cuda.runtime.runtimeGetVersion()
        return {"cupy": self._cupy.__version__, "cuda": str(cuda)}

"""A convolution in C, called through CFFI, as a backend of convbench.

``convbench verify --target mine@cpu`` holds it against a float64 oracle, and ``convbench bench``
measures it. Put your own kernel where the C is; `convbench.backends.base` is the whole
contract.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
import tempfile
from typing import Any, ClassVar

import numpy as np

from convbench.backends.base import Array, Backend, Capabilities, Hole, Run, Weights
from convbench.errors import BackendUnavailable, Unavailability
from convbench.stimulus.spec import PipelineSpec

CALL = "void conv(const T *x, const T *f, const T *bias, T *y, const long *z);"
SOURCE = """
#include <stddef.h>
/* z: n h w c  r s k groups  p q  stride, dilation and padding before, along H and W */
void conv(const T *x, const T *f, const T *bias, T *y, const long *z) {
  const long h = z[1], w = z[2], c = z[3], k = z[6], each = c / z[7], of_group = k / z[7];
  for (long i = 0; i < z[0] * z[8] * z[9]; i++) {
    const long q = i % z[9], p = i / z[9] % z[8], n = i / z[9] / z[8];
    for (long o = 0; o < k; o++) y[i * k + o] = bias[o];
    for (long a = 0; a < z[4]; a++) for (long b = 0; b < z[5]; b++) {
      const long row = p * z[10] + a * z[12] - z[14], column = q * z[11] + b * z[13] - z[15];
      if (row < 0 || row >= h || column < 0 || column >= w) continue;
      const T *seen = x + ((n * h + row) * w + column) * c;
      for (long d = 0; d < each; d++) for (long o = 0; o < k; o++)
        y[i * k + o] += seen[o / of_group * each + d] * f[((a * z[5] + b) * each + d) * k + o];
    }
  }
}
"""


class MyBackend(Backend):
    """Plain loops in C, which the compiler may vectorise over the output channels."""

    name = "mine"
    # Modules that must be importable, and what installs them.
    requires: ClassVar = ("cffi",)
    install = "pip install cffi"
    # What it does not compute is declared, with the reason: it is skipped then, and not wrong.
    capabilities = Capabilities(
        devices=("cpu",),
        holes=(Hole("pools", "they are not written yet", lambda spec, _: spec.pool is not None),),
    )

    @classmethod
    def devices(cls) -> tuple[str, ...]:
        """Which devices there are, as in ("cpu", "gpu:0")."""
        cls.library()  # imported here and in build, and nowhere else
        if shutil.which("cc") is None:
            raise BackendUnavailable(
                Unavailability.NOT_INSTALLED, "there is no C compiler", "Install gcc or clang."
            )
        return ("cpu",)

    def to_device(self, array: Array) -> Array:
        """Copy the input, (N, H, W, C), to where it is computed."""
        return np.array(array, array.dtype.newbyteorder("="), order="C")

    def to_numpy(self, array: Array) -> Array:
        """Copy the output, (N, P, Q, K), back."""
        return array

    def build(self, pipeline: PipelineSpec, weights: Weights) -> Run:
        """Do once, untimed, what does not depend on the input; compiling, for one."""
        self.check(pipeline, weights.dtype)  # refuses what is declared above
        conv, placed = pipeline.conv, self.place(weights)
        if conv is None:
            return Run(lambda x: x + placed.bias, "add")
        filters: Any = placed.filters  # (R, S, C // groups, K)
        bias = np.zeros(conv.k, filters.dtype) if placed.bias is None else placed.bias
        ffi, library = _compiled({"float32": "float", "float64": "double"}[weights.dtype])
        shape, axes = pipeline.output_shape, pipeline.conv_windows  # along H and W
        numbers = [*pipeline.input_shape, conv.r, conv.s, conv.k, conv.groups, *shape[1:3]]
        for what in ("stride", "dilation", "before"):  # "before" is the padding there
            numbers += [getattr(axis, what) for axis in axes]
        sizes = ffi.new("long[]", numbers)
        fixed = [ffi.from_buffer("T[]", array) for array in (filters, bias)]

        def run(x: Array) -> Array:
            """What is timed. It leaves x alone, and gives a new array each time."""
            y = np.empty(shape, x.dtype)
            if y.size:
                library.conv(ffi.from_buffer("T[]", x), *fixed, ffi.from_buffer("T[]", y), sizes)
            return y

        return Run(run, "direct loops in C")


@functools.cache
def _compiled(ctype: str) -> tuple[Any, Any]:
    """The library for a type of numbers."""
    import cffi

    ffi = cffi.FFI()
    ffi.cdef(f"typedef {ctype} T; {CALL}")
    with tempfile.TemporaryDirectory() as folder:
        made = f"{folder}/mine.so"
        command = ["cc", "-O3", "-shared", "-fPIC", f"-DT={ctype}", "-x", "c", "-", "-o", made]
        subprocess.run(command, input=SOURCE, text=True, check=True)
        return ffi, ffi.dlopen(made)

"""CuPy's backend without a GPU: NumPy in place of CuPy, a C++ compiler in place of NVRTC, and the
oracle in place of cuDNN.

What runs is all that the backend does between its arrays and the calls that it makes: choosing,
planning, laying out, passing pointers. What CUDA and cuDNN make of the calls is not shown by this.
"""

from __future__ import annotations

import ctypes
import math
import shutil
import subprocess
import sys
import tempfile
import types
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from convbench.backends import cuda_kernels
from convbench.backends.cupy import CupyBackend
from convbench.correctness import oracle
from convbench.stimulus.arrays import Weights
from convbench.stimulus.inputs import Inputs
from convbench.stimulus.spec import ConvSpec, PipelineSpec

_MAIN = """
#include "{shim}"
#include "{source}"
#define RUN(name, Format) \\
    extern "C" void run_##name(const void *x, const void *filters, const void *bias, void *y, \\
                               const void *spec, int grid_x, int grid_y, int block) {{ \\
        typedef Format::Stored T; \\
        Dim3 grid = {{(unsigned)grid_x, (unsigned)grid_y, 1}}; \\
        Dim3 threads = {{(unsigned)block, 1, 1}}; \\
        on_every_thread(grid, threads, pipeline_##name, (const T *)x, (const T *)filters, \\
                        (const T *)bias, (T *)y, (const Spec *)spec); \\
    }}
RUN(float64, Float64)
RUN(float32, Float32)
RUN(float16, Float16)
RUN(bfloat16, BFloat16)
extern "C" void widen_float16(const unsigned short *x, float *y, int n) {{
    for (int i = 0; i < n; ++i) y[i] = Float16::load(x[i]);
}}
extern "C" void round_float16(const float *x, unsigned short *y, int n) {{
    for (int i = 0; i < n; ++i) y[i] = Float16::store(x[i]);
}}
extern "C" void round_bfloat16(const float *x, unsigned short *y, int n) {{
    for (int i = 0; i < n; ++i) y[i] = BFloat16::store(x[i]);
}}
"""

_OPTIONS = ("-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared")


def compiler() -> str | None:
    """The system's C++ compiler."""
    return next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)


@cache
def compiled() -> ctypes.CDLL:
    """The kernel as it is, compiled by the system's C++ compiler: its threads run in turn."""
    if compiler() is None:
        pytest.skip("there is no C++ compiler here (c++, g++ or clang++)")
    shim = Path(__file__).with_name("cuda_on_cpu.h")
    with tempfile.TemporaryDirectory() as folder:
        main, built = Path(folder, "main.cpp"), Path(folder, "pipeline.so")
        main.write_text(_MAIN.format(shim=shim, source=cuda_kernels.SOURCE))
        done = subprocess.run(
            [compiler(), *_OPTIONS, "-o", built, main],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return ctypes.CDLL(str(built))


def launch(name: str, grid: tuple[int, int], block: tuple[int], arrays: Any) -> None:
    """Launch a kernel on arrays of NumPy."""
    assert all(array.flags.c_contiguous for array in arrays)
    pointers = (ctypes.c_void_p(array.ctypes.data) for array in arrays)
    getattr(compiled(), name.replace("pipeline_", "run_"))(*pointers, *grid, *block)


class _Array(np.ndarray):
    """An array whose `data.ptr` is what CuPy's is."""

    @property
    def data(self) -> Any:
        return types.SimpleNamespace(ptr=self.ctypes.data)


def _made(function: Any) -> Any:
    return lambda *args, **kwargs: function(*args, **kwargs).view(_Array)


class _Stream:
    ptr = 0
    recording = False

    def __init__(self, **_: bool) -> None:
        pass

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass

    def synchronize(self) -> None:
        assert not _Stream.recording, "this would break the recording"

    def begin_capture(self) -> None:
        _Stream.recording = True

    def end_capture(self) -> Any:
        _Stream.recording = False
        return types.SimpleNamespace(launch=lambda: LAUNCHED.append("graph"))


class _Event:
    def record(self) -> None: ...
    def synchronize(self) -> None: ...


LAUNCHED: list[str] = []
"""Kernels, engines and graphs, in the order in which they were launched."""


def _raw_module(code: str) -> Any:
    assert "pipeline_float32" in code or "PIPELINE(float32" in code

    def get_function(name: str) -> Any:
        def kernel(grid: Any, block: Any, arrays: Any) -> None:
            LAUNCHED.append(name)
            launch(name, grid, block, arrays)

        return kernel

    return types.SimpleNamespace(get_function=get_function)


def _matmul(*args: Any, **kwargs: Any) -> Any:
    if _Stream.recording:  # CuPy's own words
        raise NotImplementedError(
            "calling cuBLAS API during stream capture is currently unsupported"
        )
    return np.matmul(*args, **kwargs)


class _RuntimeError(RuntimeError):
    pass


def cupy() -> types.ModuleType:
    """What the backend uses of CuPy, on NumPy's arrays."""
    module = types.ModuleType("cupy")
    module.__dict__.update(
        {name: value for name, value in vars(np).items() if not name.startswith("__")}
    )
    runtime = types.SimpleNamespace(
        CUDARuntimeError=_RuntimeError, getDeviceCount=lambda: 1,
        runtimeGetVersion=lambda: 12090, driverGetVersion=lambda: 12090,
    )  # fmt: skip
    device = types.SimpleNamespace(
        id=0, use=lambda: None, synchronize=lambda: None, attributes={"L2CacheSize": 1 << 20}
    )
    module.__version__ = "stand-in"
    module.cuda = types.SimpleNamespace(
        runtime=runtime, Device=lambda _: device, Event=_Event, Stream=_Stream,
        get_elapsed_time=lambda _start, _stop: 1.0, get_current_stream=_Stream,
        MemoryPool=lambda: types.SimpleNamespace(malloc=None),
        using_allocator=lambda _: mock.MagicMock(),
    )  # fmt: skip
    for name in ("asarray", "ascontiguousarray", "empty", "ones", "zeros", "full"):
        setattr(module, name, _made(getattr(np, name)))
    module.matmul, module.asnumpy, module.RawModule = _matmul, np.asarray, _raw_module
    return module


class NotSupported(Exception):
    """cudnn.cudnnGraphNotSupportedError."""


class _Tensor:
    def __init__(self, **facts: Any) -> None:
        self.__dict__.update(facts)

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("set_"):
            raise AttributeError(name)

        def setter(value: Any) -> _Tensor:
            setattr(self, name.removeprefix("set_"), value)
            return self

        return setter


class _Graph:
    """A graph of one convolution: engine 0 is always barred, 1 and 2 compute."""

    count = 3

    def __init__(self, **facts: Any) -> None:
        assert facts["handle"] == "handle"
        self.facts, self.tensors, self.barred = facts, {}, None

    def tensor(self, **facts: Any) -> _Tensor:
        _, c, h, w = facts["dim"]
        assert facts["stride"] == [h * w * c, 1, w * c, c], "not NHWC"
        return self.tensors.setdefault(facts["name"], _Tensor(**facts))

    def conv_fprop(self, **facts: Any) -> _Tensor:
        self.conv = facts
        return self._output()

    def bias(self, *, name: str, input: _Tensor, bias: _Tensor) -> _Tensor:  # noqa: A002
        assert input is self.y
        assert bias.name == "bias"
        return self._output()

    def _output(self) -> _Tensor:
        self.y = _Tensor(name="y")
        return self.y

    def validate(self) -> None:
        assert self.y.output is True

    def build_operation_graph(self) -> None: ...

    def create_execution_plans(self, modes: list[str]) -> None:
        assert modes == ["A", "FALLBACK"]
        if max(self.conv["dilation"]) > 3:
            raise NotSupported("no engine for this dilation")

    def deselect_numeric_notes(self, notes: list[str]) -> None:
        self.barred = notes

    def deselect_workspace_greater_than(self, limit: int) -> None:
        assert limit > 0

    def get_execution_plan_count(self) -> int:
        return self.count

    def build_plan_at_index(self, index: int) -> None:
        assert self.barred is not None
        if index == 0:
            raise NotSupported("Deselecting execution plan")

    def get_plan_name_at_index(self, index: int) -> str:
        return f"eng{index}"

    def get_workspace_size_plan_at_index(self, index: int) -> int:
        return 100 * index

    def execute_plan_at_index(
        self, pointers: dict[int, int], workspace: int, index: int, handle: str
    ) -> None:
        assert workspace
        assert index > 0
        assert handle == "handle"
        LAUNCHED.append(f"eng{index}")
        given = {tensor.uid: tensor for tensor in (*self.tensors.values(), self.y)}
        assert set(pointers) == set(given)
        arrays = {t.name: _at(pointers[uid], t) for uid, t in given.items()}
        filters = arrays["filters"].transpose(1, 2, 3, 0)  # KRSC back to HWIO
        (r, s, depth, k), (n, h, w, c) = filters.shape, arrays["x"].shape
        (top, left), (bottom, right) = self.conv["pre_padding"], self.conv["post_padding"]
        conv = ConvSpec(
            k, r, s, tuple(self.conv["stride"]), tuple(self.conv["dilation"]), c // depth,
            (top, bottom, left, right),
        )  # fmt: skip
        wide = self.facts["compute_data_type"].lower().replace("float", "float32")
        wide = wide.replace("double", "float64")
        pipeline = PipelineSpec(n, h, w, c, conv, "bias" in arrays)
        bias = arrays.get("bias")
        weights = Weights(wide, filters, None if bias is None else bias.reshape(-1))
        computed = oracle.compute(pipeline, Inputs(arrays["x"], weights))
        arrays["y"][...] = computed.astype(wide)


def _at(pointer: int, tensor: _Tensor) -> np.ndarray:
    """The array that a pointer points to, as NHWC."""
    dtype = np.dtype(
        {"DOUBLE": "float64", "FLOAT": "float32", "HALF": "float16", "BFLOAT16": "bfloat16"}[
            tensor.data_type
        ]
    )
    n, c, h, w = tensor.dim
    buffer = (ctypes.c_char * (math.prod(tensor.dim) * dtype.itemsize)).from_address(pointer)
    return np.frombuffer(buffer, dtype).reshape(n, h, w, c)


class _Names:
    """An enumeration whose members are their names."""

    def __getattr__(self, name: str) -> str:
        return name


def cudnn(**changes: Any) -> types.ModuleType:
    """What the backend uses of cudnn-frontend."""
    module = types.ModuleType("cudnn")
    module.__dict__.update(
        {
            "__version__": "stand-in", "backend_version": lambda: 92800,
            "create_handle": lambda: "handle", "set_stream": lambda handle, stream: None,
            "cudnnGraphNotSupportedError": NotSupported, "pygraph": _Graph,
            "data_type": _Names(), "numerical_note": _Names(), "heur_mode": _Names(), **changes,
        }
    )  # fmt: skip
    return module


def modules(**changes: Any) -> dict[str, Any]:
    """What `import` is to find."""
    linalg = types.SimpleNamespace(
        COMPUTE_TYPE_TF32="tf32", COMPUTE_TYPE_DEFAULT="default", set_compute_type=lambda *_: None
    )
    return {
        "cupy": cupy(), "cupy._core._routines_linalg": linalg, "cudnn": cudnn(), **changes,
    }  # fmt: skip


class StandIn(CupyBackend):
    """The backend on all of these. Its device is a CPU, and so it has no mark of a GPU's tests."""

    present: dict[str, Any] = modules()

    def __init__(self, device: str, variant: str = "") -> None:
        compiled()  # or skip
        with mock.patch.dict(sys.modules, self.present):
            super().__init__(device, variant)

    @classmethod
    def devices(cls) -> tuple[str, ...]:
        with mock.patch.dict(sys.modules, cls.present):
            super().devices()
        return ("cpu",)

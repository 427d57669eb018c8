"""The CUDA kernel without a GPU: its own source on a CPU, bit for bit, and NVRTC for two cards."""

from __future__ import annotations

import contextlib
import ctypes
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from convbench.backends import cuda_kernels
from convbench.correctness.accuracy import accuracy_of, is_exact, refer_for
from convbench.stimulus.formats import FORMATS, Fill, format_of
from convbench.stimulus.inputs import make_inputs
from convbench.stimulus.probes import PROBES, SENSITIVE
from convbench.testing import pipelines

from .. import stand_in

DTYPES = ("float64", "float32", "float16", "bfloat16")


def run(pipeline, inputs) -> np.ndarray:
    """Launch the kernel as the backend does, into an output of nan."""
    dtype = inputs.weights.dtype
    y = np.full(pipeline.output_shape, np.nan, format_of(dtype).storage)
    if y.size:
        weights = (inputs.weights.filters, inputs.weights.bias)
        arrays = (inputs.x, *(y if array is None else array for array in weights), y)
        spec = cuda_kernels.spec_of(pipeline)
        grid, block = cuda_kernels.grid_of(pipeline), (cuda_kernels.BLOCK,)
        stand_in.launch(f"pipeline_{dtype}", grid, block, (*arrays, spec))
    return y


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("fill", Fill)
@pytest.mark.parametrize("name", [*PROBES, *map(str, range(len(SENSITIVE)))])
def test_every_probe_is_right(name: str, fill: Fill, dtype: str) -> None:
    pipeline = PROBES[name] if name in PROBES else SENSITIVE[int(name)]
    inputs = make_inputs(pipeline, dtype, fill, 0)
    accuracy = accuracy_of(run(pipeline, inputs), refer_for(pipeline, inputs, fill))
    assert accuracy.ok, str(accuracy)
    if fill is Fill.INTEGERS and is_exact(pipeline, dtype, fill):
        assert accuracy.ratio == 0, f"not the same bits: {accuracy}"


@given(
    pipeline=pipelines(),
    dtype=st.sampled_from(DTYPES),
    fill=st.sampled_from(Fill),
    seed=st.integers(0, 1000),
)
@settings(max_examples=300)
def test_any_pipeline_is_right(pipeline, dtype: str, fill: Fill, seed: int) -> None:
    assume(pipeline.n > 0)
    inputs = make_inputs(pipeline, dtype, fill, seed)
    accuracy = accuracy_of(run(pipeline, inputs), refer_for(pipeline, inputs, fill))
    assert accuracy.ok, str(accuracy)


def test_more_rows_than_blocks(monkeypatch) -> None:
    monkeypatch.setattr(cuda_kernels, "_MOST_ROWS", 2)
    pipeline = PROBES["primes"]
    inputs = make_inputs(pipeline, "float32", Fill.INTEGERS, 1)
    assert cuda_kernels.grid_of(pipeline)[1] == 2
    accuracy = accuracy_of(run(pipeline, inputs), refer_for(pipeline, inputs, Fill.INTEGERS))
    assert accuracy.ratio == 0


def test_the_formats_of_16_bits_are_those_of_numpy() -> None:
    every = np.arange(1 << 16, dtype="uint16")
    wide = np.empty(every.size, "float32")
    library = stand_in.compiled()
    library.widen_float16(*(ctypes.c_void_p(a.ctypes.data) for a in (every, wide)), every.size)
    np.testing.assert_array_equal(wide, every.view("float16").astype("float32"))
    # Every float16, what lies halfway to the next one, and a step to either side of that.
    steps = np.array([0, 0xFFF, 0x1000, 0x1001, 0x7FFF, 0x8000], "uint32")
    halfway = wide.view("uint32")[:, None] + steps
    random = np.random.RandomState(0).randint(0, 1 << 32, 1 << 18, dtype="uint32")
    values = np.concatenate([halfway.ravel(), random]).view("float32")
    for name in ("float16", "bfloat16"):
        rounded = np.empty(values.size, "uint16")
        pointers = (ctypes.c_void_p(a.ctypes.data) for a in (values, rounded))
        getattr(library, f"round_{name}")(*pointers, values.size)
        with np.errstate(over="ignore", invalid="ignore"):
            expected = values.astype(FORMATS[name].storage)
        np.testing.assert_array_equal(
            rounded.view(expected.dtype).astype("float32"), expected.astype("float32")
        )


# -- NVRTC, which needs no GPU --------------------------------------------------------------------


def nvrtc() -> ctypes.CDLL:
    """The compiler of the wheel nvidia-cuda-nvrtc, or one that the loader finds."""
    packages = Path(sysconfig.get_path("purelib"), "nvidia")
    found = map(str, sorted(packages.glob("*/lib/libnvrtc.so.*[0-9]")))
    for name in (*found, "libnvrtc.so.13", "libnvrtc.so.12"):
        with contextlib.suppress(OSError):
            return ctypes.CDLL(name)
    pytest.skip("NVRTC is not installed: pip install nvidia-cuda-nvrtc-cu12")


@pytest.mark.parametrize("card", ["sm_80", "sm_90"])
def test_the_kernel_compiles_for(card: str) -> None:
    compiler = nvrtc()
    program = ctypes.c_void_p()
    source = cuda_kernels.SOURCE.read_bytes()
    created = compiler.nvrtcCreateProgram(ctypes.byref(program), source, b"", 0, None, None)
    assert created == 0
    options = [f"--gpu-architecture={card}".encode(), b"--std=c++14"]
    failed = compiler.nvrtcCompileProgram(
        program, len(options), (ctypes.c_char_p * len(options))(*options)
    )
    size = ctypes.c_size_t()
    compiler.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    compiler.nvrtcGetProgramLog(program, log)
    assert (failed, log.value) == (0, b""), log.value.decode()  # no warning either
    compiler.nvrtcGetCUBINSize(program, ctypes.byref(size))
    binary = ctypes.create_string_buffer(size.value)
    compiler.nvrtcGetCUBIN(program, binary)
    for dtype in DTYPES:
        assert f"pipeline_{dtype}".encode() in binary.raw

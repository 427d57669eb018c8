"""What `convbench init` writes to begin with computes rightly, where its library is.

By way of `pytest --convbench`, which is tested with it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

import pytest

from convbench import templates
from convbench.backends import find_class
from convbench.cli.init import TEMPLATES
from convbench.errors import BackendUnavailable
from convbench.stimulus.targets import Target

FOLDER = Path(templates.__file__).parent


def conform(
    place: str, folder: Path, *words: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"CONVBENCH_EXAMPLES": "3"} | variables
    # An installation from before the plug-in does not register it.
    known = entry_points(group="pytest11", name="convbench")
    plugin = () if known else ("-p", "convbench.pytest_plugin")
    return subprocess.run(
        [sys.executable, "-m", "pytest", *plugin, "-W", "error", "-q",
         "-rs", "--strict-markers", "--convbench", place, *words],
        cwd=folder, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


def number_passed(done: subprocess.CompletedProcess[str]) -> int:
    (passed,) = re.findall(r"(\d+) passed", done.stdout)
    return int(passed)


def test_there_is_one_for_each_name() -> None:
    assert {path.stem for path in FOLDER.glob("*.py")} - {"__init__"} == {*TEMPLATES}


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_is_right(name: str, tmp_path: Path) -> None:
    place = f"convbench.templates.{name}:MyBackend"
    kind = find_class(Target(place, "", ""))
    missing = [module for module in kind.requires if find_spec(module) is None]
    if missing:
        pytest.skip(f"there is no {' and no '.join(missing)}")
    try:
        kind.devices()
    except BackendUnavailable as error:
        pytest.skip(str(error))
    done = conform(place, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert number_passed(done) > 100


def test_a_suite_by_its_place_stands_beside_what_is_named(tmp_path: Path) -> None:
    (tmp_path / "test_own.py").write_text("def test_own(): pass\n")
    place = "convbench.templates.numpy:MyBackend"
    alone = conform(place, tmp_path, "--collect-only")
    both = conform(place, tmp_path, "--collect-only", "test_own.py")
    assert "test_own" not in alone.stdout
    assert "convbench::TestMyBackend" in alone.stdout
    assert both.stdout.startswith("test_own.py::test_own\n")
    assert "convbench::TestMyBackend::test_layout[mine@cpu-big-endian]\n" in both.stdout
    broken = conform("nowhere:MyBackend", tmp_path)
    assert broken.returncode != 0
    assert "its place is 'nowhere:MyBackend'" in broken.stdout + broken.stderr


# -- Those for a card, without one ----------------------------------------------------------------

CUPY = """
import ctypes, subprocess, tempfile
from functools import cache
from types import SimpleNamespace
import numpy
from numpy import *
from numpy import __version__

asnumpy = numpy.array
cuda = SimpleNamespace(
    Device=lambda number: SimpleNamespace(use=lambda: None, synchronize=lambda: None),
    runtime=SimpleNamespace(
        CUDARuntimeError=RuntimeError, getDeviceCount=lambda: 1, runtimeGetVersion=lambda: 12000
    ),
)

MAIN = '\\n'.join((
    '#include "{shim}"', '{source}', 'extern "C" void run(',
    '  const REAL *x, const REAL *f, const REAL *bias, REAL *y, const int *z, int grid) {{',
    '  on_every_thread({{(unsigned)grid, 1, 1}}, {{128, 1, 1}}, conv, x, f, bias, y, z);', '}}',
))

class RawKernel:
    def __init__(self, source, name, options):
        self._source, self._options = source, options

    def compile(self):
        self._run = compiled(self._source, self._options)

    def __call__(self, grid, block, arrays):
        assert block == (128,)
        assert all(a.flags.c_contiguous for a in arrays)
        self._run(*(ctypes.c_void_p(a.ctypes.data) for a in arrays), *grid)

@cache
def compiled(source, options):
    with tempfile.TemporaryDirectory() as folder:
        made = f"{folder}/kernel.so"
        subprocess.run(
            ["c++", "-O1", "-fPIC", "-shared", *options, "-x", "c++", "-", "-o", made],
            input=MAIN.format(shim=SHIM, source=source), text=True, check=True,
        )
        return ctypes.CDLL(made).run
"""


@pytest.mark.skipif(not shutil.which("c++"), reason="there is no C++ compiler")
@pytest.mark.parametrize("name", ["cupy", "cuda"])
def test_a_template_is_right_on_a_stand_in_for_cupy(name: str, tmp_path: Path) -> None:
    """NumPy in place of CuPy, and a C++ compiler in place of NVRTC."""
    shim = Path(__file__).with_name("cuda_on_cpu.h")
    (tmp_path / "cupy.py").write_text(f"SHIM = {str(shim)!r}\n{CUPY}")
    path = os.pathsep.join((str(tmp_path), os.environ.get("PYTHONPATH", "")))
    done = conform(f"convbench.templates.{name}:MyBackend", tmp_path, PYTHONPATH=path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert number_passed(done) > 100


@pytest.mark.parametrize("pointer", ["*fp32", "*fp64"])
def test_the_kernel_in_triton_compiles(pointer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    triton = pytest.importorskip("triton", reason="there is no triton")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from convbench.templates import triton as template

    monkeypatch.setattr(template, "tl", triton.language)
    kernel = triton.jit(template._conv)
    names = [parameter.name for parameter in kernel.params]
    types = dict.fromkeys(names, "i32") | dict.fromkeys(("x", "f", "bias", "y"), pointer)
    source = ASTSource(kernel, types | {"BLOCK": "constexpr"}, {"BLOCK": 64})
    assert "cubin" in triton.compile(source, target=GPUTarget("cuda", 80, 32)).asm

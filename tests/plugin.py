"""A distribution of faulty backends, as a third party would register them.

Put the folder that :func:`write_plugin` returns on PYTHONPATH and its backends are there.
"""

from __future__ import annotations

from pathlib import Path

FAULTS = {
    "raises": "raise RuntimeError('Blas SGEMM launch failed : m=1, n=6, k=75')",
    "exits": "os._exit(7)",
    "killed": "os.kill(os.getpid(), signal.SIGKILL)",
    "segfaults": "os.kill(os.getpid(), signal.SIGSEGV)",
    "hangs": "time.sleep(3600)",
    "no_memory": "np.empty((1 << 50,), dtype='float64')",
    "wrong": "return 1.001 * y",
    "nan": "return y * np.nan",
    "misshapen": "return y[..., :-1]",
    "prints": "print('noise'); return y",
    "double": "return y.astype('f8')",
    "returns_none": "return None",
    "changes_input": "x[...] = 0; return y",
    "sticky": "Broken.lost = True; raise RuntimeError('an illegal memory access was encountered')",
    "one_buffer": "self.kept = getattr(self, 'kept', y); self.kept[...] = y; return self.kept",
}
"""Backend name -> what happens to every pipeline that has a pool; others are computed right."""

_HEAD = """
import os, signal, sys, time
import numpy as np
from convbench.backends.base import Run
from convbench.backends.numpy import NumpyBackend
from convbench.errors import BackendUnavailable, Unavailability

class Broken(NumpyBackend):
    lost = False

    def build(self, pipeline, weights):
        if self.lost:
            raise RuntimeError('CUDA_ERROR_ILLEGAL_ADDRESS')
        run = super().build(pipeline, weights)
        if pipeline.pool is None:
            return run
        return Run(lambda x: self.fault(run(x), x), "faulty")

class DiesAtImport(NumpyBackend):
    name = "dies_at_import"
    @classmethod
    def devices(cls):
        sys.stderr.write("free(): invalid pointer\\n"); sys.stderr.flush()
        os.abort()

class NotInstalled(NumpyBackend):
    name = "not_installed"
    requires = ("no_such_module_at_all",)
    install = "pip install no-such-module"
    @classmethod
    def devices(cls):
        cls.library()
        return ("cpu",)

class BrokenImport(NotInstalled):
    name = "broken_import"
    requires = ("faulty_library",)
"""

_FAULTY = """
class {name}(Broken):
    name = "{name}"
    def fault(self, y, x):
        {fault}
"""


def write_plugin(folder: Path) -> Path:
    """Write the module, a library that cannot be imported, and the entry points."""
    classes = [_FAULTY.format(name=name, fault=fault) for name, fault in FAULTS.items()]
    (folder / "faulty.py").write_text(_HEAD + "".join(classes))
    (folder / "faulty_library.py").write_text("raise OSError('libfaulty.so.3: cannot open')\n")
    info = folder / "faulty-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty\nVersion: 1.0\n")
    entries = {name: name for name in FAULTS} | {
        "dies_at_import": "DiesAtImport",
        "not_installed": "NotInstalled",
        "broken_import": "BrokenImport",
        "no_class": "nothing",
    }
    lines = [f"{name} = faulty:{value}" for name, value in entries.items()]
    (info / "entry_points.txt").write_text("\n".join(["[convbench.backends]", *lines, ""]))
    return folder

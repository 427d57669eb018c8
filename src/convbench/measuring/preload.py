"""What the server imports from which `convbench bench` forks a process for every target.

Importing TensorFlow takes seconds, and a fork milliseconds. Nothing is run here: no thread, no
context and no cache of a library may exist when the server forks, so that what the processes share
is code alone. A test holds that.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

if suites := os.environ.get("CONVBENCH_SUITES"):
    folder = Path(suites)
    sys.path.insert(0, str(folder.parent))
    importlib.import_module(f"{folder.name}.convbench_common").import_libraries()
    sys.path.pop(0)

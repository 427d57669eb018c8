"""What asv loads here, as `asv.conf.json` says: convbench's plug-in, from wherever it is found.

It is a file beside the configuration, which no asv misses: also one that is not that of `.venv`
takes convbench, from this checkout.
"""

import sys
from pathlib import Path

from asv.console import log

# After what is installed: an editable installation may be of another checkout.
sys.path.append(str(Path(__file__).resolve().parent / "src"))

try:
    import convbench.asv_plugin  # noqa: F401
except Exception as error:
    log.warning(f"without convbench's plug-in: {type(error).__name__}: {error}")

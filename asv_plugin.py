"""What asv loads for convbench, as `asv.conf.json` says: the tab "Backends" of its site.

asv imports a plug-in for every one of its commands, also where it is not the asv of `.venv`. So it
is a file beside the configuration, which no asv misses; it takes convbench from this checkout where
it is not installed; and what goes wrong costs the tab, and no measurement.
"""

import sys
from pathlib import Path

from asv.console import log

try:
    # After what is installed: an editable installation may be of another checkout.
    sys.path.append(str(Path(__file__).resolve().parent / "src"))
    import convbench.report.site.publisher  # noqa: F401  # asv looks for subclasses of its publisher
except Exception as error:
    log.warning(f"without convbench's tab 'Backends': {type(error).__name__}: {error}")

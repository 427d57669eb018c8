"""What asv loads for convbench, as `asv.conf.json` says.

It tells the benchmarks that asv starts where their results go, so that the evidence goes beside
them, and it adds the tab "Backends" to asv's site.

asv imports a plug-in for every one of its commands, also where it is not the asv of `.venv`. So it
is a file beside the configuration, which no asv misses; it takes convbench from this checkout where
it is not installed; and what goes wrong costs that, and no measurement.
"""

import sys
from pathlib import Path

from asv.console import log

# After what is installed: an editable installation may be of another checkout.
sys.path.append(str(Path(__file__).resolve().parent / "src"))

try:
    from convbench.measuring.asv_run import tell

    tell()
except (Exception, SystemExit) as error:  # argparse exits
    log.warning(f"convbench's evidence may go astray: {type(error).__name__}: {error}")

try:
    import convbench.report.site.publisher  # noqa: F401  # asv looks for subclasses of its publisher
except Exception as error:
    log.warning(f"without convbench's tab 'Backends': {type(error).__name__}: {error}")

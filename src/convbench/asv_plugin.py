"""What asv loads for convbench: ``"plugins": [".convbench.asv_plugin"]`` in ``asv.conf.json``.

The dot says that it is a module of ours, and not one in asv's own package. It tells the benchmarks
that asv starts where their results go, so that the evidence goes beside them, and it adds the tab
"Backends" to asv's site. asv imports it for every one of its commands: what goes wrong here costs
that, and no measurement.
"""

from __future__ import annotations

from asv.console import log

try:
    from convbench.measuring.asv_run import tell

    tell()
except (Exception, SystemExit) as error:  # argparse exits
    log.warning(f"convbench's evidence may go astray: {type(error).__name__}: {error}")

try:
    import convbench.report.site.publisher  # noqa: F401  # asv looks for subclasses of its publisher
except Exception as error:
    log.warning(f"without convbench's tab 'Backends': {type(error).__name__}: {error}")

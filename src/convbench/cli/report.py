"""``convbench report``."""

from __future__ import annotations

import argparse
import platform
import re
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convbench.cli.arguments import (
    add_against,
    add_delta,
    add_demands,
    add_results_dir,
    all_workloads,
    chosen_demands,
    chosen_folder,
    here,
)
from convbench.cli.output import say, show
from convbench.errors import InputError
from convbench.machine.files import write
from convbench.machine.git import ancestors, full_hash
from convbench.stimulus.workloads import BUILT_IN, load
from convbench.words.table import line, stacked

if TYPE_CHECKING:
    from rich.console import RenderableType

HELP = "write one page that shows what was measured of a commit, against an earlier one"
DESCRIPTION = """\
The page is one file of HTML that needs no network. HEAD and the base are coordinates as
for `convbench compare`: REVISION[:ENVIRONMENT[:MACHINE]]. docs/report.md says more."""
EPILOG = """\
examples:
  convbench report
  convbench report HEAD --base main --output report.html
  convbench report --charts pictures    the charts as SVG and PNG, too
  convbench report --format svg:timings --output timings.svg

exit codes: 3 git's HEAD was to be shown and was not measured; else 2 head is wrong or failed;
else 3 nothing was measured, or no ancestor to compare with; else as `convbench compare`; 4 bad
input, 70 a defect of convbench. The page is written unless it is 4 or 70"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "head", nargs="?", metavar="HEAD",
        help="default: git's HEAD, or the nearest commit to it that was measured",
    )  # fmt: skip
    parser.add_argument(
        "--base", metavar="COORDINATE",
        help="default: its nearest ancestor that was measured on the same machine",
    )  # fmt: skip
    parser.add_argument(
        "--baseline", metavar="TARGET",
        help="what the other targets are held against; default: numpy@cpu",
    )  # fmt: skip
    parser.add_argument(
        "--output", type=Path, metavar="FILE",
        help="default: .asv/report.html of the project, or .asv/NAME.svg of a picture",
    )  # fmt: skip
    parser.add_argument(
        "--format", dest="drawn", default="html", metavar="FORMAT",
        help="html, the page; or svg:NAME or png:NAME, one of its charts, by its anchor: "
        "svg:timings; default: html",
    )  # fmt: skip
    parser.add_argument(
        "--commit-url", default="", metavar="URL",
        help="what the hash of a commit is appended to, for links to commits: "
        "https://github.com/OWNER/NAME/commit/",
    )  # fmt: skip
    parser.add_argument(
        "--charts", type=Path, metavar="FOLDER", help="also write each chart as SVG and PNG"
    )
    add_delta(parser)
    add_against(parser)
    add_demands(parser)
    add_results_dir(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command; its exit code."""
    from convbench.comparing.comparison import Rule, Verdict
    from convbench.comparing.parts import some

    try:
        from convbench.report import charts, page
        from convbench.report.data import Request, drift_in_words, gather
    except ModuleNotFoundError as error:
        raise InputError(
            f"report: a library that draws is not installed ({error.name}); expected Altair, "
            "Jinja2, pandas and vl-convert. Install them: pip install 'convbench[report]'"
        ) from error
    if not re.fullmatch(r"html|(svg|png):.+", arguments.drawn):
        raise InputError(
            f"report: --format is {arguments.drawn!r}; expected html, or svg:NAME or png:NAME of a"
            " chart. Correct it."
        )
    started_s = time.monotonic()

    def progress(text: str) -> None:
        if time.monotonic() - started_s > 2:
            say(f"{text} ...")

    known = load(BUILT_IN) if arguments.results_dir else all_workloads(here())
    data = gather(
        Request(
            chosen_folder(arguments).results, arguments.head, arguments.base, arguments.baseline,
            Rule(delta=arguments.delta), platform.node(), arguments.results_dir is not None,
            chosen_demands(arguments), arguments.against, _commit_url(arguments),
            {workload.name: str(workload.pipeline) for workload in known},
        ),
        full_hash,
        ancestors,
        progress,
    )  # fmt: skip
    for problem in data.problems:
        say(problem)
    progress("making the page")
    sections = page.sections(data)
    pictures = {chart.id: chart for section in sections for chart in section.charts}
    kind, _, name = arguments.drawn.partition(":")
    if kind == "html":
        first = page.to_html(data, sections).encode()
    elif name in pictures:
        chart = pictures[name]
        first = charts.svg(chart).encode() if kind == "svg" else charts.png(chart)
    else:
        raise InputError(
            f"report: --format: the chart is {name!r}; expected one of this page's:"
            f" {', '.join(pictures) or 'none'}. Name one of these."
        )
    default = "report.html" if kind == "html" else f"{name}.{kind}"
    written = {arguments.output or _usual_output(default): first}
    if arguments.charts is not None:
        progress("drawing the charts")
        for chart in pictures.values():
            written[arguments.charts / f"{chart.id}.svg"] = charts.svg(chart).encode()
            written[arguments.charts / f"{chart.id}.png"] = charts.png(chart)
    for path, content in written.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, content)
    page_path, *chart_paths = map(str, written)

    def listed() -> dict[str, Any]:
        compared = data.comparison.to_dict() if data.comparison else {}
        return {
            "exit_code": data.exit_code(),
            "reason": data.outcome(),
            "page": page_path,
            "charts": chart_paths,
            "head": data.head.to_dict(),
            "base": data.comparison and data.comparison.base.to_dict(),
            "unmeasured": data.unmeasured,
            "power": compared.get("power"),
            "suspects": compared.get("counts", {}).get(Verdict.SUSPECT, 0),
            "against": compared.get("against"),
            "drifts": [asdict(drift) for drift in data.drifts],
            "gate_it": compared.get("gate_it", ""),
            "remarks": [*data.remarks, *compared.get("remarks", ())],
            "problems": list(data.problems),
        }

    def rendered() -> RenderableType:
        too = f" and {len(chart_paths)} pictures in {arguments.charts}" if chart_paths else ""
        drifts = some([*map(drift_in_words, data.drifts)])
        held = data.comparison.against if data.comparison else None
        slower = some(held.lines()) if held else []
        wrote = f"wrote {page_path}{too}"
        said = [data.outcome(), data.baseless, *slower, *drifts, wrote]
        return stacked(map(line, filter(None, said)))

    show(arguments, "report", listed, rendered)
    return data.exit_code()


def _usual_output(name: str) -> Path:
    """In the project; a path from here, where there is one."""
    path = here().root / ".asv" / name
    folder = Path.cwd()
    return path.relative_to(folder) if path.is_relative_to(folder) else path


def _commit_url(arguments: argparse.Namespace) -> str:
    """What was given, if a browser may be sent there."""
    url: str = arguments.commit_url
    if url and not re.fullmatch(r"https?://[!-~]+", url):
        raise InputError(
            f"report: --commit-url is {url!r}; expected an address of http or https, to which the"
            " hash of a commit is appended. Correct it: https://github.com/OWNER/NAME/commit/"
        )
    return url

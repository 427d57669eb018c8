"""Write docs/commands.md, the reference of the commands, from what argparse knows of them.

    python docs/commands.py

Not from its help, whose form differs between versions of Python.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from convbench.cli.main import make_parser

PAGE = Path(__file__).with_name("commands.md")
HEAD = """\
# The commands

<!-- written by `python docs/commands.py`; edit the texts in src/convbench/cli/ instead -->

This is what `--help` says. All commands take `--json`, too, which prints JSON for programs.

| command | what it does |
|---|---|
"""


def page() -> str:
    """All of it, as Markdown."""
    (commands,) = (a for a in make_parser()._actions if isinstance(a, argparse._SubParsersAction))
    lines = {action.dest: action.help or "" for action in commands._choices_actions}
    rows = (
        f"| [`convbench {name}`](#convbench-{name}) | {_cell(lines[name])} |\n" for name in lines
    )
    sections = (_section(name, commands.choices[name]) for name in lines)
    return HEAD + "".join(rows) + "".join(sections)


def _section(name: str, parser: argparse.ArgumentParser) -> str:
    rows = "".join(
        f"| {_cell(_called(action))} | {_cell(parser._get_formatter()._expand_help(action))} |\n"
        for action in parser._actions
        if action.help and not {"--help", "--json"} & {*action.option_strings}
    )
    table = f"\n| argument | what it is |\n|---|---|\n{rows}" if rows else ""
    return (
        f"\n## convbench {name}\n\n```text\n{(parser.description or '').strip()}\n```\n{table}"
        f"\n```text\n{(parser.epilog or '').strip()}\n```\n"
    )


def _called(action: argparse.Action) -> str:
    """How it is written: `--list LIST` or `[HEAD]`."""
    value = str(action.metavar or action.dest)
    if not action.option_strings:
        return f"`[{value}]`" if action.nargs == "?" else f"`{value}`"
    if action.choices is not None and action.metavar is None:
        value = "{" + ",".join(map(str, action.choices)) + "}"
    elif action.metavar is None:
        value = value.upper()
    return f"`{', '.join(action.option_strings)}{f' {value}' * (action.nargs != 0)}`"


def _cell(text: str) -> str:
    """Fit for a table: a bar would end its cell, and an angle begin a tag."""
    return text.replace("|", r"\|").replace("<", "&lt;")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

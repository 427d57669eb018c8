"""Which names are one machine: a runner of CI has another name every day, and the same hardware."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from convbench.results.folder import Folder
from convbench.results.journal import UNREADABLE

_READ_BYTES = 1 << 16
"""So much of a file of evidence is read: a process says at its beginning what its machine is."""


def fingerprint(facts: Mapping[str, Any]) -> str:
    """The hardware in words, of what a process says of its machine; "" if too little is known.

    Where only some of the cores may be used, it says how many: times are others there. The memory
    is rounded up to an eighth of the next power of two, as it is sold: the kernel keeps some of it
    for itself, not always the same.

    Examples
    --------
    >>> fingerprint({"cpu_model": "EPYC", "machine_cores": 2, "memory_bytes": 8_217_329_664})
    'EPYC, 2 cores, 8 GiB'
    """
    cpu, cores = facts.get("cpu_model"), facts.get("machine_cores", facts.get("logical_cores"))
    if not cpu or not isinstance(cores, int):
        return ""
    usable = facts.get("logical_cores")
    few = f"{usable} of " if isinstance(usable, int) and usable < cores else ""
    parts = [str(cpu), f"{few}{cores} cores"]
    memory = facts.get("memory_bytes")
    if isinstance(memory, int) and 0 < memory < _MOST_BYTES:
        parts.append(f"{_as_sold(memory):g} GiB")
    cards = facts.get("gpus")
    if isinstance(cards, Sequence) and not isinstance(cards, str):
        parts += [str(card.get("name")) for card in cards if isinstance(card, Mapping)]
    return ", ".join(parts)


_MOST_BYTES = 1 << 60
"""No machine says that it has more; of what does, the number is left out."""


def _as_sold(memory_bytes: int) -> float:
    eighth = 1 << max((memory_bytes - 1).bit_length() - 3, 0)
    return -(-memory_bytes // eighth) * eighth / (1 << 30)


def of_asv(described: Mapping[str, Any]) -> str:
    """The same, of asv's ``machine.json``, which knows of no GPU."""
    known: dict[str, Any] = {"cpu_model": described.get("cpu")}
    for name, key in (("num_cpu", "machine_cores"), ("ram", "memory_bytes")):
        if (text := str(described.get(name, ""))).isdecimal():
            known[key] = int(text)
    return fingerprint(known)


def names(folder: Folder) -> dict[str, str]:
    """What each machine is called that has another name, too: by its own, the one for all of them.

    That is what ``[tool.convbench.machines]`` of the project's pyproject.toml has for its
    fingerprint, or else the first of the names.
    """
    folders = (*folder.results.glob("*/"), *folder.evidence.glob("*/"))
    own = sorted({path.name for path in folders if path.is_dir()})
    aliases = _aliases(folder.results)
    if len(own) < 2 and not aliases:
        return {}
    called: dict[str, str] = {}
    found: dict[str, str] = {}
    for name in own:
        own_hardware = hardware(folder, name)
        one = aliases.get(own_hardware) or called.setdefault(own_hardware, name)
        if own_hardware and one != name:
            found[name] = one
    return found


def hardware(folder: Folder, name: str) -> str:
    """The fingerprint of a machine, by one of its own names; "" if too little is known.

    It is that of the newest evidence, which knows more, or of what asv was told.
    """
    try:
        files = sorted((folder.evidence / name).glob("*.jsonl"), key=lambda p: -p.stat().st_mtime)
        for path in files[:1]:
            with path.open("rb") as file:
                lines = file.read(_READ_BYTES).split(b"\n")
            for line in lines:
                if b'"machine": {' in line and (found := _of_line(line)):
                    return found
        with (folder.results / name / "machine.json").open("rb") as file:
            return of_asv(dict(json.loads(file.read())))
    except UNREADABLE:
        return ""


def _of_line(line: bytes) -> str:
    try:
        return fingerprint(dict(json.loads(line)["machine"]))
    except UNREADABLE:
        return ""


def _aliases(results: Path) -> dict[str, str]:
    for folder in results.resolve().parents:
        if (path := folder / "pyproject.toml").is_file():
            try:
                told = tomllib.loads(path.read_text(encoding="utf-8"))
                machines = dict(told.get("tool", {}).get("convbench", {}).get("machines", {}))
            except UNREADABLE:
                return {}
            return {str(hardware): str(name) for hardware, name in machines.items()}
    return {}

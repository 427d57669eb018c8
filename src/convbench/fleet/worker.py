"""What a worker does: it has what is measured run apart from itself, and sends what came of it.

What comes and what goes is text and bytes. The code of a commit is never loaded into the worker's
own process, which only starts one of `MODULES` behind a guard and reads a file.
"""

from __future__ import annotations

import json
import os
import platform
import stat
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from convbench import __version__
from convbench.fleet import guard
from convbench.fleet.slots import FOLDER, PASSED, USER
from convbench.measuring.asv_store import describe_machine
from convbench.results.journal import UNREADABLE
from convbench.words.status import Exit

MODULES = {"bench": "convbench.fleet.measured", "gate": "convbench.fleet.gated"}
"""By what is asked for."""

MOST_BYTES = 1 << 28
"""Of what one unit sends."""

_SAID_BYTES = 4000


def measure(asked: str, pack: bytes) -> bytes:
    """Measure what is asked for, or say why not.

    Parameters
    ----------
    asked : str
        JSON: what :func:`convbench.fleet.client.order` writes.
    pack : bytes
        The commits, as git packs them.

    Returns
    -------
    bytes
        JSON. ``code``, the exit status of what was run, or 4 if it never was; ``said``, the last
        that was written to standard error; what its module says; ``worker``, ``elapsed_s``, and
        ``now_s`` by the clock of this machine.
    """
    started_s = time.monotonic()
    try:
        found = _measured(json.loads(asked), pack)
    except OSError as error:  # no room, or no permission: of this machine, and no one else's
        found = {"code": Exit.INPUT, "said": f"the worker cannot work: {error}"}
    about = {
        "worker": platform.node(), "elapsed_s": round(time.monotonic() - started_s, 3),
        "now_s": time.time(),
    }  # fmt: skip
    return json.dumps({"said": "", **found, **about}).encode()


def _measured(asked: dict[str, Any], pack: bytes) -> dict[str, Any]:
    if asked["convbench"] != __version__:
        said = f"the worker has convbench {__version__}, and {asked['convbench']} asks"
        return {"code": Exit.INPUT, "said": said}
    user = os.environ.get(USER, "")
    number, group = guard.identity(user)
    root = folder() / f"as-{user}" if user else folder()
    cores = sorted(os.sched_getaffinity(0))
    card = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = [f"core-{core}.lock" for core in cores] + ([f"card-{card}.lock"] if card else [])
    own = root / f"cores-{cores[0]}-{cores[-1]}"
    with (
        guard.alone(folder() / "alone", names) as held,
        tempfile.TemporaryDirectory(prefix="convbench-") as made,  # short: it will have sockets
    ):
        home, said_to = Path(made, "home"), Path(made, "said")
        for path in (root / "repositories", own):
            path.mkdir(parents=True, exist_ok=True)
        home.mkdir(mode=0o700)
        described = {**describe_machine(), "machine": asked["machine"]}
        about = json.dumps({"version": 1, asked["machine"]: described})
        (home / ".asv-machine.json").write_text(about, encoding="utf-8")
        (home / "pack").write_bytes(pack)
        (home / "asked.json").write_text(json.dumps(asked), encoding="utf-8")
        if user:
            Path(made).chmod(0o711)
            for path in (root / "repositories", own, *home.iterdir(), home):
                os.chown(path, number, group)
        module = ("-m", MODULES[asked["do"]])
        code = guard.run(
            [sys.executable, *module, str(root), str(own), str(home)],
            home, said_to, variables=_variables(home), timeout_s=asked["timeout_s"], held=held,
            user=user,
        )  # fmt: skip
        said = _end_of(said_to)
        if code == guard.TIMED_OUT:
            said = f"{said}\nnot done within {asked['timeout_s']:.0f} s, so it was ended"
        result = None if code else _written(home / "result.json", number)
        return {"code": code or Exit.INPUT} | (result or {}) | {"said": said}


def _end_of(said: Path) -> str:
    with said.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _SAID_BYTES))
        return file.read().decode(errors="replace")


def _written(path: Path, user: int) -> dict[str, Any] | None:
    """What that user has written there; None of a link, a pipe, another's file, or no JSON."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            known = os.fstat(file.fileno())
            is_his = stat.S_ISREG(known.st_mode) and known.st_uid == user
            if not is_his or known.st_size > MOST_BYTES:
                return None
            result = json.loads(file.read())
    except UNREADABLE:
        return None
    return result if isinstance(result, dict) else None


def folder() -> Path:
    """Where clones, checkouts and environments are kept."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get(FOLDER) or Path(caches) / "convbench" / "fleet")


def _variables(home: Path) -> dict[str, str]:
    """Of the environment what may be seen, and a home in which nothing else is."""
    seen = {*guard.SEEN, *os.environ.get(PASSED, "").split()}
    kept = {name: value for name, value in os.environ.items() if name in seen}
    return kept | {"HOME": str(home), "TMPDIR": str(home)}

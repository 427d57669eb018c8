"""What a watch shows: its last runs, their pages, asv's, and whether it is well.

It reads files and writes none. All that can be asked for with a token is that the watch looks now.
"""

from __future__ import annotations

import hmac
import json
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import bottle

from convbench.errors import InputError
from convbench.results.folder import short
from convbench.watching.notify import TOKEN, is_loopback
from convbench.watching.rounds import why
from convbench.watching.state import BAD, Stage, State, read
from convbench.words.numbers import date

PERIODS = 3
"""So many periods without a round that went well, and the watch is not well."""

_SHOWN = 50
_LEAST_LETTERS = 16
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Server": "convbench",
}
_OURS = (
    "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'"
)
# The code under test can have written these two: nothing that they do reaches anybody else.
_REPORT = (
    "sandbox allow-scripts allow-downloads; default-src 'none'; script-src 'unsafe-inline';"
    " style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"
)
_SITE = (
    "default-src 'self' data:; script-src 'self' 'unsafe-inline' 'unsafe-eval' https:;"
    " style-src 'self' 'unsafe-inline' https:; font-src 'self' https:; form-action 'none';"
    " frame-ancestors 'none'"
)


def token(file: Path | None) -> str:
    """The token, from a file or the environment, out of which it is taken; "" if there is none.

    Raises
    ------
    InputError
        If others can read the file, or it is too short to be one.
    """
    found, where = os.environ.pop(TOKEN, ""), TOKEN
    if file is not None:
        found, where = file.read_text(encoding="utf-8").strip(), str(file)
        if (mode := file.stat().st_mode & 0o777) & 0o077:
            raise InputError(
                f"{file}: the mode of the token's file is {mode:o}; expected 600. `chmod 600` it."
            )
    if (found or file) and (len(found) < _LEAST_LETTERS or not found.isprintable()):
        raise InputError(
            f"{where}: the token is too short or no line of text; expected {_LEAST_LETTERS} letters"
            " at least. `python -c 'import secrets; print(secrets.token_urlsafe())'` makes one."
        )
    return found


def address(text: str, *, public: bool, token: str) -> tuple[str, int]:
    """Read ``HOST:PORT``.

    Raises
    ------
    InputError
        If it is none, or others can reach it and that was not asked for.
    """
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise InputError(
            f"--serve: the address is {text!r}; expected HOST:PORT. Write it as in 127.0.0.1:8042."
        )
    if not is_loopback(host) and not (public and token):
        raise InputError(
            f"--serve: the host is {host}, which others can reach; expected one of this machine, or"
            f" --public and a token. Put a proxy with TLS before it, or see to both ({TOKEN})."
        )
    return host, int(port)


def health(state: State, every_s: float, now_s: float) -> tuple[bool, dict[str, Any]]:
    """Whether a watch is well, and what is to be said of it."""
    age_s = None if state.round_s is None else now_s - state.round_s
    at_work = state.doing is not None and now_s < state.doing.until_s
    well = at_work or (age_s is not None and age_s <= PERIODS * every_s)
    waiting = sum(commit.waits for commit in state.commits)
    doing = state.doing and {"step": state.doing.step, "commit": state.doing.commit}
    return well, {
        "ok": well,
        "last_round": date(state.round_s or 0.0),
        "age_s": age_s and round(age_s, 1),
        "every_s": every_s,
        "doing": doing,
        "waiting": waiting,
        "problem": state.problem,
    }


@dataclass
class Site:
    """The pages of a watch.

    Attributes
    ----------
    folder : Path
        ``.asv/watch`` of a project.
    token : str
        Without one, nobody may ask it to look.
    look : callable
        Asks it to.
    public : bool
        Whether others may reach it, by whatever name.
    """

    folder: Path
    every_s: float
    look: Callable[[], None]
    token: str = field(default="", repr=False)
    public: bool = False
    hosts: frozenset[str] = frozenset()

    def app(self) -> bottle.Bottle:
        """All of it, for any server of WSGI."""
        app = bottle.Bottle()
        app.route("/", "GET", self._index)
        app.route("/healthz", "GET", self._health)
        app.route(
            "/style.css", "GET", lambda: self._file(Path(__file__).parent, "style.css", _OURS)
        )
        app.route("/report/<commit:re:[0-9a-f]{40,64}>", "GET", self._report)
        app.route("/site/", "GET", lambda: self._file(self.folder / "site", "index.html", _SITE))
        app.route(
            "/site/<name:path>", "GET", lambda name: self._file(self.folder / "site", name, _SITE)
        )
        app.route("/check", "POST", self._check)
        app.add_hook("before_request", self._guard)
        app.default_error_handler = _error
        return app

    def _guard(self) -> None:
        """Another name for this machine is a page elsewhere that wants to read this one."""
        if not self.public and bottle.request.environ.get("HTTP_HOST") not in self.hosts:
            raise bottle.HTTPError(421)

    def _index(self) -> bottle.HTTPResponse:
        state = read(self.folder / "state.json")
        _, about = health(state, self.every_s, time.time())
        rows = [
            {
                "when": date(c.done_s or c.found_s),
                "commit": c.commit,
                "short": short(c.commit),
                "subject": c.subject,
                "branches": ", ".join(c.branches),
                "verdict": str(c.verdict) if c.stage is Stage.DONE else "waits",
                "gone": c.vanished,
                "tone": "bad" if c.verdict in BAD else "",
                "why": why(c),
                "report": c.report,
            }
            for c in reversed(state.commits[-_SHOWN:])
        ]
        text = bottle.template(
            (Path(__file__).parent / "index.html").read_text(encoding="utf-8"),
            about=about, rows=rows, site=(self.folder / "site" / "index.html").is_file(),
            tips=state.tips, short=short,
        )  # fmt: skip
        return _answer(200, text, "text/html; charset=utf-8", _OURS)

    def _health(self) -> bottle.HTTPResponse:
        well, about = health(read(self.folder / "state.json"), self.every_s, time.time())
        return _answer(200 if well else 503, json.dumps(about) + "\n", "application/json", _OURS)

    def _report(self, commit: str) -> bottle.HTTPResponse:
        return self._file(self.folder / "runs" / commit, "report.html", _REPORT)

    def _file(self, folder: Path, name: str, policy: str) -> bottle.HTTPResponse:
        """A file of a folder: neither a path nor a link in it leads out."""
        root = folder.resolve()
        path = (root / name).resolve() if "\0" not in name else root
        if not path.is_relative_to(root) or not path.is_file():
            return _error(bottle.HTTPError(404))
        found = bottle.static_file(str(path.relative_to(root)), root=str(root))
        for key, value in {**_HEADERS, "Content-Security-Policy": policy}.items():
            found.set_header(key, value)
        return found

    def _check(self) -> bottle.HTTPResponse:
        given: str = bottle.request.environ.get("HTTP_AUTHORIZATION", "")
        wanted = f"Bearer {self.token}"
        if not self.token or not hmac.compare_digest(given.encode(), wanted.encode()):
            return _error(bottle.HTTPError(403))
        self.look()
        return _answer(202, "it looks\n", "text/plain; charset=utf-8", _OURS)


def _answer(status: int, text: str, kind: str, policy: str) -> bottle.HTTPResponse:
    headers = {**_HEADERS, "Content-Type": kind, "Content-Security-Policy": policy}
    return bottle.HTTPResponse(text, status, headers)


def _error(error: bottle.HTTPError) -> Any:
    """The status and no more: neither what was asked for nor what went wrong is repeated."""
    line = f"{error.status_line}\n"
    return _answer(error.status_code, line, "text/plain; charset=utf-8", _OURS)


class Server(ThreadingMixIn, WSGIServer):
    """Answers each in a thread of its own."""

    daemon_threads = True

    @property
    def address(self) -> str:
        """What to open."""
        host = str(self.server_address[0])
        return f"http://{f'[{host}]' if ':' in host else host}:{self.server_port}"


class _Handler(WSGIRequestHandler):
    timeout = 15  # for who connects and says nothing

    def log_message(self, *_: object) -> None:
        """Nothing is logged: an address can hold what is nobody's business."""


def start(site: Site, host: str, port: int) -> Server:
    """Serve it, in threads of its own; port 0 takes one that is free."""
    kind = (
        type("Server6", (Server,), {"address_family": socket.AF_INET6}) if ":" in host else Server
    )
    try:
        server: Server = make_server(host, port, site.app(), kind, _Handler)
    except OSError as error:
        raise InputError(
            f"--serve: the address {host}:{port} is not free ({error.strerror}); expected one that"
            " nobody listens at. Choose another port."
        ) from error
    shown = f"[{host}]" if ":" in host else host
    site.hosts = frozenset(f"{name}:{server.server_port}" for name in (shown, "localhost"))
    threading.Thread(target=server.serve_forever, name="convbench-serve", daemon=True).start()
    return server

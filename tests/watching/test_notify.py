"""Telling somebody: a real server, and a real command."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from convbench.errors import InputError
from convbench.watching.notify import Webhook, is_loopback, ways

from ..schemas import conforming
from .scene import Scene


class Receiver:
    """A server that keeps what is posted to it, and answers as it is told to."""

    def __init__(self) -> None:
        self.posted: list[tuple[str, str, dict]] = []
        self.answers: list[int] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                kind = self.headers["Content-Type"]
                receiver.posted.append((self.path, kind, json.loads(body)))
                code = receiver.answers.pop(0) if receiver.answers else 204
                self.send_response(code)
                if code == 302:
                    self.send_header("Location", "/elsewhere")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook/s3cret-part"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.server.shutdown()
    made.server.server_close()


NOTICE = {"id": "1", "text": "a"}


def test_a_webhook_takes_json(receiver: Receiver) -> None:
    assert ways(receiver.url, ())["webhook"](NOTICE) == ""
    assert receiver.posted == [("/hook/s3cret-part", "application/json", NOTICE)]


@pytest.mark.parametrize(("code", "posts"), [(500, 1), (302, 1), (404, 1)])
def test_what_goes_wrong_names_the_host_alone_and_it_goes_nowhere_else(
    receiver: Receiver, code: int, posts: int
) -> None:
    receiver.answers = [code]
    hook = Webhook.of(receiver.url)
    assert hook(NOTICE) == (
        f"the webhook at 127.0.0.1 answered {code}: it is told again in the next round"
    )
    assert len(receiver.posted) == posts
    assert "s3cret" not in repr(hook)


def test_where_nobody_listens(receiver: Receiver) -> None:
    hook = Webhook.of(receiver.url)
    receiver.server.shutdown()
    receiver.server.server_close()
    said = hook(NOTICE)
    assert said.startswith("the webhook at 127.0.0.1 is not reached (ConnectionRefusedError)")
    assert "s3cret" not in said


@pytest.mark.parametrize(
    "url",
    ["http://example.org/s3cret", "ftp://localhost/s3cret", "s3cret", "https://[s3cret", "$NO"],
)
def test_other_addresses_are_refused_and_not_shown(url: str) -> None:
    with pytest.raises(InputError, match="webhook is another address") as refusal:
        ways(url, ())
    assert "s3cret" not in str(refusal.value)


def test_an_address_can_be_in_a_variable_which_nobody_inherits(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOOK", "https://example.org/s3cret")
    seen = tmp_path / "seen"
    code = f"import os, pathlib; pathlib.Path({str(seen)!r}).write_text(str('HOOK' in os.environ))"
    told = ways("$HOOK", (sys.executable, "-c", code))
    assert (told["webhook"].host, told["command"](NOTICE)) == ("example.org", "")
    assert seen.read_text() == "False"


def test_what_becomes_of_a_command() -> None:
    says = "import json, sys; sys.exit(json.load(sys.stdin)['id'] != '1')"
    assert ways("", (sys.executable, "-c", says))["command"](NOTICE) == ""
    assert "ended with 3" in ways("", (sys.executable, "-c", "exit(3)"))["command"](NOTICE)
    assert "was not started (No such file" in ways("", ("/no/such",))["command"](NOTICE)


@pytest.mark.parametrize(
    ("host", "alone"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False),
     ("example.org", False), ("localhost.example.org", False), ("10.0.0.1", False)],
)  # fmt: skip
def test_which_hosts_are_this_machine(host: str, alone: bool) -> None:
    assert is_loopback(host) is alone


def test_what_could_not_be_told_is_told_in_the_next_round(scene: Scene, receiver: Receiver) -> None:
    scene.notify(webhook=receiver.url)
    scene.watch()
    bad = scene.commit("2", "\x1b[31m<b>red</b>")
    receiver.answers = [503]
    _, said = scene.watch(code=1)
    assert scene.commits[bad]["untold"] == ["webhook"]
    assert len(scene.told()) == 1  # the other way is not held up
    state, said_later = scene.watch()
    assert scene.commits[bad]["untold"] == []
    (_, _, first), (_, _, second) = receiver.posted
    assert first == second == scene.told()[0]
    conforming(json.dumps(first))
    assert first["id"] == scene.commits[bad]["notice"]
    assert first["text"] == f"convbench: {bad[:8]} (?[31m<b>red</b>) is slower: 2 after 1"
    for text in (said, said_later, json.dumps(state)):
        assert "s3cret" not in text
    kept = [p for p in (scene.project / ".asv").rglob("*") if p.is_file()]
    assert [p for p in kept if b"s3cret" in p.read_bytes()] == []

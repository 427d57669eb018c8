"""What a watch shows, asked for as a browser does; and what it refuses."""

from __future__ import annotations

import http.client
import json
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from convbench.errors import InputError
from convbench.watching.state import Book, Doing, Stage, State, Verdict, Watched

serve = pytest.importorskip("convbench.watching.serve", reason="bottle is not installed")

from .scene import Scene  # noqa: E402

TOKEN = "a-token-of-this-test"
HOSTILE = "<script>window.pwned = 1</script>\"'&{{1+1}}"
NAMES = [f"{digit}" * 40 for digit in "abcd"]


def filled(folder: Path) -> State:
    """A watch that has seen some things."""
    now_s = time.time()
    common = {"branches": ("main", f"x{HOSTILE}"), "found_s": now_s, "stage": Stage.DONE}
    book = Book(folder)
    book.change(
        tips={"main": NAMES[3]}, round_s=now_s, problem="",
        commits=(
            Watched(NAMES[0], "Begin", verdict=Verdict.FIRST, done_s=now_s, **common),
            Watched(NAMES[1], HOSTILE, verdict=Verdict.SLOWER, reason=f"1.5x slower {HOSTILE}",
                    report=True, blamed=(NAMES[0], NAMES[1]), done_s=now_s, **common),
            Watched(NAMES[2], "Gone", verdict=Verdict.FINE, vanished=True, done_s=now_s, **common),
            replace(Watched(NAMES[3], "Later", **common), stage=Stage.FOUND),
        ),
    )  # fmt: skip
    for path, text in {
        f"runs/{NAMES[1]}/report.html": "<p>the report</p>",
        "site-1/index.html": "<p>asv</p>",
        "site-1/graphs/a.json": "[]",
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    (folder / "site").symlink_to("site-1")
    return book.state


class Served:
    """A server, and what it was asked to do."""

    def __init__(self, folder: Path, token: str = TOKEN) -> None:
        self.folder, self.looks = folder, 0
        site = serve.Site(folder, 60.0, self.look, token)
        self.server = serve.start(site, "127.0.0.1", 0)

    def look(self) -> None:
        self.looks += 1

    def ask(
        self, path: str, method: str = "GET", **headers: str
    ) -> tuple[int, dict[str, str], str]:
        """The path is sent as it stands."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.server_port, timeout=10)
        connection.putrequest(method, path, skip_host="Host" in headers)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, dict(answer.getheaders()), text


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("watch")
    filled(folder)
    secret = folder / "token"
    secret.write_text("window-to-the-secret")
    (folder / "site-1" / "link").symlink_to(secret)
    (folder / "site-1" / "up").symlink_to(folder)
    made = Served(folder)
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_the_index_names_the_last_runs_and_links_their_pages(served: Served) -> None:
    status, headers, text = served.ask("/")
    assert status == 200
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    for name in NAMES:
        assert name[:8] in text
    assert text.index(NAMES[3][:8], text.index("Last runs")) < text.index("Begin")
    assert "slower" in text
    assert "on no branch any more" in text
    for link in (f"/report/{NAMES[1]}", "/site/"):
        assert f'href="{link}"' in text
        assert served.ask(link)[0] == 200
    assert f"/report/{NAMES[0]}" not in text


def test_nothing_of_a_commit_is_markup(served: Served) -> None:
    _, headers, text = served.ask("/")
    assert "<script" not in text
    assert "&lt;script&gt;window.pwned" in text
    assert "{{1+1}}" in text  # and no template either
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")


@pytest.mark.parametrize(
    "path", ["/", "/healthz", "/style.css", "/site/", f"/report/{NAMES[1]}", "/nothing"]
)
def test_every_answer_says_what_a_browser_may_do(served: Served, path: str) -> None:
    _, headers, _ = served.ask(path)
    policy = headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in policy
    assert policy.startswith("sandbox allow-scripts") == path.startswith("/report/")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "Python" not in headers.get("Server", "")


@pytest.mark.parametrize(
    "path",
    [
        "/site/../state.json", "/site/%2e%2e/state.json", "/site/..%2fstate.json",
        "/site/graphs/../../state.json", "/site//etc/passwd", "/site/%2fetc%2fpasswd",
        "/site/..\\state.json", "/site/state.json%00", "/site/graphs", "/site/link",
        "/site/up/state.json",
        f"/report/../{NAMES[1]}", f"/report/{NAMES[0]}", "/report/..%2f..%2fstate.json",
        "/style.css/../serve.py", "/state.json", "/lock",
    ],
)  # fmt: skip
def test_no_path_leads_out(served: Served, path: str) -> None:
    status, _, text = served.ask(path)
    assert status in {400, 404}
    assert "secret" not in text
    assert "schema" not in text
    assert path not in text


def test_what_is_in_a_folder_of_the_site_is_served(served: Served) -> None:
    assert served.ask("/site/graphs/a.json")[::2] == (200, "[]")


def test_looking_now_needs_the_token(served: Served) -> None:
    right = f"Bearer {TOKEN}"
    for given in ("", "Bearer ", f"Bearer {TOKEN[:-1]}", f"{right}x", TOKEN, "Bearer \xe9"):
        assert served.ask("/check", "POST", Authorization=given)[0] == 403
    assert served.looks == 0
    assert served.ask("/check", "POST", Authorization=right)[0] == 202
    assert served.looks == 1
    assert served.ask("/check", Authorization=right)[0] == 405
    assert served.ask(f"/check?token={TOKEN}", "POST")[0] == 403


def test_without_a_token_nobody_may(tmp_path: Path) -> None:
    filled(tmp_path)
    served = Served(tmp_path, token="")
    for given in ("", "Bearer ", "Bearer"):
        assert served.ask("/check", "POST", Authorization=given)[0] == 403
    served.server.shutdown()
    served.server.server_close()
    assert served.looks == 0


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", ["/", "/healthz", "/site/"])
def test_the_rest_is_only_read(served: Served, method: str, path: str) -> None:
    assert served.ask(path, method)[0] == 405


def test_a_page_elsewhere_that_calls_itself_us_reads_nothing(served: Served) -> None:
    port = served.server.server_port
    for host in ("evil.example", f"evil.example:{port}", "", "127.0.0.1"):
        status, _, text = served.ask("/", Host=host)
        assert (status, "Begin" in text) == (421, False)
    for host in (f"localhost:{port}", f"127.0.0.1:{port}"):
        assert served.ask("/", Host=host)[0] == 200


# -- Health ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "well"),
    [
        (State(), False),
        (State(round_s=1000.0), True),
        (State(round_s=1000.0 - 181), False),
        (State(round_s=1000.0 - 179, problem="git fetch ended with 128"), True),
        (State(doing=Doing("measure", "a", 0.0, 1001.0, 1)), True),
        (State(doing=Doing("measure", "a", 0.0, 999.0, 1)), False),
    ],
)
def test_when_a_watch_is_well(state: State, well: bool) -> None:
    assert serve.health(state, 60.0, 1000.0)[0] is well


def test_a_monitor_is_told(served: Served) -> None:
    status, headers, text = served.ask("/healthz")
    about = json.loads(text)
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert (about["ok"], about["waiting"], about["every_s"]) == (True, 1, 60.0)
    assert 0 <= about["age_s"] < 60


def test_what_is_not_well_or_damaged(served: Served) -> None:
    path = served.folder / "state.json"
    kept = path.read_bytes()
    try:
        Book(served.folder).change(round_s=time.time() - 200)
        status, _, text = served.ask("/healthz")
        assert (status, json.loads(text)["ok"]) == (503, False)
        assert "It is not well" in served.ask("/")[2]
        path.write_text("{secret")
        for page in ("/", "/healthz"):
            status, _, text = served.ask(page)
            assert (status, text) == (500, "500 Internal Server Error\n")
    finally:
        path.write_bytes(kept)


# -- Where, and with which token -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "public", "token", "why"),
    [
        ("8042", False, "", "expected HOST:PORT"),
        (":8042", False, "", "expected HOST:PORT"),
        ("127.0.0.1:x", False, "", "expected HOST:PORT"),
        ("127.0.0.1:99999", False, "", "expected HOST:PORT"),
        ("0.0.0.0:8042", False, TOKEN, "which others can reach"),
        ("0.0.0.0:8042", True, "", "which others can reach"),
        ("[::]:8042", False, "", "the host is ::, which others can reach"),
        ("example.org:80", False, "", "which others can reach"),
    ],
)
def test_addresses_that_are_refused(text: str, public: bool, token: str, why: str) -> None:
    with pytest.raises(InputError, match=why) as refusal:
        serve.address(text, public=public, token=token)
    assert TOKEN not in str(refusal.value)


def test_addresses_that_are_taken() -> None:
    assert serve.address("127.0.0.1:0", public=False, token="") == ("127.0.0.1", 0)
    assert serve.address("[::1]:80", public=False, token="") == ("::1", 80)
    assert serve.address("0.0.0.0:80", public=True, token=TOKEN) == ("0.0.0.0", 80)


def test_a_token_is_taken_out_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(serve.TOKEN, TOKEN)
    assert serve.token(None) == TOKEN
    assert serve.TOKEN not in os.environ
    assert serve.token(None) == ""


def test_a_file_of_a_token_is_nobody_elses(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    path.chmod(0o640)
    with pytest.raises(InputError, match="the mode of the token's file is 640; expected 600"):
        serve.token(path)
    path.chmod(0o600)
    assert serve.token(path) == TOKEN
    path.write_text("short-s3cret")
    with pytest.raises(InputError, match="too short") as refusal:
        serve.token(path)
    assert "s3cret" not in str(refusal.value)
    assert TOKEN not in repr(serve.Site(tmp_path, 1.0, lambda: None, TOKEN))


def test_the_command_serves_while_it_watches(scene: Scene) -> None:
    """Asked to look, it looks at once."""
    path = scene.folder / "token"
    path.write_text(TOKEN)
    path.chmod(0o600)
    process = scene.start("--every", "1h", "--serve", "127.0.0.1:0", "--token-file", str(path))
    try:
        assert process.stderr is not None
        said = next(line for line in process.stderr if "serving at" in line)
        port = int(said.rpartition(":")[2])

        def ask(method: str, path: str) -> int:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request(method, path, headers={"Authorization": f"Bearer {TOKEN}"})
            return connection.getresponse().status

        next(line for line in process.stderr if "the next look" in line)
        assert ask("GET", "/healthz") == 200
        bad = scene.commit("2")
        assert ask("POST", "/check") == 202
        next(line for line in process.stderr if "the next look" in line)
        assert [notice["commit"] for notice in scene.told()] == [bad]
    finally:
        process.terminate()
        out, err = process.communicate(timeout=30)
    assert process.returncode == 143
    assert TOKEN not in out + err

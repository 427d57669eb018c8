"""Telling somebody: a webhook, or a command of theirs.

An address is a secret: whoever has it can write there. What goes wrong is told with its host alone.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import json
import os
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from convbench.errors import InputError

Way = Callable[[Mapping[str, Any]], str]
"""Is given a notice, and says what went wrong, or ""."""

TOKEN = "CONVBENCH_WATCH_TOKEN"  # noqa: S105  # the name of a variable
"""What it holds is ours alone: it is taken out of the environment first."""

_WEBHOOK_S, _COMMAND_S = 15.0, 60.0


@dataclass(frozen=True, slots=True)
class Webhook:
    """An address that takes JSON."""

    url: str = field(repr=False)
    host: str

    @classmethod
    def of(cls, url: str) -> Webhook:
        """An address of https, or of http on this machine.

        Raises
        ------
        InputError
            If it is none, which is not shown.
        """
        with contextlib.suppress(ValueError):
            parts = urllib.parse.urlsplit(url)
            host = parts.hostname or ""
            if host and (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))):
                return cls(url, host)
        raise InputError(
            "watch: notify.webhook is another address (it is not shown: it may be a secret);"
            " expected one of https, or of http on this machine, or $NAME of a variable that has"
            " it. Correct it in [tool.convbench.watch]."
        )

    def __call__(self, notice: Mapping[str, Any]) -> str:
        """Post it."""
        request = urllib.request.Request(  # noqa: S310  # of https, or of this machine
            self.url, json.dumps(notice).encode(), {"Content-Type": "application/json"}
        )
        try:
            with _OPENER.open(request, timeout=_WEBHOOK_S):
                return ""
        except urllib.error.HTTPError as error:
            error.close()
            why = f"answered {error.code}"
        except urllib.error.URLError as error:
            why = f"is not reached ({type(error.reason).__name__})"
        except (OSError, ValueError, http.client.HTTPException) as error:
            why = f"is not reached ({type(error).__name__})"  # what they say can hold the address
        return f"the webhook at {self.host} {why}: it is told again in the next round"


class _Stay(urllib.request.HTTPRedirectHandler):
    """Elsewhere than where it was to go, a notice goes nowhere."""

    def redirect_request(self, *_: object) -> None:
        return None


_OPENER = urllib.request.build_opener(_Stay)


def run_command(
    command: Sequence[str], environment: Mapping[str, str], notice: Mapping[str, Any]
) -> str:
    """Give it to a command, on its standard input."""
    try:
        done = subprocess.run(
            command, input=json.dumps(notice).encode(), env=dict(environment), check=False,
            timeout=_COMMAND_S, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        why = f"ended with {done.returncode}" if done.returncode else ""
    except subprocess.TimeoutExpired:
        why = f"was ended after {_COMMAND_S:.0f} s"
    except OSError as error:
        why = f"was not started ({error.strerror})"
    return why and f"the command of notify {why}: it is told again in the next round"


def ways(webhook: str, command: Sequence[str]) -> dict[str, Way]:
    """How somebody is to be told.

    Parameters
    ----------
    webhook : str
        An address, or ``$NAME`` of a variable, which is taken out of our environment.
    """
    found: dict[str, Way] = {}
    if webhook.startswith("$"):
        webhook = os.environ.pop(webhook[1:], "") or "unset"
    if webhook:
        found["webhook"] = Webhook.of(webhook)
    if command:
        found["command"] = partial(run_command, tuple(command), dict(os.environ))
    return found


def is_loopback(host: str) -> bool:
    """Whether a name or an address is this machine's alone."""
    if host == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False

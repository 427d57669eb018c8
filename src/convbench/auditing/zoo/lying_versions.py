"""The row says that it was made by another release."""

from __future__ import annotations

from convbench.auditing.zoo import Disguise

WHAT = "claims to be another version of NumPy"
SOURCE = ""


class _Versions(Disguise):
    def versions(self) -> dict[str, str]:
        return self.honest.versions() | {"numpy": "99.0"}


disguise = _Versions

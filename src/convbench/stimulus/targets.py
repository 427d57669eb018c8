"""``backend[.variant]@device``: the name of one way to compute on one device."""

from __future__ import annotations

import re
from dataclasses import dataclass

from convbench.errors import TargetError

NAME = re.compile(r"[a-z][a-z0-9_]*")
NAME_IN_WORDS = "a small letter a to z, and then small letters, digits and _"
"""What a backend and a variant may be called."""

_PATTERN = re.compile(
    rf"(?P<backend>{NAME.pattern})(\.(?P<variant>{NAME.pattern}))?@(?P<device>[a-z]+(:\d+)?)"
)


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """A backend, a variant of it ("" for the default) and a device (``cpu``, ``gpu:0``).

    Examples
    --------
    >>> Target.parse("tensorflow.xla@gpu:0")
    Target(backend='tensorflow', variant='xla', device='gpu:0')
    >>> str(Target("numpy", "", "cpu"))
    'numpy@cpu'
    """

    backend: str
    variant: str
    device: str

    @classmethod
    def parse(cls, text: str) -> Target:
        """Read a target.

        Raises
        ------
        TargetError
            If the text is not of that form.
        """
        match = _PATTERN.fullmatch(text)
        if match is None:
            raise TargetError(
                f"target: the name is {text!r}; expected backend[.variant]@device, where a name is"
                f" {NAME_IN_WORDS}. Write it as in tensorflow.xla@cpu; `convbench backends` lists"
                " those there are."
            )
        return cls(match["backend"], match["variant"] or "", match["device"])

    @property
    def kind(self) -> str:
        """The kind of its device: ``cpu``, ``gpu``.

        Examples
        --------
        >>> Target.parse("cupy@gpu:0").kind
        'gpu'
        """
        return kind_of(self.device)

    def __str__(self) -> str:
        variant = f".{self.variant}" if self.variant else ""
        return f"{self.backend}{variant}@{self.device}"


def kind_of(device: str) -> str:
    """``gpu`` of ``gpu:0``."""
    return device.partition(":")[0]

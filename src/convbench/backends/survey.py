"""Which backends and devices there are here, each looked at in a process of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

from convbench.backends import Origin, backend_class, find_backend, origin, registered
from convbench.errors import BrokenContract, TargetError
from convbench.machine.child import START_TIMEOUT_S, Child, Questions
from convbench.machine.failures import explain
from convbench.stimulus.targets import NAME, NAME_IN_WORDS, Target, kind_of
from convbench.words.status import Outcome, Status


@dataclass(frozen=True, slots=True)
class Presence:
    """One registered backend, as it is on this machine.

    Attributes
    ----------
    kinds : tuple of str
        The kinds of device that it knows: ``cpu``, ``gpu``.
    devices : tuple of str
        Those that are there; empty if it cannot be used.
    absence : Outcome, optional
        Why it cannot be used.
    origin : Origin, optional
        Of its class, where that can be imported.
    """

    name: str
    variants: tuple[str, ...] = ("",)
    kinds: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    absence: Outcome | None = None
    origin: Origin | None = None

    def targets(self) -> list[Target]:
        """Every variant on every device that is present."""
        return [Target(self.name, v, device) for device in self.devices for v in self.variants]

    def missing(self) -> dict[Target, Outcome]:
        """The default variant on each kind of device that is not present, and why it is not."""
        present = {kind_of(device) for device in self.devices}
        absence = self.absence or Outcome(
            Status.SKIPPED,
            f"no device: {self.name} finds no GPU here",
            "If the machine has one, see whether `nvidia-smi` finds it and whether this build of"
            f" {self.name} supports CUDA.",
        )
        return {
            Target(self.name, "", kind if kind == "cpu" else f"{kind}:0"): absence
            for kind in self.kinds or ("cpu",)
            if kind not in present
        }

    def check(self, target: Target) -> None:
        """See that there are such a variant and such a kind of device, present or not.

        Raises
        ------
        TargetError
        """
        for what, value, known, to_do in (
            ("variant", target.variant, self.variants, "Leave it and its dot out for the default."),
            ("device", target.kind, self.kinds, "Write it as in cpu or gpu:0."),
        ):
            if known and value not in known:
                raise TargetError(
                    f"{target}: the {what} is {value!r}; expected one of "
                    f"{', '.join(v or '(none)' for v in known)}. {to_do}"
                )


def survey(names: Iterable[str] | None = None) -> list[Presence]:
    """Look at every registered backend, each in a process of its own, all at the same time."""
    chosen = sorted(registered()) if names is None else list(names)
    processes = {name: Child(_look, (name,)) for name in chosen}
    return [_seen(name, child) for name, child in processes.items()]


def _look(name: str, pipe: Questions) -> None:
    """Say what a backend knows, then which devices and versions there are, or why there is none."""
    try:
        kind = backend_class(name)
        known = kind.capabilities
        said = {"variants": list(known.variants), "kinds": _listed(known.devices)}
        for each in (name, *filter(None, said["variants"])):
            if not NAME.fullmatch(each):
                raise BrokenContract(f"the name is {each!r}; expected {NAME_IN_WORDS}")
        pipe.send(said | {"origin": asdict(origin(name))})
        devices = _listed(kind.devices())
        versions = {str(of): str(is_) for of, is_ in kind(devices[0]).versions().items()}
        pipe.send({"devices": devices, "versions": versions})
    except Exception as error:  # likewise
        pipe.send(explain(error))


def _listed(names: Sequence[str]) -> list[str]:
    if isinstance(names, str):  # ("cpu") is not ("cpu",)
        raise BrokenContract(f"the devices are {names!r}, a text; expected a tuple of texts")
    return [*names]


def _seen(name: str, child: Child) -> Presence:
    """Listen to the two messages of :func:`_look`; either may be the reason for an absence."""
    presence = Presence(name)
    answer = child.receive(START_TIMEOUT_S)
    if not isinstance(answer, Outcome):
        variants, kinds = _words(answer["variants"]), _words(answer["kinds"])
        known = Origin(**{key: str(answer["origin"][key]) for key in Origin.__slots__})
        presence = replace(presence, variants=variants, kinds=kinds, origin=known)
        answer = child.receive(START_TIMEOUT_S)
    child.close()
    if isinstance(answer, Outcome):
        return replace(presence, absence=answer)
    versions = {str(name): str(version) for name, version in answer["versions"].items()}
    return replace(presence, devices=_words(answer["devices"]), versions=versions)


def origins(names: Iterable[str]) -> dict[str, Origin]:
    """Where the classes behind names are from, each imported in a process of its own.

    One that cannot be imported is left out.
    """
    children = {name: Child(_say_origin, (name,)) for name in names}
    found = {}
    for name, child in children.items():
        answer = child.receive(START_TIMEOUT_S)
        child.close()
        if isinstance(answer, dict):
            found[name] = Origin(**{key: str(answer[key]) for key in Origin.__slots__})
    return found


def _say_origin(name: str, pipe: Questions) -> None:
    try:
        pipe.send(asdict(origin(name)))
    except Exception as error:  # likewise
        pipe.send(explain(error))


def _words(answer: Iterable[object]) -> tuple[str, ...]:
    return tuple(map(str, answer))


def choose_targets(names: Sequence[str] | None) -> dict[Target, Outcome | None]:
    """Resolve targets to what is known of them: None if present, else why it is absent.

    Parameters
    ----------
    names : sequence of str, optional
        Targets; without any, all variants on all devices that are present, and one entry for every
        kind of device that is not.

    Raises
    ------
    TargetError
        If a target is malformed, or names a backend, a variant or a kind of device that is unknown.
    """
    if not names:
        chosen: dict[Target, Outcome | None] = {}
        for presence in survey():
            chosen.update(dict.fromkeys(presence.targets()))
            chosen.update(presence.missing())
        return dict(sorted(chosen.items(), key=lambda item: (item[1] is not None, item[0])))
    targets = [Target.parse(name) for name in names]
    for target in targets:
        find_backend(target.backend)
    presences = {p.name: p for p in survey(dict.fromkeys(t.backend for t in targets))}
    for target in targets:
        presences[target.backend].check(target)
    return {target: _absence(presences[target.backend], target) for target in targets}


def _absence(presence: Presence, target: Target) -> Outcome | None:
    if target.device in presence.devices:
        return None
    known = presence.missing()
    return next(
        (known[t] for t in known if t.kind == target.kind),
        Outcome(
            Status.SKIPPED,
            f"no device: {presence.name} has {', '.join(presence.devices)} here, not"
            f" {target.device}",
        ),
    )

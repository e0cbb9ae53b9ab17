"""Parts by name: look-up with a helpful error, and parts to and from plain dicts for config files."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

Part = TypeVar("Part")


def nearest(name: str, known: Iterable[str]) -> str:
    """' Did you mean `x`?' for the known name most like `name`, or nothing.

    >>> nearest("eular", ["euler", "heun"])
    ' Did you mean `euler`?'
    """
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean `{found[0]}`?" if found else ""


def lookup(registry: Mapping[str, Part], name: str, kind: str) -> Part:
    """The entry `name` of a swap folder's registry.

    Raises:
        ValueError: unknown name; the message lists the known ones and offers the nearest.
    """
    if name not in registry:
        raise ValueError(f"unknown {kind} `{name}`; known: {', '.join(sorted(registry))}.{nearest(name, registry)}")
    return registry[name]


@dataclass(frozen=True, eq=False)
class OneOf:
    """Annotation of a field that holds a name, or a tuple of names, out of a registry: `Annotated[str, OneOf(CODECS, "codec")]`."""

    known: Collection[str]
    kind: str

    def check(self, value: str | tuple[str, ...]) -> None:
        """Refuse what is not registered by now.

        Raises:
            ValueError: as of `lookup`.
        """
        for name in (value,) if isinstance(value, str) else value:
            lookup(dict.fromkeys(self.known), name, self.kind)


def name_of(registry: Mapping[str, type], part: object) -> str:
    """The registry name of a part (the inverse of `lookup`)."""
    return next(name for name, cls in registry.items() if type(part) is cls)

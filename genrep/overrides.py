"""Configs to json and back, and overrides by dotted name (`train.lr`), for any tree of frozen dataclasses.

A field whose type is the base class of a swap folder holds a part: set it to another part by its registry name alone
(`eval.sampler=heun`), then its fields by further dots (`eval.sampler.num_steps=10`). We do not use tyro: swapping a part by
its registry name is one word here, which tyro expresses only as subcommands.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from functools import cache
from types import NoneType
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from genrep.aligners import ALIGNERS, Aligner
from genrep.backbones import TRUNKS, TrunkConfig
from genrep.posteriors import POSTERIORS, PosteriorEstimator
from genrep.registry import OneOf, lookup, name_of, nearest
from genrep.samplers import SAMPLERS, Sampler
from genrep.schedules import SCHEDULES, Schedule

C = TypeVar("C")

REGISTRIES: dict[type, Mapping[str, type]] = {
    TrunkConfig: TRUNKS,
    Schedule: SCHEDULES,
    Sampler: SAMPLERS,
    Aligner: ALIGNERS,
    PosteriorEstimator: POSTERIORS,
}
"""Base class of each swap folder whose parts sit in configs, and where its parts are registered."""

UNNAMED: dict[type, str] = {TrunkConfig: "dit"}
"""Parts that files of before there was a choice do not name."""


def to_dict(config: object) -> dict[str, Any]:
    """A config as plain json values; a part becomes `{"name": ..., **fields}`."""
    name = part_name(config)
    return ({"name": name} if name else {}) | {key: _plain(getattr(config, key)) for key in hints(type(config))}


def from_dict(data: Mapping[str, Any], kind: type[C]) -> C:
    """The config of class `kind` that `to_dict` made; a missing field takes its default.

    Raises:
        ValueError: an unknown field or part (the nearest is named), or a value out of range.
        TypeError: a value of another type than the field's; nothing is converted.
    """
    return _built(data, kind, "")


def override(config: C, changes: Mapping[str, str]) -> C:
    """A copy of `config` with the fields named by dotted path set from text, as on the command line.

    `none` is None where the field allows it, a tuple is written `a,b`. A part that is named starts from its own defaults,
    unless it is the one already there.

    Raises:
        ValueError: an unknown field or part (the nearest is named), or a value out of range.
        TypeError: text that does not read as the field's type.

    >>> override(SAMPLERS["heun"](), {"num_steps": "7"})
    Heun(num_steps=7, grid='uniform')
    """
    return _changed(config, changes, "")


def part_name(value: object) -> str | None:
    """Registry name of a part; None for anything else.

    >>> part_name(SAMPLERS["heun"]()), part_name(3)
    ('heun', None)
    """
    base = _base(type(value))
    return name_of(REGISTRIES[base], value) if base else None


def paths(config: object, prefix: str = "") -> list[str]:
    """Dotted names of all fields, groups included, in order."""
    found = []
    for key in hints(type(config)):
        value = getattr(config, key)
        found += [prefix + key, *(paths(value, f"{prefix}{key}.") if is_dataclass(value) else [])]
    return found


def require_at_least_one(part: object, remedies: Mapping[str, str]) -> None:
    """Refuse fields of a config below 1.

    Args:
        remedies: by field, what to do instead.
    Raises:
        ValueError: the first that is, and what to do.
    """
    for name, remedy in remedies.items():
        if getattr(part, name) < 1:
            raise ValueError(f"`{name}` must be at least 1; found {getattr(part, name)}. {remedy}")


def require_in(part: object, ranges: Mapping[str, str]) -> None:
    """Refuse fields of a config, numbers or tuples of them, outside an interval.

    Args:
        ranges: by field, the interval as it is written: `[0, 1)`.
    Raises:
        ValueError: the first that is outside.
    """
    for name, interval in ranges.items():
        value, (low, high) = getattr(part, name), map(float, interval[1:-1].split(","))
        for number in value if isinstance(value, tuple) else (value,):
            if not low <= number <= high or (number == low and interval[0] == "(") or (number == high and interval[-1] == ")"):
                raise ValueError(f"`{name}` must lie in {interval}; found {number}.")


def require_known(part: object) -> None:
    """Refuse names of a config that are in no registry (`OneOf`).

    Raises:
        ValueError: the first that is not, and the nearest that is.
    """
    for name, hint in hints(type(part)).items():
        if names := _names(hint):
            names.check(getattr(part, name))


def hints(kind: type) -> dict[str, Any]:
    """Type of each field of a dataclass, in order."""
    known = get_type_hints(kind, include_extras=True)
    return {f.name: known[f.name] for f in fields(kind)}


def describe(hint: Any) -> str:
    """What a field accepts, in words.

    >>> describe(tuple[float, ...] | None)
    'numbers as `a,b`, or none'
    """
    if _optional(hint):
        return f"{describe(_inner(hint))}, or none"
    if names := _names(hint):
        return f"{'names as `a,b`, of' if get_origin(_inner(hint)) is tuple else 'one of'} {', '.join(names.known)}"
    if base := _base(hint):
        return f"one of {', '.join(REGISTRIES[base])}"
    if get_origin(hint) is Literal:
        return f"one of {', '.join(map(str, get_args(hint)))}"
    if get_origin(hint) is tuple:
        return {int: "integers", float: "numbers"}.get(get_args(hint)[0], "names") + " as `a,b`"
    return {int: "an integer", float: "a number", bool: "true or false", str: "text"}.get(hint, "a group of fields")


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return to_dict(value)
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _optional(hint: Any) -> bool:
    return NoneType in get_args(hint)


def _inner(hint: Any) -> Any:
    """The hint without `| None`, or without the registry of a name."""
    if get_origin(hint) is Annotated:
        return get_args(hint)[0]
    kept = [arg for arg in get_args(hint) if arg is not NoneType]
    return kept[0] if _optional(hint) and len(kept) == 1 else hint


def _names(hint: Any) -> OneOf | None:
    """The registry of a field that holds names."""
    return next((extra for extra in getattr(hint, "__metadata__", ()) if isinstance(extra, OneOf)), None)


def _base(hint: Any) -> type | None:
    """The swap-folder base class of a field that holds a part."""
    inner = _inner(hint)
    return next((base for base in REGISTRIES if isinstance(inner, type) and issubclass(inner, base)), None)


def _part(base: type, name: str) -> type:
    """The class of a part by its registry name."""
    return lookup(REGISTRIES[base], name, re.sub(r"(?<!^)(?=[A-Z])", " ", base.__name__).lower())


@cache
def _adapter(hint: Any) -> Any:
    """Pydantic's reader of a type."""
    return TypeAdapter(hint, config=ConfigDict(allow_inf_nan=False))


def _mismatch(path: str, hint: Any, found: object) -> TypeError:
    inner = _inner(hint)
    close = nearest(found, map(str, get_args(inner))) if get_origin(inner) is Literal and isinstance(found, str) else ""
    return TypeError(f"`{path}` expects {describe(hint)}; found `{found}`.{close}")


def _unknown(path: str, known: list[str]) -> ValueError:
    """An unknown dotted name; a field of that name in another group is the likeliest to be meant."""
    elsewhere = [name for name in known if name.split(".")[-1] == path.split(".")[-1]]
    hint = f" Did you mean `{elsewhere[0]}`?" if elsewhere else nearest(path, known)
    return ValueError(f"unknown field `{path}`.{hint or ' Known here: ' + ', '.join(known) + '.'}")


def _built(data: Any, hint: Any, path: str) -> Any:
    """The value of a field from json."""
    kind = _inner(hint)
    if not is_dataclass(kind):
        try:
            return _adapter(hint).validate_json(json.dumps(data), strict=True)
        except ValidationError:
            raise _mismatch(path, hint, data) from None
    if data is None and _optional(hint):
        return None
    if not isinstance(data, Mapping):
        raise TypeError(f"`{path or 'config'}` expects a group of fields; found `{data}`.")
    prefix = f"{path}." if path else ""
    if base := _base(kind):
        name = data.get("name", UNNAMED.get(base))
        if name is None:
            raise ValueError(f"`{prefix}name` is missing; expected {describe(kind)}.")
        kind = _part(base, _built(name, str, f"{prefix}name"))
        data = {key: value for key, value in data.items() if key != "name"}
    known = hints(kind)
    for key in data:
        if key not in known:
            raise _unknown(prefix + key, [prefix + name for name in known])
    return kind(**{key: _built(value, known[key], prefix + key) for key, value in data.items()})


def _changed(config: C, changes: Mapping[str, str], prefix: str) -> C:
    """A copy of `config`, which sits at `prefix`, with `changes` by paths below it."""
    groups: dict[str, dict[str, str]] = {}
    for path, text in changes.items():
        head, _, rest = path.partition(".")
        if head not in hints(type(config)):
            raise _unknown(prefix + path, paths(config, prefix))
        groups.setdefault(head, {})[rest] = text
    known = hints(type(config))
    new = {key: _set(getattr(config, key), known[key], group, path=prefix + key) for key, group in groups.items()}
    return replace(config, **new)  # type: ignore[type-var]


def _set(value: Any, hint: Any, changes: Mapping[str, str], *, path: str) -> Any:
    """A field's new value: its own text ("") first, then the fields below it."""
    if "" in changes:
        value = _from_text(value, hint, changes[""], path=path)
    below = {rest: text for rest, text in changes.items() if rest}
    if not below:
        return value
    if not is_dataclass(value):
        raise ValueError(f"unknown field `{path}.{next(iter(below))}`: `{path}` is `{value}`, which has no fields; it expects {describe(hint)}.")
    return _changed(value, below, f"{path}.")


def _from_text(value: Any, hint: Any, text: str, *, path: str) -> Any:
    """A field's new value from the command line."""
    if _optional(hint) and text.lower() == "none":
        return None
    if base := _base(hint):
        kind = _part(base, text)
        return value if type(value) is kind else kind()
    inner = _inner(hint)
    if is_dataclass(inner):
        raise TypeError(f"`{path}` is a group of fields; set one of them, such as `--{path}.{next(iter(hints(inner)))}`.")  # type: ignore[arg-type]
    try:
        is_tuple = get_origin(inner) is tuple
        return _adapter(inner).validate_python([item.strip() for item in text.split(",") if item.strip()] if is_tuple else text)
    except ValidationError:
        raise _mismatch(path, hint, text) from None

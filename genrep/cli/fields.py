"""Every field of a config with its value and its meaning, read from the classes themselves."""

from __future__ import annotations

import ast
import inspect
import textwrap
from dataclasses import is_dataclass
from itertools import pairwise
from typing import Any

from genrep.overrides import describe, hints, part_name


def lines_of(config: object, prefix: str = "") -> list[str]:
    """One line per field, as it would be typed, and its doc below, indented; groups are headed by their name, and what they are."""
    lines = []
    for key, hint in hints(type(config)).items():
        value = getattr(config, key)
        text, doc = as_typed(value), meaning(config, key)
        lines.append(f"\n{prefix}{key}:" if text is None else f"  --{prefix}{key} {text}    ({describe(hint)})")
        lines += textwrap.wrap(doc, 110, initial_indent="      ", subsequent_indent="      ")
        lines += lines_of(value, f"{prefix}{key}.") if is_dataclass(value) else []
    return lines


def meaning(config: object, key: str) -> str:
    """What a field means; of a group that says nothing of itself there, the first line of its class."""
    value = getattr(config, key)
    return field_docs(type(config)).get(key) or (inspect.getdoc(type(value)) or "").split("\n")[0] * is_dataclass(value)


def as_typed(value: Any) -> str | None:
    """A value as `override` reads it; None for a group of fields, which is no value."""
    if is_dataclass(value):
        return part_name(value)
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def field_docs(kind: type) -> dict[str, str]:
    """What each field of a dataclass means: the string below it, or its line under `Args:` in the class's docstring."""
    docs: dict[str, str] = {}
    for cls in reversed(kind.__mro__[:-1]):
        docs |= _args_section(cls.__doc__ or "")
        try:
            body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0].body  # type: ignore[attr-defined]
        except (OSError, TypeError):
            continue
        for statement, below in pairwise(body):
            if isinstance(statement, ast.AnnAssign) and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
                docs[ast.unparse(statement.target)] = inspect.cleandoc(str(below.value.value)).replace("\n", " ")
    return docs


def _args_section(doc: str) -> dict[str, str]:
    """The entries `name: text` and `name, other: text` of a docstring's `Args:`."""
    found: dict[str, str] = {}
    names: list[str] = []
    inside = False
    for line in inspect.cleandoc(doc).splitlines():
        if not line.startswith("    "):
            inside = line == "Args:"
        elif inside and not line.startswith("     ") and ":" in line:
            head, _, text = line.strip().partition(": ")
            names = [name.strip() for name in head.split(",")]
            found |= dict.fromkeys(names, text)
        elif inside:
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
    return found

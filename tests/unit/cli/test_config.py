"""`genrep config` shows every field, its value and its meaning, and its json comes back as the same config."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import pytest

from genrep.cli.fields import field_docs, lines_of
from genrep.cli.main import main
from genrep.samplers import Euler, Sampler


@dataclass(frozen=True, kw_only=True)
class Inner:
    """A group.

    Args:
        low, high: ends of the range,
            both included.
    Raises:
        ValueError: never.
    """

    low: float = 0.0
    high: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Outer:
    """A config."""

    seed: int = 3
    """Of everything."""
    name: str | None = None
    flags: tuple[bool, ...] = (True,)
    inner: Inner = Inner()
    sampler: Sampler = field(default_factory=lambda: Euler(num_steps=7))


def test_docs_come_from_below_the_field_and_from_the_class() -> None:
    assert field_docs(Outer) == {"seed": "Of everything."}
    assert field_docs(Inner) == {"low": "ends of the range, both included.", "high": "ends of the range, both included."}
    assert "steps" in field_docs(Euler)["num_steps"] or "calls" in field_docs(Euler)["num_steps"]


def test_every_field_is_shown_as_it_is_typed() -> None:
    lines = "\n".join(lines_of(Outer()))
    for start in ["--seed 3", "--name none", "--inner.low 0.0", "--sampler euler", "--sampler.num_steps 7"]:
        assert start in lines
    assert "      Of everything." in lines
    assert "\ninner:\n" in lines


def test_every_recipe_prints_and_comes_back(capsys: pytest.CaptureFixture[str]) -> None:
    from genrep.config import Config
    from genrep.overrides import from_dict, override, paths
    from genrep.recipes import RECIPES

    for name, recipe in RECIPES.items():
        assert main(["config", name]) == 0
        shown = capsys.readouterr().out
        assert all(f"--{path} " in shown or f"\n{path}:" in shown for path in paths(recipe()))
        assert main(["config", name, "--json", "--train.lr", "0.5"]) == 0
        assert from_dict(json.loads(capsys.readouterr().out), Config) == override(recipe(), {"train.lr": "0.5"})

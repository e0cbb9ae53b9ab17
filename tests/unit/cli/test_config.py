"""`genrep config` shows every field, its value and its meaning, and its json comes back as the same config."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, is_dataclass

import pytest

from genrep.cli.fields import field_docs, lines_of, meaning
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
    assert "\ninner:\n      A group.\n" in lines


def test_every_field_of_every_config_and_part_has_a_meaning() -> None:
    from genrep.config import Config
    from genrep.overrides import REGISTRIES, hints

    def missing(config: object, prefix: str = "") -> list[str]:
        found: list[str] = []
        for key in hints(type(config)):
            value = getattr(config, key)
            found += [] if len(meaning(config, key)) > 5 else [prefix + key]
            found += missing(value, f"{prefix}{key}.") if is_dataclass(value) else []
        return found

    assert missing(Config()) == []
    assert [name for registry in REGISTRIES.values() for part, kind in registry.items() for name in missing(kind(), f"{part}.")] == []


def test_names_out_of_a_registry_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "tiny"]) == 0
    shown = capsys.readouterr().out
    for line in [
        "--model.codec grey    (one of grey, pixels, autoencoder)",
        "--model.modulator drawn    (one of none, semantic, mean, spread, drawn)",
        "--model.prediction u    (one of residual, u, v, eps, x0)",
        "--model.tasks classification,detection,segmentation    (names as `a,b`, of detection, classification, multilabel, segmentation, depth)",
        "--objective.lesson posterior    (one of posterior, smoothed, shuffled, tempered)",
        "--train.aligned_set trunk    (one of trunk, blocks, attention)",
        "--eval.sampler.grid uniform    (one of uniform, logsnr, karras)",
    ]:
        assert line in shown, line


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("model.modulator", "foo", "unknown modulator `foo`; known: drawn, mean, none, semantic, spread."),
        ("model.codec", "gray", "unknown codec `gray`; known: autoencoder, grey, pixels. Did you mean `grey`?"),
        ("model.tasks", "detecton,segmentation", "Did you mean `detection`?"),
        ("model.prediction", "vv", "unknown prediction `vv`; known: eps, residual, u, v, x0. Did you mean `v`?"),
        ("model.depth", "metre", "unknown kind of depth `metre`; known: metric, relative. Did you mean `metric`?"),
        ("objective.lesson", "posteriro", "Did you mean `posterior`?"),
        ("train.best_by", "depht", "`train.best_by` expects one of mean, classification, multilabel, detection, segmentation, depth, or none; found `depht`."),
        ("train.aligned_set", "blok", "unknown aligned set `blok`; known: attention, blocks, trunk. Did you mean `blocks`?"),
    ],
)
def test_names_that_nothing_has_are_refused_with_the_nearest(option: str, value: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "tiny", f"--{option}", value]) == 2
    error = capsys.readouterr().err
    assert said in " ".join(error.split()) and "Traceback" not in error


def test_the_sets_of_aligned_weights_are_those_of_training() -> None:
    from genrep.config import TrainConfig
    from genrep.overrides import hints
    from genrep.training.joint_step import ALIGNED_SETS

    (names,) = hints(TrainConfig)["aligned_set"].__metadata__
    assert names.known == tuple(ALIGNED_SETS)


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

"""Configs round-trip through json, overrides reach every field, and mistakes are named with the nearest name."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genrep.aligners import Aligner, GenRepRule, WeightedSum
from genrep.overrides import REGISTRIES, describe, from_dict, hints, override, paths, to_dict
from genrep.posteriors import DenoisingGap, PosteriorEstimator
from genrep.samplers import Euler, Heun, Sampler


@dataclass(frozen=True, kw_only=True)
class Train:
    lr: float = 1e-3
    steps: int = 10
    bf16: bool = True
    betas: tuple[float, float] = (0.9, 0.98)
    prediction: Literal["u", "v"] = "u"

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"`steps` must be at least 1; found {self.steps}.")


@dataclass(frozen=True, kw_only=True)
class Root:
    name: str = "root"
    sets: tuple[str, ...] = ("fashion",)
    guidance: float | None = None
    train: Train = field(default_factory=Train)
    aligner: Aligner = field(default_factory=GenRepRule)
    sampler: Sampler = field(default_factory=lambda: Euler(num_steps=25))
    posterior: PosteriorEstimator | None = field(default_factory=DenoisingGap)


numbers = st.floats(allow_nan=False, allow_infinity=False)
trains = st.builds(
    Train, lr=numbers, steps=st.integers(1, 10**9), bf16=st.booleans(), betas=st.tuples(numbers, numbers), prediction=st.sampled_from(["u", "v"])
)
roots = st.builds(
    Root,
    name=st.text(),
    sets=st.lists(st.text()).map(tuple),
    guidance=st.none() | numbers,
    train=trains,
    aligner=st.sampled_from([GenRepRule(), WeightedSum()]),
    sampler=st.builds(Euler, num_steps=st.integers(1, 99)) | st.builds(Heun, num_steps=st.integers(1, 99)),
    posterior=st.none() | st.just(DenoisingGap()),
)


@settings(max_examples=30)
@given(roots)
def test_a_config_survives_json(config: Root) -> None:
    assert from_dict(json.loads(json.dumps(to_dict(config))), Root) == config


@given(trains)
def test_every_value_can_be_typed(config: Train) -> None:
    typed = {key: ",".join(map(str, value)) if isinstance(value, tuple) else str(value) for key, value in to_dict(config).items()}
    typed["betas"] = ",".join(map(repr, config.betas))
    assert override(Train(), typed) == config


def test_a_part_is_its_name_and_fields() -> None:
    assert to_dict(Root())["sampler"] == {"name": "euler", "num_steps": 25, "grid": "uniform"}


@pytest.mark.parametrize("base", REGISTRIES)
def test_every_registered_part_survives_json(base: type) -> None:
    for kind in REGISTRIES[base].values():
        part = kind()
        assert from_dict(json.loads(json.dumps(to_dict(part))), base) == part


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, Root()),
        ({"train.lr": "3e-4", "train.steps": "7"}, Root(train=Train(lr=3e-4, steps=7))),
        ({"train.bf16": "false"}, Root(train=Train(bf16=False))),
        ({"train.betas": "0.8, 0.9"}, Root(train=Train(betas=(0.8, 0.9)))),
        ({"sets": "a,b"}, Root(sets=("a", "b"))),
        ({"sets": ""}, Root(sets=())),
        ({"guidance": "2"}, Root(guidance=2.0)),
        ({"aligner": "weighted_sum"}, Root(aligner=WeightedSum())),
        ({"sampler": "heun"}, Root(sampler=Heun())),
        ({"sampler": "euler"}, Root()),
        ({"sampler.num_steps": "10", "sampler": "heun"}, Root(sampler=Heun(num_steps=10))),
        ({"posterior": "none"}, Root(posterior=None)),
        ({"posterior.noise": "independent"}, Root(posterior=DenoisingGap(noise="independent"))),
    ],
)
def test_overrides(changes: dict[str, str], expected: Root) -> None:
    assert override(Root(), changes) == expected


def test_none_can_be_taken_back() -> None:
    assert override(Root(posterior=None, guidance=2.0), {"posterior": "denoising_gap", "guidance": "none"}) == Root()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"train.lrr": "1"}, ValueError, "unknown field `train.lrr`. Did you mean `train.lr`?"),
        ({"trian.lr": "1"}, ValueError, "unknown field `trian.lr`. Did you mean `train.lr`?"),
        ({"lr": "1"}, ValueError, "unknown field `lr`. Did you mean `train.lr`?"),
        ({"sampler.steps": "1"}, ValueError, "unknown field `sampler.steps`. Did you mean `sampler.num_steps`?"),
        ({"sampler": "eular"}, ValueError, "unknown sampler `eular`; known: ancestral, dpm_solver, euler, heun, unipc. Did you mean `euler`?"),
        ({"posterior": "gap"}, ValueError, "unknown posterior estimator `gap`"),
        (
            {"posterior": "none", "posterior.noise": "shared"},
            ValueError,
            "`posterior` is `None`, which has no fields; it expects one of denoising_gap",
        ),
        ({"train.lr.x": "1"}, ValueError, "unknown field `train.lr.x`: `train.lr` is `0.001`, which has no fields; it expects a number"),
        ({"train.lr": "fast"}, TypeError, "`train.lr` expects a number; found `fast`."),
        ({"train.lr": "nan"}, TypeError, "`train.lr` expects a number; found `nan`."),
        ({"train.steps": "1.5"}, TypeError, "`train.steps` expects an integer; found `1.5`."),
        ({"train.bf16": "perhaps"}, TypeError, "`train.bf16` expects true or false; found `perhaps`."),
        ({"train.betas": "1,2,3"}, TypeError, "`train.betas` expects numbers as `a,b`; found `1,2,3`."),
        ({"train.prediction": "w"}, TypeError, "`train.prediction` expects one of u, v; found `w`."),
        ({"train.lr": "none"}, TypeError, "`train.lr` expects a number; found `none`."),
        ({"aligner": "none"}, ValueError, "unknown aligner `none`"),
        ({"train": "fast"}, TypeError, "`train` is a group of fields; set one of them, such as `--train.lr`."),
        ({"train.steps": "0"}, ValueError, "`steps` must be at least 1; found 0."),
    ],
)
def test_mistakes_are_named(changes: dict[str, str], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as raised:
        override(Root(), changes)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ({"train": {"lrr": 1.0}}, ValueError, "unknown field `train.lrr`. Did you mean `train.lr`?"),
        ({"train": {"lr": "3e-4"}}, TypeError, "`train.lr` expects a number; found `3e-4`."),
        ({"train": {"steps": 1.0}}, TypeError, "`train.steps` expects an integer; found `1.0`."),
        ({"train": 3}, TypeError, "`train` expects a group of fields; found `3`."),
        ({"train": None}, TypeError, "`train` expects a group of fields; found `None`."),
        ({"sampler": {"num_steps": 3}}, ValueError, "`sampler.name` is missing; expected one of euler, heun, dpm_solver, unipc, ancestral."),
        ({"sampler": {"name": "os.system"}}, ValueError, "unknown sampler `os.system`"),
        ({"sampler": {"name": ["euler"]}}, TypeError, "`sampler.name` expects text; found `['euler']`."),
        ({"sampler": {"name": "euler", "order": 3}}, ValueError, "unknown field `sampler.order`."),
    ],
)
def test_json_is_checked_without_conversion(data: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as raised:
        from_dict(data, Root)
    assert message in str(raised.value)


def test_missing_fields_take_their_defaults() -> None:
    assert from_dict({"train": {"lr": 1}}, Root) == Root(train=Train(lr=1.0))


def test_paths_and_words() -> None:
    assert paths(Root())[:6] == ["name", "sets", "guidance", "train", "train.lr", "train.steps"]
    assert "sampler.num_steps" in paths(Root())
    assert [describe(hint) for hint in hints(Root).values()][:3] == ["text", "names as `a,b`", "a number, or none"]

"""What a model that begins from a finished one takes over, and that a run which begins so goes on as any other."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_models import TRUNK, small_config, small_model
from toy_runs import assert_same_model, config, stopped

from genrep.model import GenRep
from genrep.modulators import MODULATORS
from genrep.overrides import override
from genrep.schedules import CosineVP
from genrep.training import train
from genrep.training.beginning import CLASSES, begin_from, of_classes

OTHERS = ("x", "y", "z", "w")
"""As many classes as `small_model` has: shapes alone could not tell them apart."""


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    small_model(seed=3).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def taken(model: GenRep, source: GenRep) -> set[str]:
    theirs = source.state_dict()
    return {name for name, tensor in model.state_dict().items() if name in theirs and torch.equal(tensor, theirs[name])}


class TestTaken:
    def test_of_the_same_classes_everything(self, finished: Path) -> None:
        model = small_model(seed=4)
        (line,) = begin_from(model, finished)
        names = set(model.state_dict())
        assert taken(model, small_model(seed=3)) == names
        assert line.endswith(f"{len(names)} of {len(names)} tensors")

    def test_of_other_classes_all_but_what_is_made_for_each_class(self, finished: Path) -> None:
        model, before = small_model(seed=4, class_names=OTHERS), small_model(seed=4, class_names=OTHERS)
        lines = begin_from(model, finished)
        apart = of_classes(model.config)
        assert taken(model, small_model(seed=3)) >= set(model.state_dict()) - apart
        assert taken(model, before) >= apart - {CLASSES}
        assert lines[1].startswith("its classes are others (a, b, c, d)")

    def test_new_classes_lie_among_the_old_ones_of_the_condition(self, finished: Path, tmp_path: Path) -> None:
        """As far from their middle; of a single one nothing is known but where it is."""
        source, model = small_model(seed=3), small_model(seed=4, class_names=OTHERS)
        begin_from(model, finished)
        known, new = source.state_dict()[CLASSES], model.state_dict()[CLASSES]
        assert (new - known.mean(0)).square().mean() == pytest.approx(float((known - known.mean(0)).square().mean()))
        assert torch.cdist(new, new).fill_diagonal_(torch.inf).min() > 0.1
        small_model(seed=3, class_names=("alone",)).save_pretrained(tmp_path / "single")
        model, before = small_model(seed=4), small_model(seed=4)
        begin_from(model, tmp_path / "single")
        assert CLASSES in taken(model, before)

    @pytest.mark.parametrize("modulator", sorted(MODULATORS))
    def test_made_for_each_class_are_the_condition_the_prior_and_the_ends_of_the_heads(self, modulator: str) -> None:
        found = of_classes(small_config(modulator=modulator))
        assert "denoiser.trunk.embedding.classes" in found
        assert {name.split(".")[1] for name in found if name.startswith("heads.")} == {"classification", "detection", "segmentation"}
        assert not [name for name in found if name.startswith("denoiser.trunk.") and "embedding.classes" not in name]

    def test_heads_that_the_finished_model_lacks_stay_fresh(self, tmp_path: Path) -> None:
        small_model(seed=3, tasks=("classification",)).save_pretrained(tmp_path / "model")
        model, before = small_model(seed=4), small_model(seed=4)
        lines = begin_from(model, tmp_path / "model")
        assert lines[1:] == ["new heads: detection, segmentation"]
        assert {name for name in model.state_dict() if name.startswith(("heads.detection", "heads.segmentation"))} <= taken(model, before)

    @pytest.mark.parametrize(
        "changes", [{"trunk": replace(TRUNK, width=32)}, {"codec": "pixels"}, {"trunk": replace(TRUNK, depth=4)}, {"modulator": "semantic"}]
    )
    def test_another_trunk_is_refused_and_nothing_is_changed(self, finished: Path, changes: dict[str, object]) -> None:
        model, before = small_model(seed=4, **changes), small_model(seed=4, **changes)
        if "modulator" in changes:  # needs less than the folder has: the condition's semantics would be lost
            model = small_model(seed=4)
            small_model(seed=3, **changes).save_pretrained(finished.parent / "other")
            with pytest.raises(ValueError, match="its trunk or modulator is another"):
                begin_from(model, finished.parent / "other")
            return
        with pytest.raises(ValueError, match=r"train\.init"):
            begin_from(model, finished)
        assert taken(model, before) == set(model.state_dict())

    @pytest.mark.parametrize(
        ("name", "changes"),
        [
            ("prediction", {"prediction": "v"}),
            ("schedule", {"schedule": CosineVP()}),
            ("codec", {"codec": "pixels"}),
            ("trunk.taps", {"trunk": replace(TRUNK, taps=(2, 3))}),
            ("trunk.num_heads", {"trunk": replace(TRUNK, num_heads=1)}),
        ],
    )
    def test_weights_that_mean_something_else_are_refused(self, finished: Path, name: str, changes: dict[str, object]) -> None:
        model, before = small_model(seed=4, **changes), small_model(seed=4, **changes)
        with pytest.raises(ValueError, match=rf"`train\.init` .*means something else by its weights: `model\.{name}` is .* there and .* here\."):
            begin_from(model, finished)
        assert taken(model, before) == set(model.state_dict())


@pytest.mark.usefixtures("toy_world")
class TestRun:
    def test_a_stopped_run_goes_on_without_the_folder_it_began_from(self, tmp_path: Path) -> None:
        first = train(config(), tmp_path / "first")
        settings = config()
        settings = replace(settings, train=replace(settings.train, init=str(first / "model"), seed=1))
        whole = train(settings, tmp_path / "whole")
        halted = stopped(tmp_path / "halted", 5, settings)
        (first / "model").rename(tmp_path / "moved")
        assert_same_model(whole, train(settings, halted))

    def test_it_begins_where_the_other_ended(self, tmp_path: Path) -> None:
        first = train(config(), tmp_path / "first")
        settings = config()
        still = replace(settings.train, init=str(first / "model"), lr=1e-30)
        again = train(replace(settings, train=still, objective=replace(settings.objective, prior_steps=0)), tmp_path / "again")
        one, other = (GenRep.from_pretrained(run / "model") for run in (first, again))
        assert {name for name, _ in other.named_parameters()} <= taken(other, one)

    def test_one_head_learns_and_all_else_is_what_it_was(self, tmp_path: Path) -> None:
        first = train(config(), tmp_path / "first")
        settings = config()
        objective = replace(settings.objective, jobs=("perception",))
        settings = replace(settings, objective=objective, train=replace(settings.train, init=str(first / "model"), only=("segmentation",), glimpses=0))
        whole, halted = train(settings, tmp_path / "whole"), stopped(tmp_path / "halted", 5, settings)
        one, other = (GenRep.from_pretrained(run / "model") for run in (first, whole))
        head = {name for name in other.state_dict() if name.startswith("heads.segmentation.")}
        assert head and taken(other, one) == set(other.state_dict()) - head
        assert other.calibration == one.calibration  # fitted anew, to the same
        assert_same_model(whole, train(settings, halted))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train.only": "depth"}, "unknown task of the model `depth`"),
        ({"train.only": "detection"}, "leaves generation as it is: set `objective.jobs` perception"),
        ({"train.only": "detection", "objective.jobs": "perception"}, "there must be a finished one: name it by `genrep train --init`"),
        ({"train.only": "detection", "objective.jobs": "perception", "train.init": "x", "train.by_task": "true"}, "set one of them"),
    ],
)
def test_what_cannot_learn_alone_is_said(changes: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        override(config(), changes)

"""Nothing bad gets into the weights, no hidden label either, and each job and aligned set makes a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rectangles import rectangles
from small_models import small_model
from torch import Tensor
from toy_runs import OBJECTS, STEPS1, STEPS2, UNSTEADY, assert_same_model_tensors, config, load_rectangles, rows

from genrep.aligners import ALIGNERS
from genrep.backbones import Asking
from genrep.config import Config
from genrep.datasets import ArrayDataset, labelled_rows
from genrep.model import GenRep
from genrep.storage import verify_folder
from genrep.training import RunFolder, step_losses, train
from genrep.training import data as data_module
from genrep.training.data import RunData
from genrep.training.loop import Session
from genrep.training.records import Silent
from genrep.training.runtime import Interrupted

pytestmark = pytest.mark.usefixtures("toy_world")


def glimpsing(**changes: Any) -> Config:
    """A second look, and glimpses in both stages."""
    train = {"stage1_glimpses": 3, "glimpses": 2, "log_every": 1, **changes}
    return replace(config(), model=replace(config().model, proposals=3), train=replace(config().train, **train))


SMALL: dict[str, Any] = {"lr": 1e-6, "bf16": False, "clip_norm": 1e6, "weight_decay": 0.0, "muon_decay": 0.0}


def session(run: Path, settings: Config | None = None) -> Session:
    return Session(RunData(settings or config()), RunFolder(run), command="", screen=Silent(), look=None)


def weights(sitting: Session) -> dict[str, Tensor]:
    parts = {"model": sitting.model, "teacher": sitting.teacher.model}
    return {f"{part}.{name}": value.clone() for part, module in parts.items() for name, value in module.state_dict().items()}


@pytest.mark.parametrize(
    ("job", "term", "step"), [("perception", "segmentation", 0), ("perception", "classification", STEPS1 + 1), ("generation", "alignment", STEPS1 + 1)]
)
def test_a_non_finite_loss_is_named_and_leaves_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job: str, term: str, step: int) -> None:
    sitting = session(tmp_path / "run")
    losses = getattr(step_losses, f"{job}_losses")

    def spoilt(*arguments: Any, **options: Any) -> Asking[dict[str, Tensor]]:
        found: dict[str, Tensor] = yield from losses(*arguments, **options)
        return {name: value * torch.nan if name in (term, job) else value for name, value in found.items()} if sitting.progress.step == step else found

    monkeypatch.setattr(step_losses, f"{job}_losses", spoilt)
    before = [weights(sitting)]

    def watch() -> bool:
        before.append(weights(sitting))
        return False

    with pytest.raises(FloatingPointError, match=f"loss term `{term}` is nan at step {step}; the weights are untouched"):
        sitting.run_to_end(watch)
    now = weights(sitting)
    assert len(before) == step + 1 and all(torch.equal(now[name], value) for name, value in before[-1].items())


@pytest.mark.parametrize("aligner", ["genrep", "upgrad", "aligned_mtl"])
def test_a_non_finite_gradient_leaves_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, aligner: str) -> None:
    """Of a joint step, whatever the aligner would make of it."""
    sitting = session(tmp_path / "run", replace(config(), aligner=ALIGNERS[aligner](), train=replace(config().train, stage1_images=0)))
    losses = step_losses.perception_losses

    def spoilt(model: GenRep, *arguments: Any, **options: Any) -> Asking[dict[str, Tensor]]:
        found = yield from losses(model, *arguments, **options)
        return {**found, "perception": found["perception"] + (0 * model.denoiser.trunk.embedding.null).sqrt().sum()}

    monkeypatch.setattr(step_losses, "perception_losses", spoilt)
    before = weights(sitting)
    with pytest.raises(FloatingPointError, match="the gradient is not finite at step 0; the weights are untouched"):
        sitting.run_to_end(lambda: False)
    assert all(torch.equal(value, before[name]) for name, value in weights(sitting).items())


def test_hidden_labels_do_not_leak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random labels in place of the hidden ones give the same weights, bit for bit; in place of the others they do not."""
    few = replace(config(), data=replace(config().data, labelled_fraction=0.5))

    def relabelled(hidden: bool) -> Callable[..., ArrayDataset]:
        def load(name: str, split: str, **options: Any) -> ArrayDataset:
            data = load_rectangles(name, split, **options)
            if split != "train":
                return data
            chosen = labelled_rows(len(data), len(data) // 2, seed=0) ^ hidden
            other = rectangles(len(data), num_objects=OBJECTS[name], size=16, seed=99)
            spoilt = {
                field: torch.where(chosen.view(-1, *[1] * (value.ndim - 1)), getattr(other, field).roll(1, 0), value)
                for field, value in vars(data).items()
                if isinstance(value, Tensor) and field != "pixels"
            }
            return replace(data, **spoilt)

        return load

    runs = [train(few, tmp_path / "few")]
    for hidden in (True, False):
        with monkeypatch.context() as patch:
            patch.setattr(data_module, "load_dataset", relabelled(hidden))
            runs.append(train(few, tmp_path / str(hidden)))
    assert_same_model_tensors(runs[0], runs[1])
    assert rows(runs[0]) == rows(runs[1]) != rows(runs[2])
    assert [int((data.object_labels[:, 0] >= 0).sum()) for data in RunData(few).training()] == [6, 6]


@pytest.mark.parametrize("jobs", [("perception",), ("generation",)])
def test_one_job_alone_is_a_run_too(tmp_path: Path, jobs: tuple[str, ...]) -> None:
    alone = replace(config(), objective=replace(config().objective, jobs=jobs, posterior=None))
    run = train(alone, tmp_path / "run")
    verify_folder(RunFolder(run).model)
    assert len(rows(run)) == STEPS2 + (STEPS1 if jobs == ("perception",) else 0)
    other = "generation" if jobs == ("perception",) else "perception"
    assert all(row[f"loss/{other}"] == "" and row[f"loss/{jobs[0]}"] != "" for row in rows(run))


@pytest.mark.parametrize(
    ("changes", "all_of_them"),
    [({"jobs": ("perception",)}, False), ({"jobs": ("perception",), "self_training": True}, True), ({"jobs": ("generation",)}, True), ({}, True)],
)
def test_images_that_teach_nothing_take_no_place(tmp_path: Path, changes: dict[str, Any], all_of_them: bool) -> None:
    """Of perception alone, without lessons: those without annotations."""
    few = replace(config(), data=replace(config().data, labelled_fraction=0.5), objective=replace(config().objective, posterior=None, **changes))
    stage1, stage2 = session(tmp_path / "run", few).streams
    assert len(stage2) == (3 if all_of_them else 1) * len(stage1) and bool(stage2.batch(0, 60)[0].unannotated.any()) == all_of_them


@pytest.mark.parametrize("aligned_set", ["attention", "blocks"])
def test_narrower_aligned_sets_train(tmp_path: Path, aligned_set: str) -> None:
    narrow = replace(config(), train=replace(config().train, aligned_set=aligned_set, stage1_images=8, stage2_images=12))
    assert len(rows(train(narrow, tmp_path / "run"))) == 3


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"exists and is not a run folder; nothing was written"):
        train(config(), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


@pytest.fixture
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_the_run_is_the_same_to_the_bit_however_many_graphs_compute_at_once(tmp_path: Path) -> None:
    """Perception, glimpses and generation, one after the other or side by side."""
    runs = [train(glimpsing(side_by_side=num), tmp_path / str(num)) for num in (1, 2, 3)]
    for run in runs[1:]:
        assert_same_model_tensors(runs[0], run)
        timeless = [[{name: value for name, value in row.items() if name not in UNSTEADY} for row in rows(each)] for each in (runs[0], run)]
        assert timeless[0] == timeless[1]


@pytest.mark.usefixtures("one_thread")
def test_one_pass_makes_the_run_that_two_make(tmp_path: Path) -> None:
    """Up to rounding; and to the bit however many graphs compute at once, though it is interrupted."""
    together = glimpsing(one_pass=True, bf16=False)
    two, whole = (train(settings, tmp_path / name) for name, settings in (("two", glimpsing(bf16=False)), ("whole", together)))
    turns = iter([False] * (STEPS1 + 2))
    with pytest.raises(Interrupted):
        train(glimpsing(one_pass=True, bf16=False, side_by_side=1), tmp_path / "halves", stop=lambda: next(turns, True))
    assert_same_model_tensors(whole, train(glimpsing(one_pass=True, bf16=False, side_by_side=1), tmp_path / "halves"))
    for mine, other in zip(rows(whole), rows(two), strict=True):
        for name in ("loss/perception", "loss/generation", "loss/glimpses", "align/cosine", "grad_norm"):
            assert mine[name] == other[name] == "" or float(mine[name]) == pytest.approx(float(other[name]), rel=2e-2, abs=1e-3), name


@pytest.mark.usefixtures("one_thread")
def test_probing_changes_nothing_and_a_small_step_does_what_gradients_say(tmp_path: Path) -> None:
    unprobed, probed, one_pass = (
        train(glimpsing(probe_every=every, one_pass=one, **SMALL), tmp_path / f"{every}{one}") for every, one in ((0, False), (2, False), (2, True))
    )
    assert_same_model_tensors(unprobed, probed)
    for run in (probed, one_pass):
        found = [row for row in rows(run) if row["align/actual_perception"]]
        assert [int(row["step"]) % 2 for row in found] == [0] * ((STEPS1 + STEPS2) // 2)
        for job in ("perception", "generation"):
            pairs = [(float(row[f"align/predicted_{job}"]), float(row[f"align/actual_{job}"])) for row in found if row[f"align/predicted_{job}"]]
            assert pairs and (job == "perception") == any(int(row["step"]) <= STEPS1 for row in found if row[f"align/actual_{job}"])
            for predicted, actual in pairs:
                assert actual == pytest.approx(predicted, rel=0.1, abs=2e-5)
    for name in ("log_every", "keep_checkpoints", "side_by_side", "micro_batches"):
        with pytest.raises(ValueError, match=f"`{name}` must be at least 1; found 0"):
            glimpsing(**{name: 0})
    with pytest.raises(ValueError, match="`probe_every` must be a multiple of `log_every` = 1, or 0; found -1"):
        glimpsing(probe_every=-1)


@pytest.mark.usefixtures("one_thread")
def test_glimpses_are_of_the_stage_they_are_set_for(tmp_path: Path) -> None:
    for name, changes in {"both": {}, "first": {"glimpses": 0}, "second": {"stage1_glimpses": 0}}.items():
        found = rows(train(glimpsing(**changes), tmp_path / name))
        assert {row["stage"] for row in found if float(row["loss/glimpses"] or 0) > 0} == {"both": {"1", "2"}, "first": {"1"}, "second": {"2"}}[name]
    with pytest.raises(ValueError, match="`glimpses` must be at least 0; found -1"):
        glimpsing(glimpses=-1)


def test_a_run_without_a_step_is_refused(tmp_path: Path) -> None:
    none = replace(config(), train=replace(config().train, stage1_images=0, stage2_images=5))
    for settings in (none, replace(none, objective=replace(none.objective, jobs=("generation",)), train=replace(none.train, stage1_images=80))):
        with pytest.raises(ValueError, match=r"neither stage has a step: .* stage 2 5, in steps of 6; .* Set `train.stage2_images` to at least 6"):
            train(settings, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def labelled_by(folder: Path, **changes: Any) -> Config:
    """Generation alone, of images half of which have no labels, told by the model in this folder what they show."""
    base = config()
    objective = replace(base.objective, jobs=("generation",), posterior=None, labeller=str(folder), pseudo_confidence=0.01)
    return replace(base, **{"data": replace(base.data, labelled_fraction=0.5), "objective": objective, **changes})


def test_generation_alone_can_be_told_what_images_show(tmp_path: Path) -> None:
    """By a classifier, which always sees something."""
    classifier = replace(config(), model=replace(config().model, tasks=("classification",), proposals=0))
    seeing = train(replace(classifier, objective=replace(config().objective, jobs=("perception",))), tmp_path / "seeing")
    told = labelled_by(RunFolder(seeing).model)
    alone = replace(told, objective=replace(told.objective, labeller=None))
    one, other = (weights(session(tmp_path / name, settings)) for name, settings in (("a", told), ("b", alone)))
    assert all(torch.equal(one[name], other[name]) for name in one)
    train(told, tmp_path / "told")
    train(alone, tmp_path / "alone")
    drawn = [GenRep.from_pretrained(RunFolder(tmp_path / name).model).state_dict() for name in ("told", "alone")]
    assert not all(torch.equal(drawn[0][name], drawn[1][name]) for name in drawn[0])


def test_a_labeller_with_nothing_to_say_is_refused(tmp_path: Path) -> None:
    session(tmp_path / "run").model.save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match=r"`objective.labeller` has nothing to say: all training images are annotated"):
        session(tmp_path / "told", labelled_by(tmp_path / "model", data=config().data))


@pytest.mark.parametrize("changes", [{"class_names": ("a", "b", "c", "e")}, {"image_size": (32, 32)}])
def test_a_labeller_of_something_else_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    small_model(**changes).save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match=f"has another `{next(iter(changes))}` than this model"):
        session(tmp_path / "told", labelled_by(tmp_path / "model"))


def test_a_labeller_that_sees_nothing_is_refused(tmp_path: Path) -> None:
    blind = replace(config(), model=replace(config().model, tasks=()))
    session(tmp_path / "run", blind).model.save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match=r"`objective.labeller` .*model perceives nothing"):
        session(tmp_path / "told", labelled_by(tmp_path / "model"))


@pytest.mark.parametrize("changes", [{"pseudo_confidence": None}, {"jobs": ("perception",)}])
def test_a_labeller_that_nobody_would_ask_is_an_error(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="`labeller` says what generation is conditioned on"):
        replace(labelled_by(Path("model")).objective, **changes)

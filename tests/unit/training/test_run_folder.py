"""Run folders and checkpoints: the newest good one is found, and one of another model is refused."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from small_models import small_model

from genrep.config import TrainConfig
from genrep.model import GenRep
from genrep.storage import write_folder, write_text
from genrep.training.best import Best
from genrep.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from genrep.training.distillation import Teaching
from genrep.training.lessons import Memory
from genrep.training.optimization import make_optimizers, make_teacher, state_of, take_step
from genrep.training.records import commit, first_difference
from genrep.training.run_folder import RunFolder


def save(run: RunFolder, model: GenRep, step: int, keep: int = 2) -> Path:
    optimizers = make_optimizers(model, TrainConfig())
    take_a_step(model, optimizers)
    progress = Progress(step=step, images=10 * step, updates=step, seconds=1.5)
    state = {"norm2": torch.ones(2, dtype=torch.float64)}
    memory = Memory(6, 4, visits=2)
    memory.keep(torch.tensor([1, 4]), torch.eye(4)[:2])
    parts = {
        "model": model,
        "teacher": make_teacher(model),
        "optimizer_state": state_of(optimizers, {}),
        "memory": memory,
        "best": Best(TrainConfig(), 3, 0.5, {"x": torch.arange(3)}),
    }
    return save_checkpoint(run, **parts, aligner_state=state, teaching=Teaching(), progress=progress, keep=keep)


def take_a_step(model: GenRep, optimizers: Sequence[torch.optim.Optimizer]) -> None:
    """With gradients that are the weights, so that the optimizers have a state."""
    for parameter in model.parameters():
        parameter.grad = parameter.detach().clone()
    take_step(optimizers, 1e-3)


def test_making_one_touches_nothing(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    assert run.latest_checkpoint() == (None, []) and not run.path.exists()


def test_newest_is_by_number_and_only_so_many_are_kept(tmp_path: Path) -> None:
    run, model = RunFolder(tmp_path), small_model()
    for step in (8, 9, 10, 100):
        save(run, model, step, keep=3)
    assert [p.name for p in run.checkpoint_folders()] == ["step_100", "step_10", "step_9"]
    assert run.latest_checkpoint() == (run.checkpoints / "step_100", [])


def test_a_copy_beside_the_checkpoints_is_none_of_them(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    folder = save(run, small_model(), 9)
    shutil.copytree(folder, run.checkpoints / "step_10.bak")
    assert run.latest_checkpoint() == (folder, [])


def test_unfinished_and_damaged_folders_are_passed_over(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for step in (1, 2, 3):
        write_folder(run.checkpoints / f"step_{step}", lambda folder: write_text(folder / "state.json", "{}"))
    write_text(run.checkpoints / "step_3" / "state.json", "{ }")
    (run.checkpoints / "step_2" / "manifest.json").unlink()
    (run.checkpoints / ".step_4.tmp99").mkdir()
    found, damaged = run.latest_checkpoint()
    assert found == run.checkpoints / "step_1" and len(damaged) == 2
    assert "step_3/state.json is damaged" in damaged[0] and "step_2 has no manifest.json" in damaged[1]


def test_state_comes_back(tmp_path: Path) -> None:
    run, model, other = RunFolder(tmp_path), small_model(), small_model(seed=1)
    folder, teacher = save(run, model, 5), make_teacher(other)
    memory, optimizers = Memory(6, 4, visits=2), make_optimizers(other, TrainConfig())
    best = Best(TrainConfig())
    progress, teaching, state = load_checkpoint(folder, model=other, teacher=teacher, memory=memory, best=best, optimizers=optimizers)
    assert (best.step, best.score, best.tensors["x"].tolist()) == (3, 0.5, [0, 1, 2])
    known, probs = memory.recall(torch.arange(6))
    assert known.tolist() == [False, True, False, False, True, False] and torch.equal(probs[[1, 4]], torch.eye(4)[:2])
    assert progress == Progress(step=5, images=50, updates=5, seconds=1.5) and teaching == Teaching() and state["norm2"].tolist() == [1.0, 1.0]
    for part in (other, teacher):
        assert all(torch.equal(value, model.state_dict()[name]) for name, value in part.state_dict().items())
    again = make_optimizers(model, TrainConfig())
    load_checkpoint(folder, model=model, teacher=make_teacher(model), memory=Memory(6, 4, visits=2), best=Best(TrainConfig()), optimizers=again)
    take_a_step(model, again)
    take_a_step(other, optimizers)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in other.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "num_images", "message"),
    [
        ({"tasks": ("detection",)}, 6, "step_5 holds another model than the configuration describes"),
        ({}, 7, "step_5 is of a run on 6 training images; there are 7 now"),
    ],
)
def test_a_checkpoint_of_another_model_or_other_images_is_refused(changes: dict[str, Any], num_images: int, message: str, tmp_path: Path) -> None:
    folder, other = save(RunFolder(tmp_path), small_model(), 5), small_model(**changes)
    with pytest.raises(ValueError, match=message):
        load_checkpoint(
            folder,
            model=other,
            teacher=make_teacher(other),
            memory=Memory(num_images, 4, visits=2),
            best=Best(TrainConfig()),
            optimizers=make_optimizers(other, TrainConfig()),
        )


def test_configurations_differ_first_where_they_differ() -> None:
    same = {"a": 1, "b": {"c": [1, 2], "d": None}}
    assert first_difference(same, {"a": 1, "b": {"c": (1, 2), "d": None}}) == ""
    assert first_difference(same, {"a": 1, "b": {"c": [1, 3], "d": 4}}) == "`b.c` is [1, 2] there and [1, 3] here"
    assert first_difference({"a": 1}, {}) == "`a` is 1 there and None here"
    assert first_difference({"p": {"name": "x"}}, {"p": None}) == "`p` is {'name': 'x'} there and None here"


def test_a_checkouts_commit_is_found(tmp_path: Path) -> None:
    """On a branch, packed or not; detached; and none outside a checkout."""
    git = tmp_path / ".git"
    assert commit(git) is None
    (git / "refs/heads").mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    assert commit(git) is None
    (git / "packed-refs").write_text("# pack-refs\n11 refs/heads/other\n22 refs/heads/main\n")
    assert commit(git) == "22"
    (git / "refs/heads/main").write_text("33\n")
    assert commit(git) == "33"
    (git / "HEAD").write_text("44\n")
    assert commit(git) == "44"

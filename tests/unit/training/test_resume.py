"""A whole run in small: resumed it is the same bit for bit, and what is there is not lost."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from toy_runs import (
    STEPS1,
    STEPS2,
    after,
    assert_same_model,
    assert_same_model_tensors,
    assert_same_state,
    config,
    events,
    newest,
    rows,
    stopped,
)

from genrep.aligners import GenRepRule
from genrep.model import GenRep
from genrep.storage import load_tensors, read_json
from genrep.training import RunFolder, train
from genrep.training.loop import Session

pytestmark = pytest.mark.usefixtures("toy_world")


@pytest.fixture(scope="module")
def whole(toy_world: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one sitting, stopped after its last step and then finished, so that its last state and its model are both there."""
    run = stopped(tmp_path_factory.mktemp("runs") / "whole", STEPS1 + STEPS2)
    assert not RunFolder(run).model.exists()
    return train(config(), run)


def test_everything_is_at_work(whole: Path) -> None:
    found = rows(whole)
    assert [(int(row["step"]), row["stage"]) for row in found] == [(i, "1" if i <= STEPS1 else "2") for i in range(1, STEPS1 + STEPS2 + 1)]
    assert int(found[-1]["images"]) == STEPS1 * 8 + STEPS2 * 6
    assert [float(row["loss/distil"]) > 0 for row in found] == [False] * 4 + [True, False, True, True, True]  # in step 8 of what is remembered alone
    assert all((row["align/cosine"] != "") == (row["stage"] == "2") == (row["loss/denoise"] != "") for row in found)
    assert [(event["kind"], event["step"]) for event in events(whole, "gate")] == [("image", 4), ("object", 4), ("image", 7), ("object", 7)]
    model = GenRep.from_pretrained(RunFolder(whole).model)
    assert model.class_names == ("a", "b", "c", "d") and model.calibration is not None and model.object_calibration is not None


@pytest.mark.parametrize("sittings", [(1,), (STEPS1,), (STEPS1 + 1,), (5,), (7, 1), (2, 1, 1, 1, 1, 1)], ids=str)
def test_a_resumed_run_is_the_uninterrupted_one(whole: Path, tmp_path: Path, sittings: tuple[int, ...]) -> None:
    run, total = tmp_path / "run", STEPS1 + STEPS2
    for steps in sittings:
        stopped(run, steps)
    assert newest(run).name == f"step_{sum(sittings)}" and rows(run) == rows(whole)[: sum(sittings)]
    stopped(run, total - sum(sittings))
    assert_same_state(newest(run), newest(whole))
    train(config(), run)
    assert_same_model(run, whole)
    assert rows(run) == rows(whole)
    assert len(events(run, "resume")) == len(sittings) + 1


def test_the_aligners_state_is_resumed_too(tmp_path: Path) -> None:
    balanced = replace(config(), aligner=GenRepRule(balance=True), objective=replace(config().objective, posterior=None))
    straight, broken = stopped(tmp_path / "straight", STEPS1 + 3, balanced), stopped(tmp_path / "broken", STEPS1 + 1, balanced)
    stopped(broken, 2, balanced)
    assert_same_state(newest(broken), newest(straight))
    assert any(name.startswith("aligner.") for name in load_tensors(newest(broken) / "state.safetensors"))


def test_checkpoints_do_not_change_the_run_and_a_damaged_one_is_passed_over(whole: Path, tmp_path: Path) -> None:
    often = replace(config(), train=replace(config().train, checkpoint_every_s=0.0))
    run = stopped(tmp_path / "run", 6, often)
    assert [folder.name for folder in RunFolder(run).checkpoint_folders()] == ["step_6", "step_5"]
    file = newest(run) / "state.safetensors"
    damage(newest(run))
    train(often, run)
    (damaged,), (resume,) = events(run, "damaged_checkpoint"), events(run, "resume")
    assert str(file) in damaged["what"] and resume["step"] == 5
    assert_same_model_tensors(run, whole)
    assert rows(run) == rows(whole)


def damage(folder: Path) -> None:
    file = folder / "state.safetensors"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def test_what_was_just_saved_stays_and_what_was_refused_goes(tmp_path: Path) -> None:
    """However few are kept, and whatever their numbers."""
    once = replace(config(), train=replace(config().train, keep_checkpoints=1))
    run = stopped(tmp_path / "run", 7, once)
    damage(newest(run))
    stopped(run, 3, once)
    assert [folder.name for folder in RunFolder(run).checkpoint_folders()] == ["step_3"]
    stopped(run, 1, once)
    assert [folder.name for folder in RunFolder(run).checkpoint_folders()] == ["step_4"]


def test_where_all_checkpoints_are_damaged_it_begins_where_it_began(whole: Path, tmp_path: Path) -> None:
    """From the model that was named, not from nothing."""
    begun = replace(config(), train=replace(config().train, init=str(RunFolder(whole).model)))
    straight, damaged = stopped(tmp_path / "straight", 1, begun), stopped(tmp_path / "damaged", 2, begun)
    damage(newest(damaged))
    stopped(damaged, 1, begun)
    assert_same_state(newest(damaged), newest(straight))


def test_a_line_that_a_full_disk_cut_is_dropped(whole: Path, tmp_path: Path) -> None:
    run = stopped(tmp_path / "run", 5)
    metrics, found = RunFolder(run).metrics, RunFolder(run).events
    metrics.write_text(metrics.read_text() + "1")
    found.write_text(found.read_text() + '{"event": ')
    train(config(), run)
    assert rows(run) == rows(whole)
    assert_same_model(run, whole)


def test_a_full_disk_leaves_the_rows_that_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunFolder(stopped(tmp_path / "run", 3))
    before = run.metrics.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(csv.DictWriter, "writerows", full)
        with pytest.raises(OSError, match="no space"):
            train(config(), run.path)
    assert run.metrics.read_bytes() == before


def test_a_misspelt_setting_leaves_no_run_in_the_way(tmp_path: Path) -> None:
    run, train_config = tmp_path / "run", config().train
    with pytest.raises(ValueError, match=r"unknown aligned set `bloks`.*`blocks`"):
        train(replace(config(), train=replace(train_config, aligned_set="bloks")), run)
    assert not run.exists()
    stopped(run, 1, replace(config(), train=replace(train_config, aligned_set="blocks")))


def test_what_follows_a_checkpoint_is_told_once(whole: Path, tmp_path: Path) -> None:
    """Gates are fitted after the checkpoint of their step, and again where a run goes on from it; what a killed process left goes."""
    run = stopped(tmp_path / "run", STEPS1 + 1)
    with pytest.raises(KeyboardInterrupt):
        train(config(), run, stop=_dies_after(2))
    (RunFolder(run).checkpoints / ".step_9.tmp12").mkdir()
    train(config(), run)
    for kind in ("gate", "calibration", "end"):
        assert [event["step"] for event in events(run, kind)] == [event["step"] for event in events(whole, kind)]
    assert not list(RunFolder(run).checkpoints.glob(".*"))


def test_what_dies_while_it_completes_goes_on_from_its_last_step(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Session, "_complete", die)
        with pytest.raises(KeyboardInterrupt):
            train(config(), tmp_path)
    assert [folder.name for folder in RunFolder(tmp_path).checkpoint_folders()] == [f"step_{STEPS1 + STEPS2}"]
    assert_same_state(newest(tmp_path), newest(whole))
    train(config(), tmp_path)
    assert_same_model(tmp_path, whole)
    assert rows(tmp_path) == rows(whole) and [event["step"] for event in events(tmp_path, "resume")] == [STEPS1 + STEPS2]


def test_lessons_are_as_precise_whoever_asks_first(tmp_path: Path) -> None:
    """A probe measures in float32, before the losses of a step in bfloat16."""
    half = replace(config(), objective=replace(config().objective, distil_every=1, gate_at=(0.0,)), train=replace(config().train, bf16=True))
    plain, probed = (train(replace(half, train=replace(half.train, probe_every=every)), tmp_path / str(every)) for every in (0, 1))
    assert any(float(row["loss/distil"]) > 0 for row in rows(plain))
    assert_same_model_tensors(plain, probed)


def test_rows_of_a_future_that_did_not_happen_are_cut(whole: Path, tmp_path: Path) -> None:
    """A process that dies loses what it did after its last checkpoint."""
    run = stopped(tmp_path / "run", 4)
    with pytest.raises(KeyboardInterrupt):
        train(config(), run, stop=_dies_after(3))
    assert len(rows(run)) == 7 and newest(run).name == "step_4"
    train(config(), run)
    assert rows(run) == rows(whole)
    assert_same_model(run, whole)


def _dies_after(steps: int) -> Callable[[], bool]:
    asks = after(steps)

    def die() -> bool:
        if asks():
            raise KeyboardInterrupt
        return False

    return die


def test_a_finished_run_is_not_touched(whole: Path) -> None:
    def files() -> dict[Path, tuple[int, bytes]]:
        return {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in whole.rglob("*") if p.is_file()}

    before = files()
    assert train(config(), whole) == whole and files() == before


def test_a_run_of_another_configuration_is_refused_by_its_first_difference(whole: Path, tmp_path: Path) -> None:
    unfinished = stopped(tmp_path / "run", 1)
    other = replace(config(), train=replace(config().train, weight_decay=0.5, clip_norm=3.0))
    for run in (whole, unfinished):
        before = sorted((p, p.stat().st_mtime_ns) for p in run.rglob("*"))
        with pytest.raises(ValueError, match=r"holds a run of another configuration: `train.weight_decay` is 0.02 there and 0.5 here. .*--out"):
            train(other, run)
        assert sorted((p, p.stat().st_mtime_ns) for p in run.rglob("*")) == before


def test_two_do_not_train_one_run(whole: Path, tmp_path: Path) -> None:
    """The second, begun at the first one's fourth step, is refused; the first does not notice, and leaves nothing behind."""
    run, refused = tmp_path / "run", []

    def begin_again() -> bool:
        if len(rows(run)) == 4 and not refused:
            with pytest.raises(
                ValueError, match=r"is being trained by another process; nothing was written\. Wait for its end, or name another folder"
            ) as error:
                train(config(), run)
            refused.append(error)
        return False

    train(config(), run, stop=begin_again)
    assert refused and rows(run) == rows(whole) and not RunFolder(run).lock.exists()
    assert_same_model_tensors(run, whole)


def test_what_does_not_begin_leaves_no_folder(tmp_path: Path) -> None:
    nowhere = replace(config(), train=replace(config().train, init=str(tmp_path / "nowhere")))
    (tmp_path / "mine").mkdir()
    (tmp_path / "file").touch()
    for name, said in {"new": "nowhere", "mine": "nowhere", "file": "file is a file; a run is a folder"}.items():
        with pytest.raises(ValueError, match=said):
            train(nowhere, tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "mine"]


@pytest.mark.parametrize("bf16", [None, True])
@pytest.mark.parametrize("content", ['{"model_type": "resnet"}', '{"train": {"bf16": null}}', '{"train": []}', "[]", "3"])
def test_a_folder_with_a_config_of_something_else_is_refused(content: str, bf16: bool | None, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match=r"is not a run folder: its config.json is not a run's; nothing was written\. Name another folder with --out"):
        train(replace(config(), train=replace(config().train, bf16=bf16)), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"] and (tmp_path / "config.json").read_text() == content


def test_the_same_seed_gives_the_same_model_and_another_does_not(whole: Path, tmp_path: Path) -> None:
    torch.manual_seed(1234)
    again = train(config(), tmp_path / "again")
    assert_same_model(again, whole)
    assert torch.initial_seed() == 1234
    other = train(replace(config(), train=replace(config().train, seed=1)), tmp_path / "other")
    assert rows(other)[0] != rows(whole)[0]


def test_the_folder_says_what_ran_where(whole: Path, tmp_path: Path) -> None:
    run = RunFolder(stopped(tmp_path / "run", 1))
    assert read_json(run.env).keys() >= {"python", "torch", "device", "threads"} and run.command.is_file()
    assert read_json(run.config)["model"]["class_names"] == ["a", "b", "c", "d"]
    assert read_json(run.config) == read_json(RunFolder(whole).config)

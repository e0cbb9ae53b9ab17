"""The runs of a suite: each is trained once, by whichever of several processes has a worker free; a stopped suite goes on."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
from own_folders import write_photos
from small_suites import LABELLED, SUITE, measure, measured

from genrep.cli import bench
from genrep.cli import suites as runner
from genrep.evaluation.suite import finished
from genrep.overrides import override, to_dict
from genrep.recipes import RECIPES, own
from genrep.storage import claimed, write_json
from genrep.training.data import RunData, filled


@dataclass
class Work:
    """Stands for a process that does what a run asks for."""

    do: Callable[[], int]

    def wait(self) -> int:
        return self.do()

    def terminate(self) -> None:
        raise AssertionError("nobody told it twice to stop")


def working(monkeypatch: pytest.MonkeyPatch, do: Callable[[list[str], Mapping[str, str]], int]) -> None:
    """In the place of processes: what is done with a command and its environment."""
    monkeypatch.setattr(runner, "POLL_S", 0.01)
    monkeypatch.setattr(runner, "_genrep", lambda arguments, log, environment, place: Work(partial(do, arguments, environment)))


def test_every_run_is_trained_then_measured_and_a_failure_is_named_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def genrep(arguments: list[str], environment: Mapping[str, str]) -> int:
        asked.append(arguments)
        return int("old-1" in str(arguments))

    working(monkeypatch, genrep)
    two = replace(SUITE, num_seeds=2)
    assert list(two.runs(tmp_path)) == ["new-0", "old-0", "new-1", "old-1"]
    with pytest.raises(ValueError, match=r"1 of 4 runs failed: old-1; .*old-1\.txt says why"):
        runner.train_suite(two, tmp_path / "suite", at_once=1)
    bf16 = asked[0][-1]
    of_first = ["train", "tiny", "--out", str(tmp_path / "suite/new-0"), "--train.seed", "0", "--train.bf16", bf16], ["eval", str(tmp_path / "suite/new-0")]
    assert tuple(asked[:2]) == of_first and [words[0] for words in asked] == ["train", "eval"] * 3 + ["train"]
    assert not finished(tmp_path / "suite", "new-0")
    asked.clear()
    runner.train_suite(two, tmp_path / "suite", at_once=2, arms=("new",))
    assert sum(words[0] == "train" for words in asked) == 2 and not any("old" in str(words) for words in asked)
    asked.clear()
    runner.train_suite(two, tmp_path / "suite", at_once=1, arms=("new",), seeds=(1,))
    assert [Path(words[3]).name for words in asked if words[0] == "train"] == ["new-1"]


def test_a_suite_on_a_folder_of_ones_own_is_trained_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the recipe that looking at it gives, with the suite's settings and then the arm's; runs of another folder's are none of it."""
    asked: list[list[str]] = []

    def genrep(arguments: list[str], environment: Mapping[str, str]) -> int:
        asked.append(arguments)
        return 0

    working(monkeypatch, genrep)
    photos = write_photos(tmp_path / "photos", 4)
    suite = replace(SUITE, recipe="own", data="kept photos", settings={"train.lr": "2e-3", "train.batch_size": "4"}, num_seeds=1)
    with pytest.raises(ValueError, match=r"name it with --data\. The runs that are kept are of kept photos"):
        runner.train_suite(suite, tmp_path / "suite", at_once=1)
    runner.train_suite(suite, tmp_path / "suite", at_once=1, data=photos)
    assert [words[1:2] + words[4:-2] for words in asked if words[0] == "train"] == [
        [str(photos), "--train.lr", "2e-3", "--train.batch_size", "4", "--train.seed", "0"],
        [str(photos), "--train.lr", "1e-3", "--train.batch_size", "4", "--train.seed", "0"],
    ]
    measure(tmp_path / "suite", "old-0", {"top1": 0.5})
    config = override(own(photos)[0], suite.runs(tmp_path)["old-0"])
    filled_in = filled(config, RunData(config).training())
    assert filled_in.model.tasks == ("classification",) != config.model.tasks  # as training writes it: the photos have no boxes
    write_json(tmp_path / "suite/old-0/config.json", to_dict(filled_in))
    runner.check_runs(suite, tmp_path / "suite", photos)
    runner.check_runs(suite, tmp_path / "suite")
    with pytest.raises(ValueError, match="old-0 was trained by other settings"):
        runner.check_runs(suite, tmp_path / "suite", write_photos(tmp_path / "others", 4))
    with pytest.raises(ValueError, match=r"`model\.tasks` is \['classification'\] there and \['multilabel'\] here"):
        runner.check_runs(replace(suite, settings={**suite.settings, "model.tasks": "multilabel"}), tmp_path / "suite", photos)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--data", "x"), "--data is of suites on a folder of your own, such as `photos`; `aligners` has its own data"),
        (("--at-once", "0"), "`--at-once` must be at least 1; found 0. `--quick` trains nothing"),
        (("--arms", "seen,other"), "unknown arm `other`"),
        (("--seeds", "0,5"), "unknown seed `5`; known: 0, 1, 2"),
    ],
)
def test_what_a_suite_is_asked_for_it_must_have(tmp_path: Path, given: tuple[str, ...], said: str) -> None:
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)
    with pytest.raises(ValueError, match=said):
        bench.run(parser.parse_args(["evidence", str(tmp_path), "--suite", "aligners", *given]))


@pytest.mark.parametrize("fails", [False, True])
def test_an_arm_that_another_labels_waits_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
    """With a worker for each, the second would begin at once."""
    begun, ended = [], []

    def genrep(arguments: list[str], environment: Mapping[str, str]) -> int:
        begun.append((arguments, list(ended)))
        time.sleep(0.05)
        ended.append(arguments[0])
        if arguments[0] == "eval" and not fails:
            measured(arguments)
        return int(fails)

    working(monkeypatch, genrep)
    if fails:
        with pytest.raises(ValueError, match="2 of 2 runs failed: sees-0, makes-0"):
            runner.train_suite(LABELLED, tmp_path, at_once=2)
        assert len(begun) == 1
        return
    runner.train_suite(LABELLED, tmp_path, at_once=2)
    told, before = begun[2]
    assert told[told.index("--objective.labeller") + 1] == str(tmp_path / "sees-0" / "model") and before == ["train", "eval"]


def test_processes_share_a_folder_and_no_run_is_trained_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of two workers each, the arms that are told by others among the runs; both end when all is finished."""
    suite, log = replace(LABELLED, num_seeds=4), tmp_path / "log"

    def genrep(arguments: list[str], environment: Mapping[str, str]) -> int:
        with log.open("a") as file:
            file.write(f"{os.getpid()} {' '.join(arguments[:4])}\n")
        time.sleep(0.02)
        if arguments[0] == "eval":
            measured(arguments)
        return 0

    working(monkeypatch, genrep)
    child = os.fork()
    try:
        runner.train_suite(suite, tmp_path / "suite", at_once=2)
        assert all(finished(tmp_path / "suite", name) for name in suite.runs(tmp_path))
    finally:
        if child == 0:
            os._exit(bool(sys.exc_info()[0]))
    assert os.waitpid(child, 0)[1] == 0
    lines = [line.split() for line in log.read_text().splitlines()]
    assert sorted(words[-1] for words in lines if words[1] == "train") == sorted(str(tmp_path / "suite" / name) for name in suite.runs(tmp_path))
    assert len({words[0] for words in lines}) == 2 and not list((tmp_path / "suite").glob(".*"))


def test_a_run_that_another_process_is_at_is_waited_for_and_taken_over_where_that_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite, asked = replace(SUITE, num_seeds=1), []

    def genrep(arguments: list[str], environment: Mapping[str, str]) -> int:
        asked.append(f"{arguments[0]} {Path(arguments[3 if arguments[0] == 'train' else 1]).name}")
        if asked[-1] == "train old-0":
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        return 0

    working(monkeypatch, genrep)
    (tmp_path / "suite").mkdir()
    child = os.fork()
    if child == 0:
        with claimed(tmp_path / "suite/.new-0.lock"):
            (tmp_path / "there").touch()
            time.sleep(60)
    while not (tmp_path / "there").exists():
        time.sleep(0.01)
    runner.train_suite(suite, tmp_path / "suite", at_once=1)
    assert asked == ["train old-0", "eval old-0", "train new-0", "eval new-0"]


def test_every_accelerator_has_its_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[str] = []
    both = threading.Barrier(2, timeout=20)

    def genrep(arguments: list[str], environment: Mapping[str, str]) -> int:
        if arguments[0] == "train":
            used.append(environment["CUDA_VISIBLE_DEVICES"])
            both.wait()
        return 0

    working(monkeypatch, genrep)
    monkeypatch.setattr(runner, "_arithmetic", lambda *_: {})
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-7")
    assert runner.accelerators() == ["4", "GPU-7"]
    runner.train_suite(replace(SUITE, num_seeds=2), tmp_path / "suite")
    assert sorted(used) == ["4", "4", "GPU-7", "GPU-7"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert runner.accelerators() == ["0", "1"]
    monkeypatch.setenv("GENREP_DEVICE", "cpu")
    assert runner.accelerators() == []


def test_runs_are_computed_as_those_that_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[list[str]] = []

    def genrep(arguments: list[str], environment: Mapping[str, str]) -> int:
        asked.append(arguments)
        return 0

    def begun(name: str, bf16: bool) -> None:
        (tmp_path / name).mkdir()
        write_json(tmp_path / name / "config.json", to_dict(override(RECIPES["tiny"](), {"train.bf16": str(bf16).lower()})))

    working(monkeypatch, genrep)
    for quicker in (False, True):
        begun(f"{quicker}".replace("False", "new-0").replace("True", "old-0"), not quicker)
        monkeypatch.setattr("genrep.training.computes_in_bf16", lambda device, quicker=quicker: quicker)
        runner.train_suite(replace(SUITE, num_seeds=2), tmp_path, at_once=1)
        told = {words[words.index("--train.bf16") + 1] if "--train.bf16" in words else "" for words in asked if words[0] == "train"}
        assert told == ({""} if quicker else {"true"})
        asked.clear()
    assert "1 are in bfloat16 and 1 in float32" in capsys.readouterr().out


@pytest.mark.parametrize("times", [1, 2])
def test_who_asks_a_suite_to_stop_once_waits_for_its_runs_and_twice_stops_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """No further run is begun, nor is one measured; the same command goes on."""
    asked, told = [], threading.Event()

    def genrep(arguments: list[str], environment: Mapping[str, str]) -> int:
        asked.append(arguments[0])
        for _ in range(times):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.1)
        return 130 * told.wait(timeout=20) if times == 2 else 0

    working(monkeypatch, genrep)
    monkeypatch.setattr(Work, "terminate", lambda self: told.set())
    with pytest.raises(KeyboardInterrupt):
        runner.train_suite(replace(SUITE, num_seeds=2), tmp_path / "suite", at_once=1)
    assert asked == ["train"] and told.is_set() == (times == 2)


def test_an_arm_cannot_do_without_the_one_that_labels_for_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`makes-0` needs `sees-0`, which is not finished in .*--arms"):
        runner.train_suite(LABELLED, tmp_path, at_once=1, arms=("makes",))


def test_runs_of_other_settings_are_none_of_the_suite(tmp_path: Path) -> None:
    """What a suite leaves open may be anything: classes that the data know, the machine's arithmetic, where the run lies."""
    suite = replace(SUITE, num_seeds=1)
    for arm, changes in suite.arms.items():
        measure(tmp_path, f"{arm}-0", {"top1": 0.5})
        config = override(RECIPES["tiny"](), {**changes, "model.class_names": "a,b", "train.bf16": "true"})
        write_json(tmp_path / f"{arm}-0" / "config.json", to_dict(config))
    runner.check_runs(suite, tmp_path)
    settings = to_dict(config)
    settings["objective"]["augment"].pop("zoom")  # by a version that could not do it
    write_json(tmp_path / f"{arm}-0" / "config.json", settings)
    runner.check_runs(suite, tmp_path)
    with pytest.raises(ValueError, match=r"old-0 was trained by other settings than the suite's: `train\.lr` is 0\.001 there and 0\.01 here"):
        runner.check_runs(replace(suite, arms={**suite.arms, "old": {"train.lr": "1e-2"}}), tmp_path)
    with pytest.raises(ValueError, match="new-0 was trained by other settings"):
        runner.check_runs(replace(suite, recipe="demo"), tmp_path)

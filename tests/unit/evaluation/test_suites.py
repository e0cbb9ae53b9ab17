"""Arms, seeds and claims: what is paired, what is judged, and that a stopped suite goes on."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from own_folders import write_photos

from genrep.cli import bench
from genrep.cli import suites as runner
from genrep.config import Config
from genrep.evaluation.figures import Figure
from genrep.evaluation.front import Front
from genrep.evaluation.outcome import suite_figures
from genrep.evaluation.suite import Claim, Suite, finished
from genrep.evaluation.suites import SUITES
from genrep.metrics.base import mean_of_repetitions
from genrep.overrides import override, to_dict
from genrep.recipes import RECIPES, own
from genrep.storage import write_json

CLAIMS = (Claim(figure="top1", arm="new", against="old"), Claim(figure="ece", arm="new", against="old", less=True))
SUITE = Suite(recipe="tiny", arms={"new": {}, "old": {"train.lr": "1e-3"}}, claims=CLAIMS, shown=("top1", "ece"))
GAINS = (0.02, 0.03, 0.01, 0.02, 0.04)


def measure(folder: Path, run: str, figures: Mapping[str, float]) -> None:
    (folder / run).mkdir()
    write_json(folder / run / "eval.json", dict(figures))


def filled(folder: Path, num_seeds: int) -> dict[str, Figure]:
    for seed in range(num_seeds):
        measure(folder, f"new-{seed}", {"top1": 0.5 + 0.1 * seed + GAINS[seed], "ece": 0.1 - GAINS[seed]})
        measure(folder, f"old-{seed}", {"top1": 0.5 + 0.1 * seed, "ece": 0.1})
    return {figure.name: figure for figure in suite_figures("mine", SUITE, folder)}


def test_differences_are_paired_by_seed(tmp_path: Path) -> None:
    """Seeds differ by ten times as much as the arms do."""
    found = filled(tmp_path, 5)
    gain, expected = found["top1, new - old"], mean_of_repetitions(GAINS)
    assert (gain.value, *gain.interval) == pytest.approx((expected.value, expected.low, expected.high))
    assert gain.met is True and not gain.at_most and found["new: top1"].interval[0] < found["old: top1"].value
    assert found["ece, new - old"].met is True and found["ece, new - old"].at_most


def test_an_interaction_is_a_difference_of_differences(tmp_path: Path) -> None:
    """Each alone adds .01 and .02, both together .05: .02 more than their sum, in every seed."""
    arms = {"both": 0.55, "one": 0.51, "other": 0.52, "none": 0.5}
    for seed in range(5):
        for arm, value in arms.items():
            measure(tmp_path, f"{arm}-{seed}", {"top1": value + seed * (1 + 0.001 * (arm == "both"))})
    claim = Claim(figure="top1", arm="both", against="one", beside=("other", "none"))
    suite = Suite(recipe="tiny", arms={arm: {} for arm in arms}, claims=(claim, replace(claim, less=True)), shown=())
    found, opposite = suite_figures("mine", suite, tmp_path)
    expected = mean_of_repetitions([0.02 + 0.001 * seed for seed in range(5)])
    assert found.name == "top1, (both - one) - (other - none)" and (found.value, *found.interval) == pytest.approx(
        (expected.value, expected.low, expected.high)
    )
    assert found.met is True and opposite.met is False


def test_less_is_not_more(tmp_path: Path) -> None:
    worse = Suite(recipe="tiny", arms=SUITE.arms, claims=(Claim(figure="top1", arm="old", against="new"),), shown=())
    filled(tmp_path, 5)
    assert [figure.met for figure in suite_figures("mine", worse, tmp_path)] == [False]


def test_one_model_is_judged_beside_the_two_of_its_seed(tmp_path: Path) -> None:
    """Better in both jobs, in one, and of a seed in which one of the two is missing."""
    arms = ("seen", "made", "whole", "half")
    front = Front(perception=("map", "ap50"), generation="kid")
    suite = Suite(recipe="tiny", arms={arm: {} for arm in arms}, claims=(), shown=("both/gain", "both/hyper_volume"), front=front)
    measure(tmp_path, "seen-0", {"map": 0.5, "ap50": 0.4})
    measure(tmp_path, "made-0", {"kid": 0.2})
    measure(tmp_path, "whole-0", {"map": 0.6, "ap50": 0.5, "kid": 0.15})
    measure(tmp_path, "half-0", {"map": 0.6, "ap50": 0.5, "kid": 0.3})
    measure(tmp_path, "whole-1", {"map": 0.6, "ap50": 0.5, "kid": 0.15})
    found = {figure.name: figure.value for figure in suite_figures("mine", suite, tmp_path)}
    gain = (0.1 / 0.5 + 0.1 / 0.4) / 2
    assert found == pytest.approx(
        {
            "whole: both/gain": (gain + 0.25) / 2,
            "whole: both/hyper_volume": 0.1 * 0.05,
            "half: both/gain": (gain - 0.5) / 2,
            "half: both/hyper_volume": 0.0,
        }
    )


def test_nothing_is_a_share_of_nothing() -> None:
    front, run = Front(perception=("map",), generation="kid"), {"map": 0.5, "kid": 0.1}
    assert front.of(run, {"map": 0.5}, {"kid": 0.1})["both/gain"] == 0
    assert front.of(run, {"map": 0.5}, {"kid": -0.001}) == front.of(run, {"map": 0.0}, {"kid": 0.1}) == front.of({"map": 0.5}, {"map": 0.5}, {"kid": 0.1}) == {}
    assert front.of(run, {}, {"kid": 0.1}) == front.of(run, {"map": 0.5}, {}) == {}, "which a run alone may lack, too"


@pytest.mark.parametrize("num_seeds", [1, 4])
def test_few_seeds_judge_nothing(tmp_path: Path, num_seeds: int) -> None:
    gain = filled(tmp_path, num_seeds)["top1, new - old"]
    assert gain.met is None and "too few to judge" in gain.how and (gain.interval is None) == (num_seeds == 1)


@pytest.mark.parametrize("how", ["share", "by"])
@pytest.mark.parametrize(("share", "met"), [(0.1, True), (0.3, False)])
def test_a_gain_may_have_to_be_so_large(tmp_path: Path, share: float, met: bool, how: str) -> None:
    """The mean gain in `ece` is .024 of .1."""
    claims = (Claim(figure="ece", arm="new", against="old", less=True, **{how: share if how == "share" else 0.1 * share}),)
    filled(tmp_path, 5)
    (found,) = suite_figures("mine", Suite(recipe="tiny", arms=SUITE.arms, claims=claims, shown=()), tmp_path)
    assert found.met is met and found.target == pytest.approx(-0.1 * share) and found.at_most


@pytest.mark.parametrize(("allowed", "met"), [(0.05, True), (0.01, False)])
def test_a_loss_may_be_allowed(tmp_path: Path, allowed: float, met: bool) -> None:
    """The old arm's `top1` is .024 below the new one's."""
    claims = (Claim(figure="top1", arm="old", against="new", allowed=allowed),)
    filled(tmp_path, 5)
    (found,) = suite_figures("mine", Suite(recipe="tiny", arms=SUITE.arms, claims=claims, shown=()), tmp_path)
    assert found.met is met and found.target == pytest.approx(-allowed) and not found.at_most


def test_nothing_finished_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no finished run of the suite `mine`"):
        suite_figures("mine", SUITE, tmp_path)


def test_every_run_is_trained_then_measured_and_a_failure_is_named_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def genrep(arguments: list[str], log: int) -> int:
        asked.append(arguments)
        return int("old-1" in str(arguments))

    monkeypatch.setattr(runner, "_genrep", genrep)
    two = replace(SUITE, num_seeds=2)
    assert list(two.runs(tmp_path)) == ["new-0", "old-0", "new-1", "old-1"]
    with pytest.raises(ValueError, match=r"1 of 4 runs failed: old-1; .*old-1\.txt says why"):
        runner.train_suite(two, tmp_path / "suite", at_once=1)
    of_first = ["train", "tiny", "--out", str(tmp_path / "suite/new-0"), "--train.seed", "0"], ["eval", str(tmp_path / "suite/new-0")]
    assert tuple(asked[:2]) == of_first and [words[0] for words in asked] == ["train", "eval"] * 3 + ["train"]
    assert not finished(tmp_path / "suite", "new-0")
    asked.clear()
    runner.train_suite(two, tmp_path / "suite", at_once=2, arms=("new",))
    assert sum(words[0] == "train" for words in asked) == 2 and not any("old" in str(words) for words in asked)


def test_a_suite_on_a_folder_of_ones_own_is_trained_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the recipe that looking at it gives, with the suite's settings and then the arm's; runs of another folder's are none of it."""
    asked: list[list[str]] = []

    def genrep(arguments: list[str], log: int) -> int:
        asked.append(arguments)
        return 0

    monkeypatch.setattr(runner, "_genrep", genrep)
    photos = write_photos(tmp_path / "photos", 4)
    suite = replace(SUITE, recipe="own", data="kept photos", settings={"train.lr": "2e-3", "train.batch_size": "4"}, num_seeds=1)
    with pytest.raises(ValueError, match=r"name it with --data\. The runs that are kept are of kept photos"):
        runner.train_suite(suite, tmp_path / "suite", at_once=1)
    runner.train_suite(suite, tmp_path / "suite", at_once=1, data=photos)
    assert [words[1:2] + words[4:] for words in asked if words[0] == "train"] == [
        [str(photos), "--train.lr", "2e-3", "--train.batch_size", "4", "--train.seed", "0"],
        [str(photos), "--train.lr", "1e-3", "--train.batch_size", "4", "--train.seed", "0"],
    ]
    measure(tmp_path / "suite", "old-0", {"top1": 0.5})
    write_json(tmp_path / "suite/old-0/config.json", to_dict(override(own(photos)[0], suite.runs(tmp_path)["old-0"])))
    runner.check_runs(suite, tmp_path / "suite", photos)
    runner.check_runs(suite, tmp_path / "suite")
    with pytest.raises(ValueError, match="old-0 was trained by other settings"):
        runner.check_runs(suite, tmp_path / "suite", write_photos(tmp_path / "others", 4))


def test_a_suite_that_has_data_is_given_none(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)
    with pytest.raises(ValueError, match="--data is of suites on a folder of your own, such as `photos`; `aligners` has its own data"):
        bench.run(parser.parse_args(["evidence", str(tmp_path), "--suite", "aligners", "--data", str(tmp_path)]))


LABELLED = replace(SUITE, num_seeds=1, arms={"sees": {}, "makes": {"objective.jobs": "generation"}}, claims=(), labelled_by={"makes": "sees"})


@pytest.mark.parametrize("fails", [False, True])
def test_an_arm_that_another_labels_waits_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
    """With a worker for each, the second would begin at once."""
    begun, ended = [], []

    def genrep(arguments: list[str], log: int) -> int:
        begun.append((arguments, list(ended)))
        time.sleep(0.05)
        ended.append(arguments[0])
        return int(fails)

    monkeypatch.setattr(runner, "_genrep", genrep)
    if fails:
        with pytest.raises(ValueError, match="2 of 2 runs failed: sees-0, makes-0"):
            runner.train_suite(LABELLED, tmp_path, at_once=2)
        assert len(begun) == 1
        return
    runner.train_suite(LABELLED, tmp_path, at_once=2)
    told, before = begun[2]
    assert told[told.index("--objective.labeller") + 1] == str(tmp_path / "sees-0" / "model") and before == ["train", "eval"]


def test_an_arm_cannot_do_without_the_one_that_labels_for_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`makes-0` needs `sees-0`, which is not finished in .*--arms"):
        runner.train_suite(LABELLED, tmp_path, at_once=1, arms=("makes",))


@pytest.mark.parametrize("name", SUITES)
def test_arms_are_configurations_and_claims_are_about_them(name: str) -> None:
    suite = SUITES[name]
    begun = Config() if suite.data else RECIPES[suite.recipe]()
    configs = [override(begun, changes) for changes in suite.runs(Path()).values()]
    assert all(isinstance(config, Config) for config in configs) and len(set(map(repr, configs))) == len(configs)
    arms = list(suite.arms)
    assert all(arms.index(first) < arms.index(arm) for arm, first in suite.labelled_by.items())
    assert all(set(claim.arms) <= set(suite.arms) and claim.figure in suite.shown for claim in suite.claims)
    if published := suite.published:
        assert {row.arm for row in published.rows} | {arm for effect in published.effects for arm in effect.arms} <= set(suite.arms)
        assert set(published.figures) <= set(suite.shown) and all(set(row.figures) == set(published.figures) for row in published.rows)


def test_claims_about_samples_ask_for_one_judge(tmp_path: Path) -> None:
    """Others do not; what a run does not say is another judge than one that is named."""
    claims = (Claim(figure="generation/kid", arm="new", against="old", less=True), Claim(figure="top1", arm="new", against="old"))
    suite = replace(SUITE, claims=claims, num_seeds=2)
    for arm, worse in (("new", 0.0), ("old", 0.1)):
        for seed in range(2):
            measure(
                tmp_path, f"{arm}-{seed}", {"generation/kid": 0.1 + worse + 0.001 * seed * (arm == "new"), "top1": 0.9 - worse + 0.001 * seed * (arm == "new")}
            )
            write_json(tmp_path / f"{arm}-{seed}" / "eval_details.json", {"generation": {"judge": "one"}})
    assert [figure.met for figure in suite_figures("mine", suite, tmp_path)[:2]] == [True, True]
    for other in ({"generation": {"judge": "another"}}, {}):
        write_json(tmp_path / "old-1" / "eval_details.json", other)
        kid, top1 = suite_figures("mine", suite, tmp_path)[:2]
        assert kid.met is None and "not one network judged all samples" in kid.how and top1.met is True


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

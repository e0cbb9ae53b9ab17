"""Arms, seeds and claims: what is paired, and what is judged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from small_suites import SUITE, measure

from genrep.config import Config
from genrep.evaluation.figures import Figure
from genrep.evaluation.front import Front
from genrep.evaluation.outcome import suite_figures
from genrep.evaluation.suite import Claim, Suite
from genrep.evaluation.suites import SUITES
from genrep.metrics.base import mean_of_repetitions
from genrep.overrides import override
from genrep.recipes import RECIPES
from genrep.storage import write_json

GAINS = (0.02, 0.03, 0.01, 0.02, 0.04)


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

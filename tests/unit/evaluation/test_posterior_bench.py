"""The benchmark of the estimators: what it measures, and that it judges only what it can."""

from __future__ import annotations

import sys

import pytest

from genrep.evaluation import posterior_bench
from genrep.evaluation.figures import Figure, missed
from genrep.evaluation.oracle import load_oracle
from genrep.evaluation.posterior_bench import Aim, posterior_figures
from genrep.posteriors import DenoisingGap


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posterior_bench, "FAMILY", {"gap": [DenoisingGap(budget=2), DenoisingGap(budget=4)]})
    monkeypatch.setattr(posterior_bench, "NUM_SEEDS", 3)
    aims = (Aim("gap", 4, "kl", 0.5, at_most=True), Aim("gap", 4, "accuracy", 0.95), Aim("gap", 2, "kl", 1e-3, at_most=True))
    monkeypatch.setattr(posterior_bench, "AIMS", aims)


@pytest.mark.usefixtures("small")
def test_more_evaluations_are_better_and_targets_are_bounds_on_either_side() -> None:
    figures = posterior_figures()
    value = {figure.name: figure.value for figure in figures}
    assert len(figures) == 13 == len(value)
    assert value["gap, 4 per class: kl"] < value["gap, 2 per class: kl"] and value["gap, 4 per class: accuracy"] > value["gap, 2 per class: accuracy"]
    assert [figure.met for figure in figures] == [True, True, False, True, True, True] + [None] * 7 and missed(figures) == ["gap, 2 per class: kl"]
    assert [figure.bound for figure in figures[:3]] == ["<= 0.5", ">= 0.95", "<= 0.001"] and {figure.bound for figure in figures[6:]} == {"-"}
    assert all(figure.interval[0] <= figure.value <= figure.interval[1] for figure in figures if not figure.name.startswith("nll"))


@pytest.mark.usefixtures("small")
def test_quick_says_that_it_judges_nothing() -> None:
    said: list[str] = []
    figures = posterior_figures(quick=True, progress=said.append)
    assert said == ["gap, 2 evaluations per class", "gap, 4 evaluations per class", "likelihoods"]
    assert {figure.met for figure in figures} == {None} and missed(figures) == []
    assert all("100 digits" in figure.how for figure in figures) and all("2 seeds" in figure.how for figure in figures[6:])
    assert figures[0].how.endswith("too few to judge a target by") and not figures[-1].how.endswith("too few to judge a target by")


def test_a_figure_without_a_target_is_not_missed() -> None:
    figure = Figure(name="a", value=1.0, interval=None, unit="", target=None, met=None, how="")
    assert missed([figure]) == [] and figure.bound == "-"


def test_without_scikit_learn_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ValueError, match=r"scikit-learn, which is not installed: pip install 'genrep\[bench\]'"):
        load_oracle()

"""The benchmark of a trained model's posterior: costs are counted, nobody is calibrated by the labels that judge it."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from rectangles import rectangles
from small_models import small_model

from genrep.evaluation import trained_posterior
from genrep.evaluation.figures import Figure, missed
from genrep.evaluation.judge import Judge, fit_judge
from genrep.evaluation.trained_posterior import line_up, trained_figures
from genrep.model import GenRep
from genrep.posteriors import DenoisingGap
from genrep.posteriors.calibration import Calibration


@pytest.fixture(scope="module")
def model() -> GenRep:
    made = small_model()
    made.calibration, made.estimator = Calibration(tau=0.1, bias=(0.0,) * 4, noisiness=1.0), DenoisingGap(budget=8, allocation=(1.0, 3.0))
    return made


@pytest.fixture(scope="module")
def judge() -> Judge:
    train = rectangles(200, size=16, seed=3)
    return Judge("rectangles-judge", fit_judge(train, num_epochs=10), train.pixels.shape[1])


@pytest.fixture(scope="module")
def figures(model: GenRep, judge: Judge) -> dict[str, Figure]:
    found = trained_figures(model, rectangles(60, size=16), judge, quick=True)
    assert len({figure.name for figure in found}) == len(found)
    return {figure.name: figure for figure in found}


def test_costs_are_passes_of_the_trunk(figures: dict[str, Figure]) -> None:
    """Two of three blocks know the class, of which there are four: n noised images take n (1 / 3 + 4 * 2 / 3) passes; halving asks 4, 2, 2, 2 classes twice."""
    cost = {name.removeprefix("trained model, ").removesuffix(": F"): figure.value for name, figure in figures.items() if name.endswith(": F")}
    assert cost["gap, 2 per class"] == pytest.approx(2 * (1 + 8) / 3) and cost["head"] == 1
    assert cost["gap, halving, 8 per class"] == pytest.approx(8 / 3 + 2 * (4 + 2 + 2 + 2) * 2 / 3)
    assert cost["gap, independent noise, 4 per class"] == pytest.approx(4 * 4)


def test_no_estimator_exceeds_the_largest_budget(model: GenRep, judge: Judge) -> None:
    found = line_up(model, quick=False, most=8)
    assert [estimator.budget for estimator in found["gap"]] == [2, 4, 8] and found["gap, halving"][-1].budget == 8
    assert {name for name, each in found.items() if max(estimator.budget for estimator in each) > 8} == {"chain, shared noise", "chain, independent noise"}
    with pytest.raises(ValueError, match="`most` must be at least 2 evaluations per class; found 1"):
        trained_figures(model, rectangles(4, size=16), judge, most=1)


def test_quick_judges_nothing_and_says_so(figures: dict[str, Figure]) -> None:
    aims = [figure for figure in figures.values() if figure.target is not None]
    assert len(aims) >= 6 and all(figure.met is None and "too few to judge" in figure.how for figure in aims)
    assert missed(list(figures.values())) == []


def test_an_interval_around_zero_holds_how_far_two_likelihoods_are_apart(model: GenRep, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousandth of a bit, in noise of a hundredth."""
    found = {"integral": torch.zeros(10), "bound": 0.001 + torch.tensor([0.01, -0.01] * 5)}
    monkeypatch.setattr(GenRep, "nll", lambda self, image, label, *, method: SimpleNamespace(bits_per_dimension=lambda: (found[method], found[method])))
    batch = rectangles(10, size=16).batch(torch.arange(10))
    apart = trained_posterior._bits(model, trained_posterior.Shown(batch.image, batch.label, torch.zeros(10, 4)), quick=True)[0]
    assert apart.interval is not None and apart.interval[0] == 0 < apart.value < apart.interval[1]


def test_each_half_is_calibrated_by_the_other() -> None:
    generator = torch.Generator().manual_seed(0)
    log_lik, label = torch.randn(40, 4, generator=generator), torch.randint(4, (40,), generator=generator)
    plain = trained_posterior._crossed(log_lik, label)
    changed = label.clone()
    changed[::2] = (label[::2] + 1) % 4
    other = trained_posterior._crossed(log_lik, changed)
    assert torch.equal(plain[::2], other[::2]) and not torch.allclose(plain[1::2], other[1::2])


def test_all_aims_are_judged_when_there_is_time(model: GenRep, judge: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trained_posterior, "BUDGETS", (2, 4))
    monkeypatch.setattr(trained_posterior, "REFERENCE", 8)
    line_up = trained_posterior.line_up
    monkeypatch.setattr(
        trained_posterior,
        "line_up",
        lambda model, *, quick, most: {k: v for k, v in line_up(model, quick=True).items() if k in ("gap", "gap, unweighted, even")},
    )
    monkeypatch.setattr(trained_posterior, "_bits", lambda *_, quick: [])
    found = trained_figures(model, rectangles(30, size=16), judge)
    aims = [figure for figure in found if figure.target is not None]
    assert {figure.met for figure in aims} <= {True, False}
    assert [figure.name for figure in aims if "per class" in figure.name] == [
        "accuracy that the head has more, 4 per class",
        "nll above the best other's, 2 per class",
        "nll above the best other's, 4 per class",
    ]


def test_a_model_that_cannot_be_measured_is_refused(model: GenRep, judge: Judge) -> None:
    with pytest.raises(ValueError, match="needs a calibrated model with a classification head and the classes of"):
        trained_figures(model, replace(rectangles(4, size=16), class_names=("a", "b", "c", "x")), judge)
    with pytest.raises(ValueError, match="needs a calibrated model"):
        trained_figures(small_model(), rectangles(4, size=16), judge)

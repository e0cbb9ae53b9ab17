"""What the posterior of a trained model is worth for what it costs: every estimator by budget, beside the head."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from genrep.datasets import ArrayDataset
from genrep.evaluation.evidence import SHARE, deletion
from genrep.evaluation.figures import Figure, plain
from genrep.evaluation.judge import Judge
from genrep.metrics.base import Estimate, bootstrap, bootstrap_mean
from genrep.metrics.classification import expected_calibration_error
from genrep.model import GenRep
from genrep.posteriors import DenoisingGap, PosteriorEstimator, ReverseChain, VariationalBound
from genrep.posteriors.calibration import fit_calibration
from genrep.posteriors.cost import Counted
from genrep.posteriors.gate import fit_gate
from genrep.randomness import SampleGenerator

NUM_IMAGES, NUM_IMAGES_QUICK, NUM_BITS, NUM_DELETED, BATCH = 500, 30, 100, 200, 50
BUDGETS, BUDGETS_QUICK = (2, 4, 8, 16, 32, 64, 128), (2, 4)
DEFAULT = "gap"
USUAL = 8
"""What `GenRep.posterior` uses, and its budget."""
OF_TRAINING, REFERENCE = 4, 64
"""Budget of the lessons, and 16 times as much."""
CLOSE_TO_HEAD, CLOSE_BITS, CLOSE_BF16, CLOSE_REFERENCE = 0.03, 0.02, 0.005, 0.02

LogProbs = Float[Tensor, "n k"]


@dataclass(frozen=True)
class Shown:
    """Test images of one garment, their classes, and what the head says."""

    image: Tensor
    label: Int[Tensor, " n"]
    head: LogProbs


@dataclass(frozen=True)
class Outcome:
    """The posterior that an estimator gives, and F per image; the bank of a chain from noise is made anew for every `BATCH` images."""

    log_posterior: LogProbs
    passes: float


def line_up(model: GenRep, *, quick: bool, most: int = BUDGETS[-1]) -> dict[str, list[PosteriorEstimator]]:
    """Every estimator at its budgets up to `most` (a chain has its 200); the default draws and weighs as the model's calibration says."""
    assert model.calibration
    tuned = model.calibration.tuned(model.estimator)
    gap = replace(tuned, budget=4, rounds=1) if isinstance(tuned, DenoisingGap) else DenoisingGap()
    allocated, even, plain = replace(gap, weights=None), DenoisingGap(), DenoisingGap(stratified=False, antithetic=False)
    budgets = BUDGETS_QUICK if quick else BUDGETS
    some, few = (budgets, budgets) if quick else (budgets[::2], budgets[:-1:2])

    def at(estimator: PosteriorEstimator, budgets: Sequence[int], least: int = 1) -> list[PosteriorEstimator]:
        return [replace(estimator, budget=budget) for budget in budgets if least <= budget <= most]

    return {
        DEFAULT: at(gap, budgets),
        "gap, halving": at(replace(gap, budget=8, rounds=4), (8,) if quick else (8, 16, 32, 64)),
        "gap, unweighted": at(allocated, some),
        "gap, unweighted, even": at(even, few),
        "gap, no pairs, no strata": at(plain, few),
        "gap, independent noise": at(replace(plain, noise="independent"), few),
        "bound of 1000 steps": at(VariationalBound(), few, least=4),
        "chain, shared noise": [] if quick else [ReverseChain()],
        "chain, independent noise": [] if quick else [ReverseChain(noise="independent")],
    }


def trained_figures(
    model: GenRep,
    test: ArrayDataset,
    judge: Judge,
    *,
    quick: bool = False,
    most: int = BUDGETS[-1],
    progress: Callable[[str], None] = lambda line: None,
) -> list[Figure]:
    """Accuracy, likelihood and calibration of the posterior of an image's one class, by estimator and budget; first what has a target.

    Every posterior is calibrated by the labels of one half of the images and measured on the other, both ways, so that no estimator has
    the advantage of the one that the model was calibrated for.

    Args:
        test: images of one class each, of which the first `NUM_IMAGES` are used.
        judge: of the deletion of evidence.
        quick: few images and budgets, too few to judge a target by.
        most: evaluations per class.
        progress: told which estimator is next.
    Raises:
        ValueError: `most` is below the smallest budget; the model has no calibration, no classification head, or other classes.
    """
    if most < BUDGETS[0]:
        raise ValueError(f"`most` must be at least {BUDGETS[0]} evaluations per class; found {most}.")
    shown = _shown(model, test, NUM_IMAGES_QUICK if quick else NUM_IMAGES)
    found: dict[tuple[str, int], Outcome] = {}
    for name, estimators in line_up(model, quick=quick, most=most).items():
        for estimator in estimators:
            progress(f"trained model: {name}, {estimator.budget} evaluations per class")
            found[name, estimator.budget] = _outcome(model, shown, estimator)
    how = f"{len(shown.label)} test images, bootstrap interval; calibrated on the other half"
    rows = {"head": Outcome(shown.head, 1.0), **{f"{name}, {budget} per class": outcome for (name, budget), outcome in found.items()}}
    if model.gate:
        budget = max(budget for name, budget in found if name == DEFAULT and budget <= USUAL)
        together = Outcome(model.combined(shown.image, budget=budget), 1 + found[DEFAULT, budget].passes)
        rows[f"head and {DEFAULT} combined, as stored, {budget} per class"] = together
    progress("trained model: likelihoods")
    judged = [*_aims(shown, found, how), _bf16(model, shown, quick=quick), *_bits(model, shown, quick=quick), *_evidence(model, judge, shown, quick=quick)]
    judged = [replace(figure, met=None, how=f"{figure.how}; too few to judge a target by") for figure in judged] if quick else judged
    return judged + _grid(shown, rows, how)


def require_posterior(model: GenRep, name: str, class_names: tuple[str, ...]) -> None:
    """Refuse a model that this bench has nothing to ask of a data set.

    Raises:
        ValueError: no calibration, no classification head, or other classes.
    """
    if model.calibration is None or "classification" not in model.heads or class_names != model.class_names:
        raise ValueError(f"the bench of a trained posterior needs a calibrated model with a classification head and the classes of `{name}`.")


def _shown(model: GenRep, test: ArrayDataset, num: int) -> Shown:
    require_posterior(model, test.name, test.class_names)
    batch = test.batch(torch.arange(min(num, len(test))))
    head = model.perceive(batch.image).class_log_probs
    assert head is not None
    return Shown(batch.image, batch.label, head)


@torch.no_grad()
def _outcome(model: GenRep, shown: Shown, estimator: PosteriorEstimator) -> Outcome:
    num_classes = len(model.class_names)
    counted, parts = Counted(model.denoiser.candidates), []
    for rows in torch.arange(len(shown.label)).split(BATCH):
        x0 = model.encode(shown.image[rows].to(model.device))
        candidates = torch.eye(num_classes, device=model.device).expand(len(x0), -1, -1)
        generator = SampleGenerator(0, rows.to(model.device), "posterior")
        parts.append(estimator(counted, x0, candidates, schedule=model.schedule, generator=generator).cpu())
    log_lik = torch.cat(parts)
    return Outcome(_crossed(log_lik, shown.label), counted.passes(model.denoiser.trunk.class_share) / len(log_lik))


def _halves(num: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """What to fit on and what to measure, both ways."""
    even, odd = torch.arange(0, num, 2), torch.arange(1, num, 2)
    return (even, odd), (odd, even)


def _crossed(log_lik: LogProbs, label: Int[Tensor, " n"]) -> LogProbs:
    """The posterior of each half of the images, calibrated on the other."""
    uniform, found = torch.zeros(log_lik.shape[1]), torch.empty_like(log_lik)
    for fit, use in _halves(len(label)):
        found[use] = fit_calibration({1: log_lik[fit]}, label[fit], uniform).log_posterior(log_lik[use], uniform, budget=1).to(found)
    return found


def _together(head: LogProbs, log_posterior: LogProbs, label: Int[Tensor, " n"]) -> LogProbs:
    """The product of head and posterior, with exponents from the other half of the images."""
    found = torch.empty_like(head)
    for fit, use in _halves(len(label)):
        found[use] = fit_gate(head[fit], log_posterior[fit], label[fit]).product(head[use], log_posterior[use])
    return found


def _right(log_probs: LogProbs, label: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    return (log_probs.argmax(1) == label).float()


def _surprise(log_probs: LogProbs, label: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """-log p(label | x) of each image, nats."""
    return -log_probs.gather(1, label[:, None]).squeeze(1)


def _divergence(log_p: LogProbs, log_q: LogProbs) -> Estimate:
    """KL(p || q), nats."""
    return bootstrap_mean(torch.nn.functional.kl_div(log_q, log_p, reduction="none", log_target=True).sum(1))


def _aims(shown: Shown, found: Mapping[tuple[str, int], Outcome], how: str) -> list[Figure]:
    """What the posterior should be worth, each as a difference that should not be above its target."""
    most = max(budget for name, budget in found if name == DEFAULT)
    best = found[DEFAULT, most].log_posterior
    lead = bootstrap_mean(_right(shown.head, shown.label) - _right(best, shown.label))
    figures = [_at_most(f"accuracy that the head has more, {most} per class", lead, CLOSE_TO_HEAD, how)]
    together = _together(shown.head, best, shown.label)
    for name, alone in (("head", shown.head), ("posterior", best)):
        lost = bootstrap_mean(_surprise(together, shown.label) - _surprise(alone, shown.label))
        figures.append(_at_most(f"nll of head and posterior together above the {name}'s", lost, 0.0, how, unit="nats", by="high"))
    for budget in sorted(budget for name, budget in found if name == DEFAULT):
        mine = _surprise(found[DEFAULT, budget].log_posterior, shown.label)
        rivals = [_surprise(outcome.log_posterior, shown.label) for (name, other), outcome in found.items() if other == budget and name != DEFAULT]
        behind = max((bootstrap_mean(mine - rival) for rival in rivals), key=lambda estimate: estimate.low, default=None)
        if behind:
            tie = f"{how}; better or tied: the interval reaches 0"
            figures.append(_at_most(f"nll above the best other's, {budget} per class", behind, 0.0, tie, unit="nats", by="low"))
    if (DEFAULT, REFERENCE) in found:
        few, many = (found[DEFAULT, budget].log_posterior for budget in (OF_TRAINING, REFERENCE))
        figures.append(_at_most(f"KL to {REFERENCE} per class, {OF_TRAINING} per class", _divergence(many, few), CLOSE_REFERENCE, how, unit="nats"))
    return figures


def _at_most(name: str, value: Estimate, target: float, how: str, *, unit: str = "0 to 1", by: Literal["value", "low", "high"] = "value") -> Figure:
    """A figure with an upper bound, met by its value, by the low end of its interval (a tie) or by the high end (for certain)."""
    judged: float = getattr(value, by)
    interval = (value.low, value.high)
    return Figure(name=name, value=value.value, interval=interval, unit=unit, target=target, at_most=True, met=judged <= target, how=how)


def _bf16(model: GenRep, shown: Shown, *, quick: bool) -> Figure:
    """How far bfloat16 moves the posterior."""
    num = 20 if quick else 200
    assert model.calibration
    exact, rounded = (model.posterior(shown.image[:num], bf16=bf16) for bf16 in (False, True))
    return _at_most(
        "KL of float32 to bfloat16", _divergence(exact, rounded), CLOSE_BF16, f"{num} test images, 8 evaluations per class, the same noise", unit="nats"
    )


def _bits(model: GenRep, shown: Shown, *, quick: bool) -> list[Figure]:
    """-log p(x | y) by three roads, and how far two of them are apart."""
    num = 10 if quick else NUM_BITS
    methods = ("integral", "bound") if quick else ("integral", "bound", "flow")
    bits = {method: model.nll(shown.image[:num], shown.label[:num], method=method).bits_per_dimension()[0] for method in methods}
    how = f"{num} test images given their class"
    apart = bootstrap_mean(bits["bound"] - bits["integral"])
    ends = sorted((abs(apart.low), abs(apart.high)))
    far = Estimate(abs(apart.value), 0.0 if apart.low <= 0 <= apart.high else ends[0], ends[1])
    first = _at_most("bits per dimension between bound of 1000 steps and integral", far, CLOSE_BITS, how, unit="bits")
    return [first, *(plain(f"likelihood by {method}: bits per dimension", bootstrap_mean(values), "bits", how) for method, values in bits.items())]


def _evidence(model: GenRep, judge: Judge, shown: Shown, *, quick: bool) -> list[Figure]:
    """Whether the pixels that evidence names matter more than others."""
    num = 20 if quick else NUM_DELETED
    found = deletion(model, judge, shown.image[:num], shown.label[:num])
    how = f"{num} test images, {SHARE:.0%} of the pixels deleted; {judge.name}, label against the head's favourite among the others"
    more = [
        _at_most(f"log-odds that deletion by {name} costs more than by evidence", Estimate(-e.value, -e.high, -e.low), 0.0, how, unit="nats", by="high")
        for name, e in found.more_than.items()
    ]
    return more + [plain(f"deletion by {name}: log-odds lost", value, "nats", how) for name, value in found.lost.items()]


def _grid(shown: Shown, rows: Mapping[str, Outcome], how: str) -> list[Figure]:
    """Accuracy, nll, calibration error and F of the head and of everything else."""
    figures = []
    for name, outcome in rows.items():
        log_probs, passes = outcome.log_posterior, outcome.passes
        figures += [
            plain(f"trained model, {name}: accuracy", bootstrap_mean(_right(log_probs, shown.label)), "0 to 1", how),
            plain(f"trained model, {name}: nll", bootstrap_mean(_surprise(log_probs, shown.label)), "nats", how),
            plain(f"trained model, {name}: ece", _error(log_probs, shown.label), "0 to 1", how),
            plain(f"trained model, {name}: F", Estimate(passes, math.nan, math.nan), "passes of the trunk per image", how),
        ]
    return figures


def _error(log_probs: LogProbs, label: Int[Tensor, " n"]) -> Estimate:
    return bootstrap(lambda rows: expected_calibration_error(log_probs[rows], label[rows]), len(label), num_resamples=200, distance=True)

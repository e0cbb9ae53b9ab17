"""How right each posterior estimator is for its budget, against the exact posterior of the oracle rig."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache, partial

import torch

from genrep.evaluation.figures import Figure
from genrep.evaluation.oracle import Oracle, Scores, load_oracle, score
from genrep.metrics.base import mean_of_repetitions
from genrep.posteriors import DenoisingGap, PosteriorEstimator, ProbabilityFlow, ReverseChain, VariationalBound
from genrep.posteriors.base import one_by_one
from genrep.posteriors.likelihood import NegativeLogLikelihood, nll_by_description, nll_by_flow
from genrep.posteriors.reverse_chain import measured
from genrep.randomness import SampleGenerator
from genrep.training.pilot import run_pilot

NUM_SEEDS, NUM_SEEDS_QUICK, NUM_IMAGES_QUICK = 10, 2, 100

GAP, PLAIN = DenoisingGap(), DenoisingGap(stratified=False, antithetic=False)
FAMILY: dict[str, Sequence[PosteriorEstimator]] = {
    "gap": [replace(GAP, budget=budget) for budget in (2, 4, 16, 64)],
    "gap, allocated": [replace(GAP, budget=budget) for budget in (2, 4, 16, 64)],
    "gap, no pairs": [replace(GAP, budget=budget, antithetic=False) for budget in (1, 4, 16)],
    "gap, no pairs, no strata": [replace(PLAIN, budget=budget) for budget in (1, 4, 16)],
    "gap, independent noise": [replace(PLAIN, budget=budget, noise="independent") for budget in (16, 128)],
    "bound of 1000 steps": [VariationalBound(budget=budget) for budget in (4, 16, 64)],
    "flow": [ProbabilityFlow(budget=20)],
    "chain, independent noise": [ReverseChain(noise="independent")],
    "chain, shared noise": [ReverseChain()],
    "chain, its states' posteriors": [ReverseChain(kernel="posterior")],
    "chain, their measured spread": [ReverseChain()],
    "chain from the noised image": [ReverseChain(start=0.5, budget=60, burn_in=20)],
}
"""Every estimator at its budgets; `ALLOCATED` and `SPREAD` get what they need to know from a pilot run on val."""

ALLOCATED, SPREAD, NUM_IMAGES_PILOT = "gap, allocated", "chain, their measured spread", 100


@dataclass(frozen=True)
class Aim:
    """What a score of an estimator at a budget should be."""

    estimator: str
    budget: int
    what: str
    target: float
    at_most: bool = False


AIMS = (
    Aim(ALLOCATED, 16, "kl", 0.02, at_most=True),
    Aim(ALLOCATED, 16, "agreement", 0.99),
    Aim(ALLOCATED, 4, "accuracy", 0.98),
    Aim("chain, independent noise", 200, "accuracy", 0.25, at_most=True),
    Aim("chain, shared noise", 200, "accuracy", 0.5),
    Aim("chain, shared noise", 200, "accuracy", 0.8, at_most=True),
)

UNITS = {"kl": "nats", "nll": "nats"}


def posterior_figures(*, quick: bool = False, progress: Callable[[str], None] = lambda line: None) -> list[Figure]:
    """The whole family on the oracle rig, a mean over seeds of the noise; first what has a target.

    Args:
        quick: two seeds and 100 images, too few to judge a target by.
        progress: told which estimator is next.
    """
    oracle = load_oracle()
    oracle = oracle.first(NUM_IMAGES_QUICK) if quick else oracle
    num_seeds = NUM_SEEDS_QUICK if quick else NUM_SEEDS
    exact = oracle.exact()
    found: dict[tuple[str, int], list[Scores]] = {}
    for name, estimators in FAMILY.items():
        for plain in estimators:
            estimator = piloted(plain) if name in (ALLOCATED, SPREAD) else plain
            progress(f"{name}, {estimator.budget} evaluations per class")
            seeds = range(num_seeds)
            found[name, estimator.budget] = [score(oracle.estimated(_seeded(estimator, seed), seed=seed), exact, oracle.labels) for seed in seeds]
    best = score(exact, exact, oracle.labels).accuracy
    how = f"{len(oracle.images)} digits with an exact denoiser, {num_seeds} seeds, no calibration; exact posterior: accuracy {best:.3f}"
    aimed = [_figure(found[aim.estimator, aim.budget], aim.estimator, aim.budget, aim.what, how, aim=aim, judged=not quick) for aim in AIMS]
    progress("likelihoods")
    return aimed + nll_figures(oracle, judged=not quick) + _others(found, how)


def piloted(estimator: PosteriorEstimator) -> PosteriorEstimator:
    """With what a pilot run on val finds: where a gap should draw, or how far a chain's states are from the clean image."""
    if isinstance(estimator, DenoisingGap):
        return replace(estimator, allocation=pilot())
    if isinstance(estimator, ReverseChain):
        val = load_oracle(test=False).first(NUM_IMAGES_PILOT)
        generator = SampleGenerator(0, torch.arange(len(val.images)), "pilot")
        y = torch.nn.functional.one_hot(val.labels, len(val.densities.points)).to(val.images)
        return measured(estimator, one_by_one(val.densities), val.images, y, schedule=val.densities.schedule, generator=generator)
    return estimator


@lru_cache(maxsize=1)
def pilot() -> tuple[float, ...] | None:
    """Where the default estimator should draw on the rig, found on val."""
    val = load_oracle(test=False).first(NUM_IMAGES_PILOT)
    generator = SampleGenerator(0, torch.arange(len(val.images)), "pilot")
    return run_pilot(GAP, one_by_one(val.densities), val.images, val.candidates(), schedule=val.densities.schedule, generator=generator).allocated().allocation


NLL: dict[str, Callable[..., NegativeLogLikelihood]] = {
    "integral": nll_by_description,
    "bound of 10,000 steps": partial(nll_by_description, num_steps=10_000),
    "flow": nll_by_flow,
}


def nll_figures(oracle: Oracle, *, judged: bool) -> list[Figure]:
    """-log p(x | y) of the digits by each road, and how far from the exact value, which should be within its own interval."""
    condition = torch.nn.functional.one_hot(oracle.labels, len(oracle.densities.points)).to(oracle.images)
    exact = -oracle.densities.log_likelihoods(oracle.images).gather(1, oracle.labels[:, None]).squeeze(1)
    figures = []
    for name, road in NLL.items():
        generator = SampleGenerator(0, torch.arange(len(exact)), f"nll/{name}")
        difference = road(one_by_one(oracle.densities), oracle.images, condition, schedule=oracle.densities.schedule, generator=generator).nats - exact
        bias = mean_of_repetitions(difference.tolist())
        figures.append(
            Figure(
                name=f"nll by {name}: distance from the exact value",
                value=abs(bias.value),
                interval=None,
                unit="nats",
                target=bias.high - bias.value,
                at_most=True,
                met=bias.low <= 0 <= bias.high if judged else None,
                how=f"{len(exact)} digits of 64 dimensions, mean; the target is the half-width of its own 95 % interval; exact: {float(exact.mean()):.2f} nats",
            )
        )
    return figures


def _seeded(estimator: PosteriorEstimator, seed: int) -> PosteriorEstimator:
    """A bank of chains has a seed of its own."""
    return replace(estimator, seed=seed) if isinstance(estimator, ReverseChain) and estimator.start == 1 else estimator


def _others(found: Mapping[tuple[str, int], list[Scores]], how: str) -> list[Figure]:
    """Every score that has no target."""
    aims = {(aim.estimator, aim.budget, aim.what) for aim in AIMS}
    scores = [field.name for field in fields(Scores)]
    return [_figure(each, name, budget, what, how) for (name, budget), each in found.items() for what in scores if (name, budget, what) not in aims]


def _figure(scores: Sequence[Scores], name: str, budget: int, what: str, how: str, *, aim: Aim | None = None, judged: bool = True) -> Figure:
    found = mean_of_repetitions([getattr(each, what) for each in scores])
    met = None if aim is None or not judged else found.value <= aim.target if aim.at_most else found.value >= aim.target
    return Figure(
        name=f"{name}, {budget} per class: {what}",
        value=found.value,
        interval=(found.low, found.high),
        unit=UNITS.get(what, "0 to 1"),
        target=aim.target if aim else None,
        at_most=bool(aim and aim.at_most),
        met=met,
        how=how if judged else f"{how}; too few to judge a target by",
    )

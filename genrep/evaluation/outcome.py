"""What the finished runs of a suite say: its arms' figures, and its claims, by differences that are paired by seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from genrep.evaluation.figures import Figure, plain
from genrep.evaluation.kept import judges_of
from genrep.evaluation.published import signed
from genrep.evaluation.suite import Claim, Suite, finished, seed_of
from genrep.metrics.base import Estimate, mean_of_repetitions
from genrep.storage import read_json


@dataclass(frozen=True)
class Outcome:
    """Of the runs of a suite that lie, finished, in a folder.

    Args:
        folder: of the runs, or of what a page of results keeps of them.
    """

    suite: Suite
    folder: Path

    @cached_property
    def runs(self) -> tuple[str, ...]:
        """Those that are finished, all arms of a seed before the next seed."""
        return tuple(run for run in self.suite.runs(self.folder) if finished(self.folder, run))

    @cached_property
    def measured(self) -> Mapping[str, Mapping[str, float]]:
        """Their figures, by run and name."""
        found: dict[str, dict[str, float]] = {run: read_json(self.folder / run / "eval.json") for run in self.runs}
        if front := self.suite.front:
            for run in found:
                seen, made = (found.get(f"{arm}-{seed_of(run)}") for arm in (front.seen, front.made))
                if seen and made:
                    found[run] |= front.of(found[run], seen, made)
        return found

    @cached_property
    def judges(self) -> Mapping[str, tuple[str, ...]]:
        """The networks that judged each run's samples."""
        return {run: judges_of(self.folder / run) for run in self.runs}

    def values(self, arm: str, figure: str) -> dict[int, float]:
        """A figure of an arm, by seed."""
        found = {seed: self.measured.get(f"{arm}-{seed}", {}).get(figure) for seed in range(self.suite.num_seeds)}
        return {seed: value for seed, value in found.items() if value is not None}

    def differences(self, arms: Sequence[str], figure: str) -> dict[int, float]:
        """By how much an arm is above another, or by how much more than a third is above a fourth, of every seed that all of them have."""
        values = [self.values(arm, figure) for arm in arms]
        return {seed: signed(of[seed] for of in values) for seed in sorted(set.intersection(*map(set, values)))}

    def seeds(self) -> dict[str, dict[str, list[float]]]:
        """Of each shown figure that any run has, of each arm, a number for each seed."""
        found = {key: {arm: list(self.values(arm, key).values()) for arm in self.suite.arms} for key in self.suite.shown}
        return {key: of_arms for key, of_arms in found.items() if any(of_arms.values())}

    def claims(self) -> list[Figure]:
        """What is claimed, judged where there are as many seeds as the suite asks for and one network judged all samples."""
        return [self._judged(claim) for claim in self.suite.claims]

    def _judged(self, claim: Claim) -> Figure:
        suite, theirs, gains = self.suite, self.values(claim.against, claim.figure), self.differences(claim.arms, claim.figure)
        found = mean_of(gains)
        doubt = "" if len(gains) >= suite.num_seeds else "; too few to judge"
        if claim.of_samples and len({self.judges[f"{arm}-{seed}"] for arm in suite.arms_of(claim) for seed in gains}) > 1:
            doubt += "; not judged, as not one network judged all samples"
        sign = -1 if claim.less else 1
        target = sign * (claim.share * sum(theirs.values()) / max(len(theirs), 1) + claim.by - claim.allowed) + 0.0  # never -0
        worst = None if found is None else sign * (found.high if claim.less else found.low)
        better = found is not None and worst is not None and worst > -claim.allowed and sign * found.value >= sign * target
        return Figure(
            name=claim.name,
            value=found.value if found else None,
            interval=(found.low, found.high) if found and len(gains) > 1 else None,
            unit="difference",
            target=target,
            at_most=claim.less,
            met=None if doubt else better,
            how=f"{len(gains)} seeds, paired, Student's t; met where the interval is off {-sign * claim.allowed + 0.0:g}{doubt}",
        )


def suite_figures(name: str, suite: Suite, folder: Path) -> list[Figure]:
    """The claims, then every arm's figures, from the runs that are finished.

    Raises:
        ValueError: none is.
    """
    outcome = Outcome(suite, folder)
    if not outcome.runs:
        raise ValueError(f"{folder} has no finished run of the suite `{name}`; without `--quick` they are trained.")
    figures = outcome.claims()
    for arm in suite.arms:
        for key in suite.shown:
            values = outcome.values(arm, key)
            if found := mean_of(values):
                figures.append(plain(f"{arm}: {key}", found, "as in eval.json", f"mean over {len(values)} seeds, Student's t"))
    return figures


def mean_of(values: Mapping[int, float]) -> Estimate | None:
    """Of seeds, with an interval where there are two or more; None where there is none."""
    if len(values) > 1:
        return mean_of_repetitions(list(values.values()))
    return next((Estimate(value, float("nan"), float("nan")) for value in values.values()), None)

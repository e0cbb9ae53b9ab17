"""What a suite is: one recipe trained in several arms and seeds, and what is claimed of the arms, by paired differences between finished runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from genrep.evaluation.figures import Figure, plain
from genrep.evaluation.front import Front
from genrep.evaluation.kept import judges_of
from genrep.metrics.base import Estimate, mean_of_repetitions
from genrep.storage import read_json

ENOUGH_SEEDS = 5
"""Of a suite, where it does not say another number."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One arm is better than another in a figure of eval.json: above it, or below it where less is better; the interval of the difference is off zero.

    Or it is better by more than a third is better than a fourth: the interaction of a 2 x 2 design.
    """

    figure: str
    arm: str
    against: str
    beside: tuple[str, str] | None = None
    """The third and the fourth."""
    less: bool = False
    share: float = 0.0
    """By how much of the other's figure at least."""
    by: float = 0.0
    """By how much at least."""
    allowed: float = 0.0
    """How much worse it may be; then the interval is off that."""

    @property
    def arms(self) -> tuple[str, ...]:
        """All that it is about."""
        return (self.arm, self.against, *(self.beside or ()))

    @property
    def of_samples(self) -> bool:
        """Whether a network has judged what it is about."""
        return self.figure.startswith(("generation/", "both/"))

    @property
    def name(self) -> str:
        """What is claimed to be off zero."""
        pair = f"{self.arm} - {self.against}"
        return f"{self.figure}, ({pair}) - ({self.beside[0]} - {self.beside[1]})" if self.beside else f"{self.figure}, {pair}"


@dataclass(frozen=True, kw_only=True)
class Suite:
    """What is trained, and what is asked of it."""

    recipe: str
    arms: Mapping[str, Mapping[str, str]]
    """Overrides by dotted name."""
    claims: tuple[Claim, ...]
    shown: tuple[str, ...]
    """Figures of every arm."""
    num_seeds: int = ENOUGH_SEEDS
    """With fewer finished, an interval is shown and nothing is judged."""
    front: Front | None = None
    """Adds what a run is in both jobs, beside two models, to its figures."""
    labelled_by: Mapping[str, str] = field(default_factory=dict)
    """Arms whose generation is told by another arm's model of the same seed what images without labels show: the other arm, which comes before."""

    def runs(self, folder: Path, arms: Sequence[str] = ()) -> dict[str, dict[str, str]]:
        """Every run by the name of its folder within `folder`, with its overrides; all arms of a seed before the next seed.

        Args:
            arms: only these; none: all.
        """
        found = {}
        for seed in range(self.num_seeds):
            for arm in (arm for arm in self.arms if arm in arms or not arms):
                other = self.labelled_by.get(arm)
                labeller = {"objective.labeller": str(folder.resolve() / f"{other}-{seed}" / "model")} if other else {}
                found[f"{arm}-{seed}"] = {**self.arms[arm], **labeller, "train.seed": str(seed)}
        return found

    def arms_of(self, claim: Claim) -> tuple[str, ...]:
        """All whose samples a claim is about."""
        return (*claim.arms, self.front.made) if self.front and claim.figure.startswith("both/") else claim.arms

    def first(self, run: str) -> str | None:
        """The run that another needs to be finished."""
        arm, seed = run.rsplit("-", 1)
        other = self.labelled_by.get(arm)
        return f"{other}-{seed}" if other else None


def arm_of(run: str) -> str:
    """Of a run called ARM-SEED.

    >>> arm_of("self-trained-3")
    'self-trained'
    """
    return run.rpartition("-")[0]


def seed_of(run: str) -> str:
    """Of a run called ARM-SEED."""
    return run.rpartition("-")[2]


def finished(folder: Path, run: str) -> bool:
    """Whether a run of a suite was trained and measured."""
    return (folder / run / "eval.json").is_file()


def suite_figures(name: str, suite: Suite, folder: Path) -> list[Figure]:
    """The claims, then every arm's figures, from the runs that are finished.

    Raises:
        ValueError: none is.
    """
    measured = _measured(suite, folder)
    if not measured:
        raise ValueError(f"{folder} has no finished run of the suite `{name}`; without `--quick` they are trained.")
    judges = {run: judges_of(folder / run) for run in measured}
    claims = [_judged(suite, claim, measured, judges) for claim in suite.claims]
    return claims + [figure for arm in suite.arms for key in suite.shown if (figure := _shown(suite, arm, key, measured))]


def seeds_of(suite: Suite, folder: Path) -> dict[str, dict[str, list[float]]]:
    """Of each shown figure that any finished run has, of each arm, a number for each finished seed."""
    measured = _measured(suite, folder)
    found = {key: {arm: list(_values(suite, arm, key, measured).values()) for arm in suite.arms} for key in suite.shown}
    return {key: of_arms for key, of_arms in found.items() if any(of_arms.values())}


def _measured(suite: Suite, folder: Path) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {run: read_json(folder / run / "eval.json") for run in suite.runs(folder) if finished(folder, run)}
    if suite.front:
        for run in found:
            seen, made = (found.get(f"{arm}-{seed_of(run)}") for arm in (suite.front.seen, suite.front.made))
            if seen and made:
                found[run] |= suite.front.of(found[run], seen, made)
    return found


def _values(suite: Suite, arm: str, key: str, measured: Mapping[str, Mapping[str, float]]) -> dict[int, float]:
    """A figure of an arm by seed."""
    found = {seed: measured.get(f"{arm}-{seed}", {}).get(key) for seed in range(suite.num_seeds)}
    return {seed: value for seed, value in found.items() if value is not None}


def _judged(suite: Suite, claim: Claim, measured: Mapping[str, Mapping[str, float]], judges: Mapping[str, tuple[str, ...]]) -> Figure:
    values = [_values(suite, arm, claim.figure, measured) for arm in claim.arms]
    theirs, seeds = values[1], sorted(set.intersection(*map(set, values)))
    gains = [sum(s * of[seed] for s, of in zip((1, -1, -1, 1), values, strict=False)) for seed in seeds]
    found = _mean(gains)
    doubt = "" if len(gains) >= suite.num_seeds else "; too few to judge"
    if claim.of_samples and len({judges[f"{arm}-{seed}"] for arm in suite.arms_of(claim) for seed in seeds}) > 1:
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


def _shown(suite: Suite, arm: str, key: str, measured: Mapping[str, Mapping[str, float]]) -> Figure | None:
    values = list(_values(suite, arm, key, measured).values())
    found = _mean(values)
    return plain(f"{arm}: {key}", found, "as in eval.json", f"mean over {len(values)} seeds, Student's t") if found else None


def _mean(values: Sequence[float]) -> Estimate | None:
    """With an interval where there are two values or more; None where there is none."""
    if len(values) > 1:
        return mean_of_repetitions(values)
    return Estimate(values[0], float("nan"), float("nan")) if values else None

"""What a suite is: one recipe trained in several arms and seeds, and what is claimed of the arms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from genrep.evaluation.front import Front
from genrep.evaluation.published import Published

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
    settings: Mapping[str, str] = field(default_factory=dict)
    """Overrides of every arm, before its own."""
    data: str = ""
    """Of a suite on a folder of one's own, which is named to train it and looked at to choose a recipe: what the runs that are kept were trained on."""
    num_seeds: int = ENOUGH_SEEDS
    """With fewer finished, an interval is shown and nothing is judged."""
    front: Front | None = None
    """Adds what a run is in both jobs, beside two models, to its figures."""
    published: Published | None = None
    """What a paper says of such arms, to stand beside them."""
    labelled_by: Mapping[str, str] = field(default_factory=dict)
    """Arms whose generation is told by another arm's model of the same seed what images without labels show: the other arm, which comes before."""

    def runs(self, folder: Path, arms: Sequence[str] = (), seeds: Sequence[int] = ()) -> dict[str, dict[str, str]]:
        """Every run by the name of its folder within `folder`, with its overrides; all arms of a seed before the next seed.

        Args:
            arms, seeds: only these; none: all.
        """
        found = {}
        for seed in (seed for seed in range(self.num_seeds) if seed in seeds or not seeds):
            for arm in (arm for arm in self.arms if arm in arms or not arms):
                other = self.labelled_by.get(arm)
                labeller = {"objective.labeller": str(folder.resolve() / f"{other}-{seed}" / "model")} if other else {}
                found[f"{arm}-{seed}"] = {**self.changes(arm), **labeller, "train.seed": str(seed)}
        return found

    def changes(self, arm: str) -> dict[str, str]:
        """Overrides of an arm."""
        return {**self.settings, **self.arms[arm]}

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

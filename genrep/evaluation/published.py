"""A paper's ablation beside ours: its rows, what each mechanism added there, and whether it does here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from genrep.metrics.base import Estimate

ENOUGH = 3
"""Seeds, from which on an effect here may agree with the paper's or not."""


@dataclass(frozen=True)
class Row:
    """What a paper says of a setting."""

    setting: str
    """In its words."""
    arm: str
    """Of ours, that is like it."""
    figures: Mapping[str, float]
    """By name in eval.json."""


@dataclass(frozen=True)
class Effect:
    """What one setting has over another, or, of four, by how much more than a third has over a fourth: an interaction."""

    name: str
    rows: tuple[int, ...]
    """The paper's, from 0."""
    arms: tuple[str, ...]
    """Ours."""

    @property
    def formula(self) -> str:
        """Of our arms, as one writes it."""
        pairs = [" - ".join(self.arms[i : i + 2]) for i in range(0, len(self.arms), 2)]
        return pairs[0] if len(pairs) == 1 else f"({pairs[0]}) - ({pairs[1]})"


@dataclass(frozen=True, kw_only=True)
class Published:
    """A paper's ablation."""

    source: str
    rows: tuple[Row, ...]
    effects: tuple[Effect, ...]

    @property
    def figures(self) -> tuple[str, ...]:
        """What it tells of every setting."""
        return tuple(self.rows[0].figures)

    def size(self, effect: Effect, figure: str) -> float:
        """Of an effect, there."""
        return signed(self.rows[row].figures[figure] for row in effect.rows)


def signed(values: Iterable[float]) -> float:
    """A difference of two values, or of two differences.

    >>> signed([5.0, 3.0]), signed([5.0, 3.0, 2.0, 1.0])
    (2.0, 1.0)
    """
    return sum(sign * value for sign, value in zip((1, -1, -1, 1), values, strict=False))


def agreement(there: float, here: Estimate | None, num_seeds: int) -> str:
    """Whether an effect here has the sign of the paper's: `yes` or `no` where its interval is off zero, `open` where it is not, or seeds are few.

    >>> agreement(2.4, Estimate(1.0, 0.5, 1.5), 3), agreement(2.4, Estimate(-1.0, -1.5, -0.5), 3), agreement(2.4, Estimate(1.0, -0.5, 2.5), 3)
    ('yes', 'no', 'open')
    """
    if here is None:
        return "not run"
    if num_seeds < ENOUGH or here.low <= 0 <= here.high:
        return "open"
    return "yes" if (here.value > 0) == (there > 0) else "no"

"""Measured figures, each beside what it should reach."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from genrep.metrics.base import Estimate
from genrep.storage import write_json


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A measured figure and its target, if it has one."""

    name: str
    value: float | None
    interval: tuple[float, float] | None
    """95 %."""
    unit: str
    target: float | None
    """None: no target, or the figure to beat was not measured."""
    at_most: bool = False
    """Whether the target is an upper bound; else it is a lower one."""
    met: bool | None
    """None: there is no target, or what was measured cannot judge it, as `how` says."""
    how: str

    @property
    def bound(self) -> str:
        """The target in words."""
        return "-" if self.target is None else f"{'<=' if self.at_most else '>='} {self.target:.3g}"


def at_most(name: str, value: float, target: float, unit: str, how: str, *, judged: bool = True) -> Figure:
    """A figure beside its upper bound."""
    met = value <= target if judged else None
    return Figure(name=name, value=value, interval=None, unit=unit, target=target, at_most=True, met=met, how=how)


def plain(name: str, value: Estimate | float, unit: str, how: str) -> Figure:
    """A figure without a target."""
    value = value if isinstance(value, Estimate) else Estimate(value, math.nan, math.nan)
    interval = None if math.isnan(value.low) else (value.low, value.high)
    return Figure(name=name, value=value.value, interval=interval, unit=unit, target=None, met=None, how=how)


def missed(figures: Sequence[Figure]) -> list[str]:
    """Names of the figures that miss their target."""
    return [figure.name for figure in figures if figure.met is False]


def write_figures(folder: Path, name: str, figures: Sequence[Figure]) -> Path:
    """Write NAME.json, a list of figures, into a folder."""
    path = folder / f"{name}.json"
    write_json(path, [asdict(figure) for figure in figures])
    return path

"""Finished runs side by side: in which settings they differ, and in which figures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genrep.storage import read_json
from genrep.training.run_folder import RunFolder

LESS_IS_BETTER = {"ece", "nll", "kid", "fid", "rmse", "rel", "bits"}
"""Words of the names of figures."""
NOT_OF_THE_MODEL = ("_real", "_baseline", "/n", "/guidance", "/judge_accuracy", "logistic_regression_top1")
"""Figures of the data, the judge or the choice made: neither better nor worse."""


@dataclass(frozen=True)
class Row:
    """A figure of every run; None where a run has none."""

    key: str
    values: tuple[float | None, ...]
    intervals: tuple[tuple[float, float] | None, ...]
    alike: tuple[bool, ...] = ()
    """Which runs were measured on the sets of the first; empty: all."""

    @property
    def differences(self) -> tuple[float | None, ...]:
        """Of every run but the first, from the first; None where they were measured on other sets."""
        first, alike = self.values[0], self.alike or (True,) * len(self.values)
        return tuple(None if value is None or first is None or not same else value - first for value, same in zip(self.values[1:], alike[1:], strict=True))

    def clear(self, i: int) -> bool | None:
        """Whether run i's difference from the first exceeds what testing on so few images leaves open; None where that is not known.

        The errors of both count as independent, which on the same test images asks for more than is needed.

        Source: Zou and Donner 2008, Statistics in Medicine 27(10): the difference of two figures whose intervals need not be even.
        """
        difference, one, other = self.differences[i - 1], self.intervals[i], self.intervals[0]
        if difference is None or one is None or other is None:
            return None
        mine, first = self.values[i], self.values[0]
        assert mine is not None and first is not None
        open_to_first = (mine - one[0], other[1] - first) if difference > 0 else (one[1] - mine, first - other[0])
        return abs(difference) > math.hypot(*open_to_first)

    @property
    def best(self) -> int | None:
        """The run whose figure is best; None where none can be."""
        known = [(value, i) for i, value in enumerate(self.values) if value is not None]
        if not all(self.alike) or self.key.endswith(NOT_OF_THE_MODEL) or len({value for value, _ in known}) < 2:
            return None
        return (min if LESS_IS_BETTER & set(self.key.rsplit("/", 1)[-1].split("_")) else max)(known)[1]

    def said(self, i: int) -> str:
        """Run i's figure, with its interval where there is one."""
        value, interval = self.values[i], self.intervals[i]
        return "-" if value is None else f"{value:.3g}" + ("" if interval is None else f" [{interval[0]:.3g}, {interval[1]:.3g}]")

    def difference_said(self, i: int) -> str:
        """Run i's difference from the first, with a star where it is clear."""
        difference = self.differences[i - 1]
        return "" if difference is None else f"{difference:+.3g}" + (" *" if self.clear(i) else "")


def setting_said(value: object) -> str:
    """A setting as the command line takes it."""
    if isinstance(value, list):
        return ",".join(map(setting_said, value))
    return "-" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def figures_of_runs(runs: Sequence[Path]) -> list[Row]:
    """Every figure that some run has, in the order of their eval.json.

    Raises:
        ValueError: fewer than two runs.
        FileNotFoundError: a run was not evaluated.
    """
    if len(runs) < 2:
        raise ValueError(f"one run has nothing to be compared with; found {', '.join(map(str, runs))}. Name two runs or more.")
    measured = [_figures(run) for run in runs]
    keys = dict.fromkeys(key for figures in measured for key in figures if not key.endswith(("_low", "_high")))
    sets = [sets_of(run) for run in runs]
    alike = tuple(each == sets[0] for each in sets)
    return [Row(key, tuple(figures.get(key) for figures in measured), tuple(_interval(figures, key) for figures in measured), alike) for key in keys]


def sets_of(run: Path) -> frozenset[str]:
    """The data sets that a run was trained and measured on."""
    return frozenset(read_json(RunFolder(run).config)["data"]["sets"])


def settings_of_runs(runs: Sequence[Path]) -> dict[str, tuple[Any, ...]]:
    """The settings that are not the same in all runs, by dotted name; None where a run has none of that name."""
    found = [dict(_flat(read_json(RunFolder(run).config))) for run in runs]
    keys = dict.fromkeys(key for settings in found for key in settings)
    values = {key: tuple(settings.get(key) for settings in found) for key in keys}
    return {key: each for key, each in values.items() if any(value != each[0] for value in each)}


def _figures(run: Path) -> Mapping[str, float]:
    path = RunFolder(run).evaluation
    if not path.is_file():
        raise FileNotFoundError(f"{run} has no eval.json: expected a finished run; `genrep eval {run}` measures it.")
    found: Mapping[str, float] = read_json(path)
    return found


def _interval(figures: Mapping[str, float], key: str) -> tuple[float, float] | None:
    low, high = figures.get(f"{key}_low"), figures.get(f"{key}_high")
    return None if low is None or high is None else (low, high)


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Settings by dotted name; lists are values."""
    if not isinstance(value, dict):
        yield name, value
        return
    for key, part in value.items():
        yield from _flat(part, f"{name}.{key}" if name else key)

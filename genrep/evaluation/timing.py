"""How long work takes beside other work, measured in turn within one run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

from genrep.evaluation.figures import Figure, at_most

Progress = Callable[[str], None]
"""Told what is being measured."""

ENOUGH_ROUNDS = 7
"""Below so many rounds nothing is judged."""


def silent(line: str) -> None:
    """Nobody watches."""
    del line


def cpu_seconds(work: Mapping[str, Callable[[], object]], num_rounds: int) -> dict[str, float]:
    """Median process CPU times, measured in turn after one round that does not count."""
    spent: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(num_rounds + 1):
        for name, run in work.items():
            began = time.process_time()
            run()
            spent[name].append(time.process_time() - began)
    return {name: statistics.median(times[1:]) for name, times in spent.items()}


def of_rounds(name: str, value: float, target: float, num_rounds: int, how: str, unit: str = "ratio") -> Figure:
    """A figure of `cpu_seconds` beside its upper bound."""
    enough = num_rounds >= ENOUGH_ROUNDS
    how = f"{how}; medians of {num_rounds} rounds in turn, CPU time{'' if enough else '; too few to judge a target by'}"
    return at_most(name, value, target, unit, how, judged=enough)

"""What one model is worth in both jobs, beside two models that do one each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Figures = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Front:
    """Figures of both jobs in one number, against the models of the same seed that are trained for one job alone.

    A step of both jobs takes the time of a step of each, so that with as many updates one model has the time of the two together.

        both/gain          = (mean over perception's figures of (p / p_alone - 1) + 1 - g / g_alone) / 2
        both/hyper_volume  = max(0, mean p - mean p_alone) * max(0, g_alone - g)

    The first says how much better, or worse, than two models; the second is 0 unless it is better in both jobs.

    Args:
        perception: figures of eval.json, more being better.
        generation: one of which less is better.
        seen, made: the arms that are trained for perception alone, and for generation alone.
    Source: Maninis et al. 2019, arXiv:1904.08918, equation (4), on the mean relative difference to models of one task.
    """

    perception: tuple[str, ...]
    generation: str
    seen: str = "seen"
    made: str = "made"

    def of(self, run: Figures, seen: Figures, made: Figures) -> dict[str, float]:
        """Both numbers of a run; none where one of the three lacks a figure, or a model alone is not above 0 in one, of which nothing is a share."""
        if not ({self.generation, *self.perception} <= run.keys() and {*self.perception} <= seen.keys() and self.generation in made):
            return {}
        if min(made[self.generation], *(seen[key] for key in self.perception)) <= 0:
            return {}
        better = [run[key] - seen[key] for key in self.perception]
        less = made[self.generation] - run[self.generation]
        num = len(self.perception)
        relative = sum(more / seen[key] for more, key in zip(better, self.perception, strict=True)) / num
        return {
            "both/gain": (relative + less / made[self.generation]) / 2,
            "both/hyper_volume": max(0.0, sum(better) / num) * max(0.0, less),
        }

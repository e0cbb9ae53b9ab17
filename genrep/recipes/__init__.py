"""Recipes: functions that return a configuration; the command line starts from one of them."""

from __future__ import annotations

from collections.abc import Callable

from genrep.config import Config
from genrep.recipes.fashion import aligners, all_labels, demo, few_labels, few_labels_long, showcase, tiny
from genrep.recipes.own import own

RECIPES: dict[str, Callable[[], Config]] = {
    "demo": demo,
    "showcase": showcase,
    "few-labels": few_labels,
    "few-labels-long": few_labels_long,
    "all-labels": all_labels,
    "aligners": aligners,
    "tiny": tiny,
}

__all__ = ["RECIPES", "aligners", "all_labels", "demo", "few_labels", "few_labels_long", "own", "showcase", "tiny"]

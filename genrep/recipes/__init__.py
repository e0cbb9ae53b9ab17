"""Recipes: functions that return a configuration; the command line starts from one of them."""

from __future__ import annotations

from collections.abc import Callable

from genrep.config import Config
from genrep.recipes.fashion import demo, few_labels, showcase, tiny

RECIPES: dict[str, Callable[[], Config]] = {"demo": demo, "showcase": showcase, "few-labels": few_labels, "tiny": tiny}

__all__ = ["RECIPES", "demo", "few_labels", "showcase", "tiny"]

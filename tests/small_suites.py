"""A suite of two arms, and one in which an arm is told by the other; runs that were measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from genrep.evaluation.suite import Claim, Suite
from genrep.storage import write_json

CLAIMS = (Claim(figure="top1", arm="new", against="old"), Claim(figure="ece", arm="new", against="old", less=True))
SUITE = Suite(recipe="tiny", arms={"new": {}, "old": {"train.lr": "1e-3"}}, claims=CLAIMS, shown=("top1", "ece"))
LABELLED = replace(SUITE, num_seeds=1, arms={"sees": {}, "makes": {"objective.jobs": "generation"}}, claims=(), labelled_by={"makes": "sees"})


def measure(folder: Path, run: str, figures: Mapping[str, float]) -> None:
    (folder / run).mkdir()
    write_json(folder / run / "eval.json", dict(figures))


def measured(arguments: Sequence[str]) -> None:
    """As `genrep eval RUN` leaves a run."""
    Path(arguments[1]).mkdir(exist_ok=True)
    write_json(Path(arguments[1]) / "eval.json", {"top1": 0.5})

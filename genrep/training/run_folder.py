"""The run folder: where each file of a run lies."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genrep.storage import read_json, verify_folder


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run; making one touches nothing."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.json"

    @property
    def command(self) -> Path:
        return self.path / "command.txt"

    @property
    def env(self) -> Path:
        return self.path / "env.json"

    @property
    def metrics(self) -> Path:
        """One row every `train.log_every` steps."""
        return self.path / "metrics.csv"

    @property
    def events(self) -> Path:
        """One json object a line: gates, checkpoints, resumes, warnings."""
        return self.path / "events.jsonl"

    @property
    def picture(self) -> Path:
        """A look at the training data."""
        return self.path / "data.png"

    @property
    def samples(self) -> Path:
        return self.path / "samples"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        """The finished model; its presence says that training is complete."""
        return self.path / "model"

    @property
    def model_best(self) -> Path:
        """The model that saw validation images best, where `train.best_by` asks for it."""
        return self.path / "model_best"

    @property
    def evaluation(self) -> Path:
        return self.path / "eval.json"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def log(self) -> Path:
        return self.path / "log.txt"

    @property
    def lock(self) -> Path:
        """There while a process trains."""
        return self.path / ".lock"

    def begun(self) -> dict[str, Any] | None:
        """The plain configuration that a run has begun with here; None where none has.

        Raises:
            ValueError: config.json is of something else.
        """
        if not self.config.is_file():
            return None
        found = read_json(self.config)
        of_training = found.get("train") if isinstance(found, dict) else None
        if not isinstance(of_training, dict) or not isinstance(of_training.get("bf16"), bool):
            raise ValueError(f"{self.path} is not a run folder: its config.json is not a run's; nothing was written. Name another folder with --out.")
        return dict(found)

    def checkpoint_folders(self) -> list[Path]:
        """Complete checkpoint folders, newest first (a folder under its final name is complete)."""
        found = [p for p in self.checkpoints.glob("step_*") if p.is_dir() and p.name.removeprefix("step_").isdecimal()]
        return sorted(found, key=lambda p: int(p.name.removeprefix("step_")), reverse=True)

    def latest_checkpoint(self) -> tuple[Path | None, list[str]]:
        """The newest undamaged checkpoint, and one line for each newer one that is damaged."""
        damaged = []
        for folder in self.checkpoint_folders():
            try:
                verify_folder(folder)
            except ValueError as error:
                damaged.append(str(error))
            else:
                return folder, damaged
        return None, damaged

    def gates(self) -> list[dict[str, Any]]:
        """Whether generation was allowed to teach, as training recorded it; a resumed run may have recorded a step twice."""
        if not self.events.is_file():
            return []
        lines = [json.loads(line) for line in self.events.read_text(encoding="utf-8").splitlines() if line.strip()]
        return list({(line["step"], line["kind"]): line for line in lines if line.get("event") == "gate"}.values())

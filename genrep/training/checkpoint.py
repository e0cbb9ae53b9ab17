"""Checkpoints: all that a run needs to go on, on a CPU bit for bit, as safetensors and json.

On CUDA it goes on from the same state, but the backward passes of bilinear interpolation and of `grid_sample` add up in no fixed order there.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from genrep.model import GenRep
from genrep.storage import load_tensors, read_json, save_tensors, write_folder, write_json
from genrep.training.best import Best
from genrep.training.distillation import Teaching
from genrep.training.lessons import Memory
from genrep.training.run_folder import RunFolder


@dataclass
class Progress:
    """Where a run stands. Random numbers need no place here: they are functions of (seed, position)."""

    step: int = 0
    """Steps done, both stages together."""
    images: int = 0
    """Clean images seen, which is also the stream's next position."""
    updates: int = 0
    """Updates of the teacher."""
    seconds: float = 0.0
    """Time spent training, over all sittings."""

    def advance(self, num_images: int) -> None:
        """One step more, of so many images."""
        self.step, self.images, self.updates = self.step + 1, self.images + num_images, self.updates + 1


def save_checkpoint(
    run: RunFolder,
    *,
    model: GenRep,
    teacher: GenRep,
    optimizer_state: dict[str, Tensor],
    aligner_state: dict[str, Tensor],
    teaching: Teaching,
    memory: Memory,
    best: Best,
    progress: Progress,
    keep: int,
) -> Path:
    """Write `checkpoints/step_N`, complete or absent; drop later ones, which were refused as damaged, and the oldest beyond `keep`."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"teacher.{name}": value for name, value in teacher.state_dict().items()}
    tensors |= {f"aligner.{name}": value for name, value in aligner_state.items()}
    tensors |= {f"memory.{name}": value for name, value in memory.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in best.tensors.items()}
    tensors |= {f"optimizer.{name}": value for name, value in optimizer_state.items()}
    folder = run.checkpoints / f"step_{progress.step}"

    def fill(path: Path) -> None:
        save_tensors(path / "state.safetensors", tensors)
        write_json(path / "state.json", {"progress": asdict(progress), "teaching": teaching.to_dict(), "best": best.to_dict()})

    write_folder(folder, fill)
    kept = run.checkpoint_folders()
    place = kept.index(folder)
    for old in (*kept[:place], *kept[place + keep :]):
        shutil.rmtree(old, ignore_errors=True)
    return folder


def load_checkpoint(
    folder: Path, *, model: GenRep, teacher: GenRep, memory: Memory, best: Best, optimizers: Sequence[torch.optim.Optimizer]
) -> tuple[Progress, Teaching, dict[str, Tensor]]:
    """Put a verified checkpoint's state into model, teacher, memory, best and optimizers; returns the rest.

    Raises:
        ValueError: it is of another model.
    """
    tensors, state = load_tensors(folder / "state.safetensors"), read_json(folder / "state.json")
    groups: dict[str, dict[str, Tensor]] = {"model": {}, "teacher": {}, "memory": {}, "best": {}, "optimizer": {}, "aligner": {}}
    for name, value in tensors.items():
        group, rest = name.split(".", 1)
        groups[group][rest] = value
    seen, known = len(groups["memory"]["left"]), len(memory.left)
    if seen != known:
        raise ValueError(f"{folder} is of a run on {seen:,} training images; there are {known:,} now. Put them as they were, or name another run folder.")
    parts: tuple[tuple[nn.Module, str], ...] = ((model, "model"), (teacher, "teacher"), (memory, "memory"))
    for part, name in parts:
        if {k: v.shape for k, v in part.state_dict().items()} != {k: v.shape for k, v in groups[name].items()}:
            raise ValueError(f"{folder} holds another model than the configuration describes; name another run folder.")
        part.load_state_dict(groups[name])
    saved: list[dict[int, dict[str, Tensor]]] = [{} for _ in optimizers]
    for name, value in groups["optimizer"].items():
        i, number, key = name.split(".", 2)
        saved[int(i)].setdefault(int(number), {})[key] = value
    for optimizer, entries in zip(optimizers, saved, strict=True):
        optimizer.load_state_dict({"state": entries, "param_groups": optimizer.state_dict()["param_groups"]})
    best.tensors = groups["best"]
    best.step, best.score = state["best"]["step"], state["best"]["score"]
    return Progress(**state["progress"]), Teaching.from_dict(state["teaching"]), groups["aligner"]

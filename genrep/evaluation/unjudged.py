"""Samples to look at where nothing judges them: of class sets, of one class, of few labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from genrep.evaluation.draw import grid, save_png
from genrep.evaluation.perception import Seen
from genrep.evaluation.pictures import MAX_CLASS_ROWS, NUM_FILMS, NUM_FIRST, draw_film, said
from genrep.evaluation.words import legible
from genrep.model import GenRep

GUIDANCE = 2.0
"""As of `genrep generate`, where the run asks for no other."""
PER_ROW = 8


def draw_unjudged(model: GenRep, seen: Sequence[Seen], folder: Path, *, guidance: float | None, options: dict[str, Any]) -> dict[str, Any]:
    """A sheet and strips of samples, of each class or with the objects of the first test images where these hold several, and how some come about.

    Args:
        guidance: that the run asks for, if any.
        options: of `GenRep.generate`.
    """
    scale = GUIDANCE if guidance is None else guidance
    asked = wanted(seen, len(model.class_names))
    image = model.generate(asked.repeat_interleave(PER_ROW, 0), guidance=scale, **options)
    strips = []
    for row, (counts, few) in enumerate(zip(asked, image.split(PER_ROW), strict=True)):
        file = f"made_{row:02d}.png"
        save_png(grid(few, columns=PER_ROW, scale=1, gap_px=0), folder / file)
        strips.append({"class": said(counts, model.class_names), "file": file, "num": PER_ROW, "share_recognised": None})
    names = [said(counts, legible(model.class_names)) for counts in asked]
    save_png(grid(image, columns=PER_ROW, row_names=names), folder / "generated.png")
    return {"samples": strips, "film": draw_film(model, asked[:NUM_FILMS], folder, guidance=scale, options=options), "guidance": scale}


def wanted(seen: Sequence[Seen], num_classes: int) -> Float[Tensor, "n k"]:
    """Numbers of objects of each class, a row for each sheet's: what the first images of several objects hold, else one of each class."""
    for one in reversed(seen):
        classes = one.truth.classes[one.truth.classes.sum(1) > 1]
        if len(classes):
            rows = list(dict.fromkeys(tuple(row) for row in classes.tolist()))[:NUM_FIRST]
            return torch.tensor(rows)
    return torch.eye(num_classes)[:MAX_CLASS_ROWS]

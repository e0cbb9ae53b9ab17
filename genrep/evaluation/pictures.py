"""The pictures of a run: what was made, how it came about, what was seen. Written under samples/ and named in the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from genrep.boxes import one_per_place, to_xyxy_px
from genrep.datasets import ArrayDataset
from genrep.evaluation.draw import GROUND, Annotation, Picture, enlarged, grid, nearness, save_png, scale_for, scene, tile, to_picture
from genrep.evaluation.generation import Samples, film, nearest
from genrep.evaluation.perception import Seen, agreement, box_agreement
from genrep.evaluation.words import legible
from genrep.model import GenRep
from genrep.randomness import permutation
from genrep.types import IGNORE, UNLABELLED, Batch, Perception

MIN_SCORE = 0.3
"""Detections below are not drawn."""

NUM_WORST, NUM_FIRST = 4, 8
"""Scenes shown: the worst of all, and the first of the set, which nobody chose."""

PER_CLASS, NUM_FILMS = 10, 3

NUM_LOOKED_AT, MAX_CLASS_ROWS = 8, 20
"""Images of a set, or of each class, in a look at the data, and classes with a row."""


def draw_samples(made: Samples, class_names: Sequence[str], folder: Path) -> list[dict[str, Any]]:
    """A labelled sheet, and one strip per class with how many of its samples the judge recognises."""
    strips = []
    shown = []
    for k, name in enumerate(class_names):
        rows = (made.label == k).nonzero().flatten()
        if not len(rows):
            continue
        few = made.image[rows[:PER_CLASS]]
        shown.append((legible(class_names)[k], few))
        file = f"class_{k:02d}.png"
        save_png(grid(few, columns=len(few), scale=1, gap_px=0), folder / file)
        strips.append({"class": name, "file": file, "num": len(few), "share_recognised": float((made.judged[rows] == k).double().mean())})
    columns = min(len(few) for _, few in shown)
    sheet = torch.cat([few[:columns] for _, few in shown])
    save_png(grid(sheet, columns=columns, row_names=[name for name, _ in shown]), folder / "generated.png")
    return strips


def draw_film(model: GenRep, asked: Float[Tensor, "n k"], folder: Path, *, guidance: float, options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A few samples from noise to image: what the sampler holds above what the model expects.

    Args:
        asked: numbers of objects of each class.
        options: of `GenRep.generate`.
    """
    held, expected = film(model, asked, guidance=guidance, **options)
    num_frames = len(held)
    strips, cells, row_names = [], [], []
    for i, counts in enumerate(asked):
        both = torch.cat([held[:, i], expected[:, i]])
        file = f"film_{i}.png"
        save_png(grid(both, columns=num_frames, scale=1, gap_px=0), folder / file)
        strips.append({"class": said(counts, model.class_names), "file": file, "num": num_frames})
        row_names += [said(counts, legible(model.class_names)), "expected"]
        cells += [enlarged(to_picture(image), scale_for(both.shape[-2:], 96)) for image in both]
    save_png(tile(cells, columns=num_frames, gap_px=3, row_names=row_names), folder / "denoising.png")
    return strips


def said(counts: Float[Tensor, " k"], class_names: Sequence[str]) -> str:
    """Objects in words.

    >>> said(torch.tensor([1.0, 0.0, 3.0]), ("bag", "boot", "coat"))
    'bag, 3 x coat'
    """
    return ", ".join(name if num == 1 else f"{num:g} x {name}" for num, name in zip(counts.tolist(), class_names, strict=True) if num)


def draw_neighbours(made: Samples, train: ArrayDataset, features: Tensor, folder: Path) -> list[dict[str, Any]]:
    """The first sample of each class beside the three training images nearest to it.

    Args:
        train: training images, in the order of `features`, their judge features.
    """
    firsts = [int((made.label == k).nonzero()[0]) for k in made.label.unique().tolist()]
    found = nearest(made.features[firsts], features)
    strips = []
    for row, (which, neighbours) in enumerate(zip(firsts, found, strict=True)):
        file = f"neighbours_{row:02d}.png"
        images = torch.cat([made.image[which][None], train.batch(neighbours).image])
        save_png(grid(images, columns=len(images), scale=1, gap_px=0), folder / file)
        strips.append({"label": int(made.label[which]), "file": file, "num": len(images)})
    return strips


def draw_scenes(seen: Seen, class_names: Sequence[str], folder: Path) -> dict[str, Any]:
    """Truth and prediction of the worst scenes of all and of the first few, each group worst first, as their masks are seen, or where none are, their boxes."""
    score, scored_by = _scores(seen)
    known = score.isfinite()
    first = range(min(NUM_FIRST, len(seen.truth)))
    order = sorted(first, key=lambda i: float(score[i]) if known[i] else 1.0)
    worst = [i for i in score.argsort(stable=True).tolist() if known[i]][:NUM_WORST]
    entries, cells = [], []
    for group, rows in (("worst", worst), ("first", order)):
        for i in rows:
            pair = {
                "truth": scene(seen.truth.image[i], _truth(seen.truth, i), class_names),
                "prediction": scene(seen.truth.image[i], seen_in(seen.perception, i), class_names),
            }
            if seen.perception.inv_depth is not None:
                pair["depth"] = nearness(seen.perception.inv_depth[i])
            files = {kind: f"scene_{i:04d}_{kind}.png" for kind in pair}
            for kind, picture in pair.items():
                save_png(picture, folder / files[kind])
            entries.append({"group": group, "index": i, "agreement": float(score[i]) if known[i] else None, **files})
            cells += [*pair.values()] if group == "first" else []
    columns = ("truth", "prediction") if seen.perception.inv_depth is None else ("truth", "prediction", "depth")
    save_png(tile(cells, columns=2 * len(columns), column_names=columns * 2), folder / "scenes.png")
    tinted = seen.perception.semantic_mask is not None or bool((seen.truth.semantic_mask != IGNORE).any())
    return {"set": seen.name, "n": len(seen.truth), "scored_by": scored_by, "tinted": tinted, "pictures": entries}


def _scores(seen: Seen) -> tuple[Tensor, str | None]:
    """How well each scene was seen, nan where that is not known, and by what."""
    none = torch.full((len(seen.truth),), torch.nan)
    by_mask = none if seen.perception.semantic_mask is None else agreement(seen)
    if bool(by_mask.isfinite().any()):
        return by_mask, "masks"
    by_box = none if seen.perception.detections is None else box_agreement(seen, min_score=MIN_SCORE)
    return by_box, "boxes" if bool(by_box.isfinite().any()) else None


def _truth(batch: Batch, row: int) -> Annotation:
    used = batch.object_labels[row] != UNLABELLED
    size = batch.image.shape[-2:]
    boxes = to_xyxy_px(batch.boxes_cxcywh[row][used], (size[0], size[1]))
    return Annotation(boxes_xyxy_px=boxes, labels=batch.object_labels[row][used].tolist(), semantic_mask=batch.semantic_mask[row])


def seen_in(perception: Perception, row: int) -> Annotation:
    """What a model sees in an image, ready to be drawn: the best class of each place, and the mask."""
    mask = None if perception.semantic_mask is None else perception.semantic_mask[row]
    if perception.detections is None:
        return Annotation(semantic_mask=mask)
    found = one_per_place(perception.detections[row], MIN_SCORE)
    return Annotation(boxes_xyxy_px=found.boxes_xyxy_px, labels=found.labels.tolist(), scores=found.scores.tolist(), semantic_mask=mask)


def draw_data(sets: Sequence[ArrayDataset], path: Path) -> None:
    """A look at training data: of each set some images with their boxes and masks, or a row for each class where there are none."""
    sheets = [_annotated_sheet(data) if bool(data.has_objects.any()) else _class_sheet(data) for data in sets]
    page = np.full((sum(len(sheet) for sheet in sheets), max(sheet.shape[1] for sheet in sheets), 3), GROUND, np.uint8)
    for sheet, end in zip(sheets, accumulate(map(len, sheets)), strict=True):
        page[end - len(sheet) : end, : sheet.shape[1]] = sheet
    save_png(page, path)


def _annotated_sheet(data: ArrayDataset) -> Picture:
    rows = permutation(len(data), 0, 0)[:NUM_LOOKED_AT]
    batch = data.batch(rows)
    cells = [scene(batch.image[i], _truth(batch, i), data.class_names) for i in range(len(rows))]
    return tile(cells, columns=NUM_LOOKED_AT // 2)


def _class_sheet(data: ArrayDataset) -> Picture:
    """Up to eight images of each of the first classes; empty places are black."""
    rows, names, held = [], [], data.class_counts
    for label, name in enumerate(legible(data.class_names)[:MAX_CLASS_ROWS]):
        mine = held[:, label].nonzero().flatten()[:NUM_LOOKED_AT]
        image = data.batch(mine).image
        rows.append(torch.cat([image, -torch.ones(NUM_LOOKED_AT - len(mine), *image.shape[1:])]))
        names.append(name)
    return grid(torch.cat(rows), columns=NUM_LOOKED_AT, row_names=names)

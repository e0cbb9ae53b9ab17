"""A labelled set of what a model makes and recognises: ordered, made, and as files; for a folder, and for the web page."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from genrep.model import GenRep
    from genrep.synthesis import Made

SPLIT, PROVENANCE = "train", "provenance.json"


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is to be made. Images depend on the seed and their number alone."""

    classes: str | None
    """As `--classes` has them, without places; None: each class."""
    count: int
    """Images to keep of each entry."""
    tries: int
    """Given up after so many times as many."""
    sure: float
    """Of one object: least probability of its class."""
    min_score: float
    """Boxes of at least this score must be those asked for."""
    seed: int
    sampler: str
    steps: int
    guidance: float


@dataclass(frozen=True)
class Lot:
    """What was made of one entry of `classes`, and kept."""

    title: str
    """The entry, with its classes' names."""
    name: str
    """The same as part of files' names."""
    label: int
    """The class, of one object."""
    made: Sequence[Made]
    num: int
    """How many had to be made."""


def lots(model: GenRep, order: Order) -> Iterator[Lot]:
    """Entry by entry.

    Raises:
        ValueError: classes that the model does not know, that are named twice or with places, or that a set cannot name; or floors that are no probabilities.
    """
    from genrep.cli.runs import numbered
    from genrep.cli.wishes import asked_counts, read_rows
    from genrep.storage import file_name

    rows = read_rows(order.classes, model.class_names, model.image_size)
    if any(asked.box for row in rows for asked in row):
        raise ValueError("`--classes` says what to make, not where; leave the places out.")
    wanted = ["+".join(model.class_names[one.label] for one in row) for row in rows]
    if len(set(wanted)) < len(wanted):
        raise ValueError(f"`--classes` names something twice: {', '.join(wanted)}.")
    if "detection" not in model.heads:
        refuse_columns(model.class_names)
    names = numbered([file_name("_".join(model.class_names[one.label] for one in row)) for row in rows])
    streams = [stream(model, counts, number, order) for number, counts in enumerate(asked_counts(rows, len(model.class_names)))]
    for title, name, row, images in zip(wanted, names, rows, streams, strict=True):
        yield Lot(title, name, row[0].label, *kept(images, order.count, order.count * order.tries))


def stream(model: GenRep, wanted: Tensor, row: int, order: Order) -> Iterator[Made | None]:
    """Images of one entry of `classes`, as they are made and judged."""
    from genrep.registry import lookup
    from genrep.samplers import SAMPLERS
    from genrep.synthesis import Floor, synthesize

    floor = Floor(class_prob=order.sure, score=order.min_score)
    sampler = lookup(SAMPLERS, order.sampler, "sampler")(num_steps=order.steps)
    options: dict[str, Any] = {"seed": order.seed, "sampler": sampler, "guidance": order.guidance, "batch_size": min(64, order.count)}
    return synthesize(model, wanted, floor=floor, row=row, **options)


def kept(images: Iterator[Made | None], num: int, most: int) -> tuple[list[Made], int]:
    """The first `num` images that pass, and how many it took; fewer where `most` do not have them."""
    found: list[Made] = []
    seen = 0
    while len(found) < num and seen < most:
        one, seen = next(images), seen + 1
        found += [one] if one else []
    return found, seen


def refuse_columns(class_names: Sequence[str]) -> None:
    """Classes as the columns of a table: a name that would be read as something else is refused.

    Raises:
        ValueError: such a name.
    """
    from genrep.datasets.table import CLASSES
    from genrep.datasets.table import SPLIT as OF_SPLIT

    for name in class_names:
        if name != name.strip() or name.lower() in (*CLASSES, OF_SPLIT):
            raise ValueError(f"a set without boxes is written as a table, and as its column `{name}` would not be read as a class; rename that class.")


def set_files(model: GenRep, found: Sequence[Lot], order: Order, source: Path, command: str) -> Iterator[tuple[str, bytes]]:
    """The set as files: images with COCO json and masks where the model detects, else with a table of their labels; and where all of it comes from.

    Args:
        source: the model's folder.
        command: what it was made by.
    """
    from genrep import __version__
    from genrep.cli.images import mask_png
    from genrep.datasets.table import TABLE
    from genrep.evaluation.draw import as_png
    from genrep.storage import json_text, sha256_of

    detects = "detection" in model.heads
    images: list[tuple[PurePosixPath, Made]] = []
    for lot in found:
        for number, made in enumerate(lot.made):
            file = PurePosixPath("images", f"{lot.name}_{number:05d}.png")
            yield str(file), as_png(made.image)
            if detects and made.semantic_mask is not None:
                yield f"masks/{file.name}", mask_png(made.semantic_mask, model.image_size)
            images.append((file, made))
    if detects:
        yield f"annotations/instances_{SPLIT}.json", json_text(coco(images, model)).encode()
    else:
        of_each = [lot.label for lot in found for _ in lot.made]
        yield TABLE, table([file.name for file, _ in images], of_each, model.class_names).encode()
    of = {"model": str(source), "model_sha256": sha256_of(source / "model.safetensors"), "command": command, "genrep": __version__}
    tally = {lot.name: {"made": lot.num, "kept": len(lot.made)} for lot in found}
    seeds = {str(file): {"index": made.index, "class_prob": made.class_prob} for file, made in images}
    whole = {**of, "class_names": list(model.class_names), "seed": order.seed, "tally": tally, "images": seeds}
    yield PROVENANCE, json_text(whole).encode()


def table(files: Sequence[str], labels: Sequence[int], class_names: Sequence[str]) -> str:
    """The set as a table with a column of 0 and 1 for each class of the model, which keeps their names and their order.

    >>> table(["a.png"], [1], ["boot, ankle", "bag"]).split()
    ['file_name,"boot,', 'ankle",bag', 'a.png,0,1']
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file_name", *class_names])
    writer.writerows([file, *(int(k == label) for k in range(len(class_names)))] for file, label in zip(files, labels, strict=True))
    return text.getvalue()


def coco(images: Sequence[tuple[PurePosixPath, Made]], model: GenRep) -> dict[str, Any]:
    """The set as COCO json."""
    from genrep.datasets.coco_masks import run_lengths

    height, width = model.image_size
    annotations: list[dict[str, Any]] = []
    for number, (_, made) in enumerate(images):
        assert made.objects is not None
        rows = zip(made.objects.boxes_xyxy_px.tolist(), made.objects.labels.tolist(), made.objects.scores.tolist(), strict=True)
        for j, ((x0, y0, x1, y1), label, score) in enumerate(rows):
            box = [x0, y0, x1 - x0, y1 - y0]
            entry = {"id": len(annotations) + 1, "image_id": number + 1, "category_id": label + 1, "bbox": box, "area": box[2] * box[3]}
            mask = {} if made.masks is None else {"segmentation": run_lengths(made.masks[j].numpy()), "area": int(made.masks[j].sum())}
            annotations.append({**entry, "iscrowd": 0, "score": score, **mask})
    return {
        "images": [{"id": n + 1, "file_name": file.name, "height": height, "width": width} for n, (file, _) in enumerate(images)],
        "annotations": annotations,
        "categories": [{"id": k + 1, "name": name} for k, name in enumerate(model.class_names)],
    }

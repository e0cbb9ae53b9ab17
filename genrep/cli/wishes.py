"""What the command line wishes of images: classes, places of objects, pictures to begin from or to be like."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from genrep.drawing import Wishes
    from genrep.model import GenRep
    from genrep.types import Batch

CLASSES_HELP = (
    "rows of the grid: class names or numbers; `+` puts several into one image, `boot+boot` two of a class, `@x0:y0:x1:y1` says where, in pixels of the "
    "model; default: every class"
)


def add_wish_arguments(parser: argparse.ArgumentParser) -> None:
    """What an image may be besides its classes."""
    parser.add_argument("--image", type=Path, metavar="FILE", help="a picture to begin from")
    parser.add_argument("--strength", type=float, help="with --image: how much of it is forgotten, 0 to 1 (default: .6; with --hidden 1)")
    parser.add_argument("--hidden", type=Path, metavar="FILE", help="with --image: a mask; where it is light the picture is made anew, elsewhere it is kept")
    parser.add_argument(
        "--reference",
        type=Path,
        metavar="FILE",
        help="a picture whose semantics drive the denoising; with the modulator `drawn` samples follow it closely, others hardly",
    )
    parser.add_argument("--likeness", type=float, help="with --reference: how much they do, 0 to 1 (default: 1)")
    parser.add_argument("--insistence", type=float, help="with places: how strongly the model's own detector pulls objects there (default: 1)")


@dataclass(frozen=True)
class Asked:
    """One object of a row: its class, and its box (x0, y0, x1, y1) in pixels of the model where one is asked for."""

    label: int
    box: tuple[float, ...] | None


def read_row(entry: str, class_names: Sequence[str], image_size: tuple[int, int]) -> list[Asked]:
    """The objects of an entry such as `boot`, `3`, `boot+bag` or `boot@0:8:16:24+bag`; a name goes before a number.

    Raises:
        ValueError: an unknown class (the nearest is named), or a box that is none.
    """
    from genrep.registry import lookup

    index = {str(i): i for i in range(len(class_names))} | {name: i for i, name in enumerate(class_names)}
    if entry.strip() in index:  # a class may be called `c++`
        return [Asked(index[entry.strip()], None)]
    asked = []
    for part in entry.split("+"):
        name, _, place = part.strip().partition("@")
        asked.append(Asked(lookup(index, name.strip(), "class"), _read_box(place, image_size) if place else None))
    return asked


def read_rows(text: str | None, class_names: Sequence[str], image_size: tuple[int, int]) -> list[list[Asked]]:
    """The rows of `--classes`; without it every class."""
    return [read_row(entry, class_names, image_size) for entry in text.split(",")] if text else [[Asked(i, None)] for i in range(len(class_names))]


def _read_box(place: str, image_size: tuple[int, int]) -> tuple[float, ...]:
    height, width = image_size
    try:
        x0, y0, x1, y1 = (float(value) for value in place.split(":"))
    except ValueError:
        raise ValueError(f"a place is x0:y0:x1:y1, four numbers of pixels; found `{place}`.") from None
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise ValueError(f"a place must lie in the image, {width} pixels wide and {height} high, with x0 < x1 and y0 < y1; found `{place}`.")
    return x0, y0, x1, y1


def asked_counts(rows: Sequence[Sequence[Asked]], num_classes: int) -> Tensor:
    """How many objects of each class each row of the grid asks for, [rows k]."""
    import torch

    labels = [torch.tensor([asked.label for asked in row]) for row in rows]
    return torch.stack([label.bincount(minlength=num_classes).float() for label in labels])


def layout(rows: Sequence[Sequence[Asked]], num_classes: int, image_size: tuple[int, int]) -> Batch | None:
    """What the detector should see; None where no row says where all its objects are.

    Raises:
        ValueError: a row that says it of some of its objects.
    """
    import torch

    from genrep.types import IGNORE, UNLABELLED, Batch

    placed = [[asked.box is not None for asked in row] for row in rows]
    if any(any(row) and not all(row) for row in placed):
        raise ValueError("where one object of a row has a place, all need one: the detector should see them and nothing else.")
    if not any(any(row) for row in placed):
        return None
    num, most, (height, width) = len(rows), max(map(len, rows)), image_size
    labels, boxes = torch.full((num, most), UNLABELLED), torch.zeros(num, most, 4)
    for i, row in enumerate(rows):
        for j, asked in enumerate(row if all(placed[i]) else ()):
            assert asked.box
            x0, y0, x1, y1 = asked.box
            labels[i, j], boxes[i, j] = asked.label, torch.tensor([(x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height])
    unknown = torch.full((num, height, width), IGNORE, dtype=torch.uint8)
    return Batch(
        image=torch.zeros(num, 3, height, width),
        index=torch.arange(num),
        label=torch.full((num,), UNLABELLED),
        classes=asked_counts(rows, num_classes),
        object_labels=labels,
        ignored_labels=torch.full_like(labels, UNLABELLED),
        boxes_cxcywh=boxes,
        has_objects=torch.tensor([all(row) for row in placed]),
        has_classes=torch.zeros(num, dtype=torch.bool),
        semantic_mask=unknown,
        instance_mask=unknown,
        inv_depth=torch.full(unknown.shape, float("nan")),
    )


def read_wishes(args: argparse.Namespace, model: GenRep, rows: Sequence[Sequence[Asked]]) -> Wishes:
    """The wishes for `args.count` images of each row.

    Raises:
        ValueError: a file that is no picture, places for a model without detection, an option without what it is about, or what `Wishes` refuses.
    """
    import torch

    from genrep.cli.images import read_picture
    from genrep.drawing import Wishes

    num = len(rows) * args.count

    def picture(path: Path | None) -> Tensor | None:
        if path is None:
            return None
        found = read_picture(path, model.image_size, grey=model.config.codec == "grey")
        if found.changes:
            print(f"{path}: {found.changes}")
        return found.image.expand(num, -1, -1, -1)

    wanted = layout(rows, len(model.class_names), model.image_size)
    if wanted is not None and "detection" not in model.config.tasks:
        raise ValueError(f"objects have places only for a model that detects; this one has {', '.join(model.config.tasks) or 'no tasks'}.")
    for option, value, about, there in (
        ("--strength", args.strength, "--image", args.image),
        ("--hidden", args.hidden, "--image", args.image),
        ("--likeness", args.likeness, "--reference", args.reference),
        ("--insistence", args.insistence, "--classes with places", wanted),
    ):
        if value is not None and there is None:
            raise ValueError(f"`{option}` needs `{about}`; found none.")
    image, mask = picture(args.image), picture(args.hidden)
    forgotten = 1.0 if image is None or mask is not None else 0.6
    return Wishes(
        guidance_interval=tuple(args.interval),
        image=image,
        strength=forgotten if args.strength is None else args.strength,
        hidden=None if mask is None else mask.mean(1),
        reference=picture(args.reference),
        likeness=1.0 if args.likeness is None else args.likeness,
        wanted=None if wanted is None else wanted.rows(torch.arange(len(rows)).repeat_interleave(args.count)),
        insistence=1.0 if args.insistence is None else args.insistence,
    )

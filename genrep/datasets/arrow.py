"""Hugging Face data sets on disk: Parquet or Arrow files that hold the pictures themselves, with classes or with objects."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from genrep.datasets.arrow_files import BOXES, CATEGORIES, OBJECTS, Columns, Row, columns_in, files_of, rows_in
from genrep.datasets.base import ArrayDataset, of_class_sets
from genrep.datasets.images import existing_folder, of_split, of_split_by_class, read_picture, with_val
from genrep.datasets.objects import Contents, Entry, Picture, read_objects
from genrep.datasets.problems import Problem, Problems
from genrep.registry import lookup
from genrep.types import UNLABELLED


def splits(path: Path) -> tuple[str, ...]:
    """The splits that can be read from the folder; none if it has no such files."""
    return tuple(with_val(files_of(path)))


def pictures(path: Path) -> list[bytes]:
    """The content of every training picture of the folder that can be read."""
    every = files_of(path)
    files = every.get("train", [])
    columns = columns_in(every, files) if files else None
    return [row.content for row in rows_in(path, files, columns, Problems(strict=False))] if columns else []


def class_names(path: Path, split: str) -> tuple[str, ...]:
    """Those that the files of a split name; none where they do not say."""
    every = files_of(path)
    return columns_in(every, lookup(with_val(every), split, f"split of {path}")).class_names or ()


def has_several(path: Path) -> bool:
    """Whether the classes of a training picture are a list, of any number; the first that has any says so."""
    every = files_of(path)
    files = every.get("train", [])
    columns = columns_in(every, files) if files else None
    labels = (row.label for row in rows_in(path, files, columns, Problems(strict=False)) if row.label is not None) if columns else iter(())
    return isinstance(next(labels, None), list)


def read_arrow(
    path: Path, split: str, *, image_size: tuple[int, int], channels: int = 3, max_objects: int = 16, strict: bool = False
) -> tuple[ArrayDataset, list[Problem]]:
    """The pictures of a split, with the objects in their column `objects`, else with their classes, and what is wrong with the data.

    What columns are, and what classes are called, is read from the files' own description, as `datasets` writes it; without one a column `image` holds the
    pictures and `label` the class, or a list of all that the picture holds. Boxes are COCO's, (x, y, width, height) in pixels. Masks are not read.

    Args:
        path: folder of `*.parquet` as on the hub, or of `*.arrow` as `save_to_disk` writes them.
        split: train, val or test; without files for val, a tenth of train chosen by content (of each class, where there are classes).
        image_size: (height, width) in pixels, to which pictures are stretched, and boxes with them.
        channels: 3 (colour) or 1 (grey).
        max_objects: slots; of pictures with more the largest objects are kept, at most 254.
        strict: raise at the first problem; otherwise what cannot be used is left out and reported.
    Raises:
        ValueError: missing folder or split, pyarrow is not installed, no pictures in the files; with `strict` the first problem.
    """
    problems = Problems(strict)
    every = files_of(existing_folder(path))
    files = lookup(with_val(every), split, f"split of {path}")
    columns = columns_in(every, files)
    if columns.objects:
        contents = read_contents(path, split, problems)
        return read_objects(contents, image_size=image_size, channels=channels, max_objects=max_objects, problems=problems), problems.found
    names = columns.class_names or _names_in(path, every, columns)
    rows = list(rows_in(path, files, columns, problems))
    pixels: list[UInt8[Tensor, "c h w"]] = []
    sets: list[tuple[int, ...] | None] = []
    for row in rows if "val" in every else _by_class(rows, split):
        try:
            held = _classes(row.label, names, told=columns.class_names is not None)
            pixels.append(read_picture(row.content, image_size, channels)[0])
            sets.append(held)
        except ValueError as error:
            problems.drop(row.where, str(error))
    if not pixels:
        raise ValueError(f"{path} has no readable picture in split `{split}`; expected them in the column `{columns.picture}`.")
    return of_class_sets(path.name, names, torch.stack(pixels), sets, max_objects), problems.found


def read_contents(path: Path, split: str, problems: Problems) -> Contents:
    """What the files of a split say of objects.

    Raises:
        ValueError: no such split, or its objects' classes have no names.
    """
    every = files_of(path)
    files = lookup(with_val(every), split, f"split of {path}")
    columns = columns_in(every, files)
    if not columns.objects:
        return Contents(root=path, split=split, class_names=(), pictures=[])
    if columns.class_names is None:
        raise ValueError(f"{files[0]}: the classes of `{OBJECTS}` have no names; expected a ClassLabel in the file's description, as `datasets` writes it.")
    rows = list(rows_in(path, files, columns, problems))
    rows = rows if "val" in every else of_split(rows, split, lambda row: row.content)
    chosen = [
        Picture(
            file=row.content, name=row.where, announced=(None, None), is_annotated=row.objects is not None, entries=_entries(row, columns.class_names, problems)
        )
        for row in rows
    ]
    return Contents(root=path, split=split, class_names=columns.class_names, pictures=chosen)


def _entries(row: Row, names: tuple[str, ...], problems: Problems) -> list[Entry]:
    """A row's objects, given as lists of boxes and of classes, or as a list of pairs of them."""
    objects = row.objects
    if isinstance(objects, dict):
        boxes, classes = (_first(objects, keys) for keys in (BOXES, CATEGORIES))
    elif isinstance(objects, list) and all(isinstance(each, dict) for each in objects):
        boxes, classes = ([_first(each, keys) for each in objects] for keys in (BOXES, CATEGORIES))
    else:
        boxes, classes = [], []
    if not isinstance(boxes, list) or not isinstance(classes, list) or len(boxes) != len(classes):
        problems.drop(row.where, f"`{OBJECTS}` needs as many boxes ({', '.join(BOXES)}) as classes ({', '.join(CATEGORIES)}); its objects are")
        return [Entry(row.where, UNLABELLED, None, None, False)]
    found = []
    for number, (box, label) in enumerate(zip(boxes, classes, strict=True)):
        where = f"{row.where} object {number}"
        if type(label) is not int or not 0 <= label < len(names):
            problems.drop(where, f"unknown class {str(label)[:20]}; known: 0 to {len(names) - 1}")
            label = UNLABELLED
        found.append(Entry(where, label, box, None, False))
    return found


def _first(values: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    return next((values[key] for key in keys if key in values), None)


def _classes(label: Any, names: tuple[str, ...], *, told: bool) -> tuple[int, ...] | None:
    """The classes of a row, a list or one alone; -1 and nothing are unknown, as in test files whose labels are kept secret.

    Args:
        told: whether the names are the file's own, which numbers count; else numbers are names.
    Raises:
        ValueError: none of the names.
    """
    if label is None or label == UNLABELLED:
        return None
    return tuple(sorted({_class(each, names, told=told) for each in (label if isinstance(label, list) else [label])}))


def _class(label: Any, names: tuple[str, ...], *, told: bool) -> int:
    if told and type(label) is int and 0 <= label < len(names):
        return label
    if (isinstance(label, str) or not told) and str(label) in names:
        return names.index(str(label))
    raise ValueError(f"unknown class {str(label)[:20]}; known: {', '.join(names)[:200]}")


def _by_class(rows: list[Row], split: str) -> list[Row]:
    by_class: dict[str, list[Row]] = {}
    for row in rows:
        by_class.setdefault("several" if isinstance(row.label, list) else str(row.label), []).append(row)
    return [row for some in of_split_by_class(list(by_class.values()), split, lambda row: row.content) for row in some]


def _names_in(path: Path, every: Mapping[str, list[Path]], columns: Columns) -> tuple[str, ...]:
    """The classes that are there, in order, where the files do not say what they are called."""
    if columns.label is None:
        return ()
    files = [file for some in every.values() for file in some]
    rows = (row.label if isinstance(row.label, list) else [row.label] for row in rows_in(path, files, columns, Problems(strict=False)))
    found = {label for labels in rows for label in labels if isinstance(label, int | str) and label != UNLABELLED}
    return tuple(map(str, sorted(found, key=lambda label: (isinstance(label, str), label))))

"""Hugging Face data sets on disk: Parquet or Arrow files that hold the pictures themselves, with classes or with objects."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from genrep.datasets.base import ArrayDataset, unlocated
from genrep.datasets.images import SPLITS, existing_folder, of_split, read_picture, with_val
from genrep.datasets.objects import Contents, Entry, Picture, read_objects
from genrep.datasets.problems import Problem, Problems
from genrep.registry import lookup
from genrep.types import UNLABELLED

AT_ONCE = 64
"""Rows that are decoded together."""
PICTURES, LABELS, OBJECTS = ("image", "img"), ("label", "labels", "fine_label"), "objects"
"""Usual names of columns, where the files do not say what theirs are."""
BOXES, CATEGORIES = ("bbox", "bboxes"), ("category", "categories", "label", "labels", "category_id")


@dataclass(frozen=True)
class _Columns:
    """Where in a row things are; None: nowhere."""

    picture: str
    label: str | None
    objects: str | None
    class_names: tuple[str, ...] | None
    """None: the files do not say."""


@dataclass
class _Row:
    where: str
    content: bytes
    label: Any
    objects: Any


@dataclass(frozen=True)
class _Lost:
    """Rows that a file does not give."""

    why: str
    num: int


def files_of(path: Path) -> dict[str, list[Path]]:
    """Parquet and Arrow files by split, a word of their path below the folder (`data/train-00000-of-00002.parquet`, `validation/data-00000.arrow`), the last
    that is one; those that name none are train."""
    found: dict[str, list[Path]] = {}
    for file in sorted(file for suffix in ("parquet", "arrow") for file in path.rglob(f"*.{suffix}") if not file.name.startswith(("cache-", "."))):
        words = re.findall("[a-z]+", str(file.relative_to(path)).lower())
        found.setdefault(next((SPLITS[word] for word in reversed(words) if word in SPLITS), "train"), []).append(file)
    return found


def splits(path: Path) -> tuple[str, ...]:
    """The splits that can be read from the folder; none if it has no such files."""
    return tuple(with_val(files_of(path)))


def pictures(path: Path) -> list[bytes]:
    """The content of every training picture of the folder that can be read."""
    files = files_of(path).get("train", [])
    columns = _columns(files) if files else None
    return [row.content for row in _rows(path, files, columns, Problems(strict=False))] if columns else []


def read_arrow(
    path: Path, split: str, *, image_size: tuple[int, int], channels: int = 3, max_objects: int = 16, strict: bool = False
) -> tuple[ArrayDataset, list[Problem]]:
    """The pictures of a split, with the objects in their column `objects`, else with their classes, and what is wrong with the data.

    What columns are, and what classes are called, is read from the files' own description, as `datasets` writes it; without one a column `image` holds the
    pictures and `label` the classes. Boxes are COCO's, (x, y, width, height) in pixels. Masks are not read.

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
    columns = _columns(files)
    if columns.objects:
        contents = read_contents(path, split, problems)
        return read_objects(contents, image_size=image_size, channels=channels, max_objects=max_objects, problems=problems), problems.found
    names = columns.class_names or _names_in(path, every, columns)
    rows = list(_rows(path, files, columns, problems))
    pixels: list[UInt8[Tensor, "c h w"]] = []
    labels: list[int] = []
    for row in rows if "val" in every else _by_class(rows, split):
        try:
            label = _label(row.label, names, told=columns.class_names is not None)
            pixels.append(read_picture(row.content, image_size, channels)[0])
            labels.append(label)
        except ValueError as error:
            problems.drop(row.where, str(error))
    if not pixels:
        raise ValueError(f"{path} has no readable picture in split `{split}`; expected them in the column `{columns.picture}`.")
    return unlocated(path.name, names, torch.stack(pixels), torch.tensor(labels), max_objects), problems.found


def read_contents(path: Path, split: str, problems: Problems) -> Contents:
    """What the files of a split say of objects.

    Raises:
        ValueError: no such split, or its objects' classes have no names.
    """
    every = files_of(path)
    files = lookup(with_val(every), split, f"split of {path}")
    columns = _columns(files)
    if not columns.objects:
        return Contents(root=path, split=split, class_names=(), pictures=[])
    if columns.class_names is None:
        raise ValueError(f"{files[0]}: the classes of `{OBJECTS}` have no names; expected a ClassLabel in the file's description, as `datasets` writes it.")
    rows = list(_rows(path, files, columns, problems))
    rows = rows if "val" in every else of_split(rows, split, lambda row: row.content)
    chosen = [
        Picture(
            file=row.content, name=row.where, announced=(None, None), is_annotated=row.objects is not None, entries=_entries(row, columns.class_names, problems)
        )
        for row in rows
    ]
    return Contents(root=path, split=split, class_names=columns.class_names, pictures=chosen)


def _entries(row: _Row, names: tuple[str, ...], problems: Problems) -> list[Entry]:
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
        return []
    found = []
    for number, (box, label) in enumerate(zip(boxes, classes, strict=True)):
        where = f"{row.where} object {number}"
        if type(label) is not int or not 0 <= label < len(names):
            problems.drop(where, f"unknown class {str(label)[:20]}; known: 0 to {len(names) - 1}")
        else:
            found.append(Entry(where, label, box, None, False))
    return found


def _first(values: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    return next((values[key] for key in keys if key in values), None)


def _label(label: Any, names: tuple[str, ...], *, told: bool) -> int:
    """The class of a row; -1 and nothing are none, as in test files whose labels are kept secret.

    Args:
        told: whether the names are the file's own, which numbers count; else numbers are names.
    Raises:
        ValueError: none of the names.
    """
    if label is None or label == UNLABELLED:
        return UNLABELLED
    if told and type(label) is int and 0 <= label < len(names):
        return label
    if (isinstance(label, str) or not told) and str(label) in names:
        return names.index(str(label))
    raise ValueError(f"unknown class {str(label)[:20]}; known: {', '.join(names)[:200]}")


def _by_class(rows: list[_Row], split: str) -> list[_Row]:
    by_class: dict[str, list[_Row]] = {}
    for row in rows:
        by_class.setdefault(str(row.label), []).append(row)
    return [row for some in by_class.values() for row in of_split(some, split, lambda row: row.content)]


def _names_in(path: Path, every: Mapping[str, list[Path]], columns: _Columns) -> tuple[str, ...]:
    """The classes that are there, in order, where the files do not say what they are called."""
    if columns.label is None:
        return ()
    files = [file for some in every.values() for file in some]
    found = {row.label for row in _rows(path, files, columns, Problems(strict=False)) if isinstance(row.label, int | str) and row.label != UNLABELLED}
    return tuple(map(str, sorted(found, key=lambda label: (isinstance(label, str), label))))


def _columns(files: list[Path]) -> _Columns:
    """What the columns of the first file are that can be read.

    Raises:
        ValueError: pyarrow is not installed, none can be read, or it has no pictures.
    """
    failures = []
    for file in files:
        try:
            return _columns_of(file)
        except ValueError as error:
            failures.append(error)
    raise failures[0]


def _columns_of(file: Path) -> _Columns:
    names, features = _described(file)
    picture = next((name for name in names if _is(features.get(name), "Image")), next((name for name in PICTURES if name in names), None))
    if picture is None:
        raise ValueError(f"{file} has no column of pictures; expected `image`, found {', '.join(names)[:200] or 'none'}.")
    objects = OBJECTS if OBJECTS in names else None
    told = [name for name in names if _is(features.get(name), "ClassLabel")]
    label = next((name for name in LABELS if name in told), next((name for name in (*told, *LABELS) if name in names), None))
    return _Columns(picture, label, objects, _class_names(features.get(objects if objects else label or "")))


def _is(feature: Any, kind: str) -> bool:
    return isinstance(feature, dict) and feature.get("_type") == kind


def _class_names(feature: Any) -> tuple[str, ...] | None:
    """Names of the first class label in a description, however deep; None where there is none."""
    if _is(feature, "ClassLabel") and isinstance(feature.get("names"), list):
        return tuple(map(str, feature["names"]))
    below = feature.values() if isinstance(feature, dict) else feature if isinstance(feature, list) else ()
    return next((names for each in below if (names := _class_names(each))), None)


def _described(file: Path) -> tuple[list[str], dict[str, Any]]:
    """Names of a file's columns, and what they are where it says."""
    with _opened(file) as opened:
        schema = opened.schema if file.suffix == ".arrow" else opened.schema_arrow
        try:
            features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        except (ValueError, KeyError, TypeError, RecursionError):
            features = {}
        return list(schema.names), features if isinstance(features, dict) else {}


def _opened(file: Path) -> Any:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError:
        raise ValueError(f"{file}: reading Parquet and Arrow needs pyarrow; install it with `pip install 'genrep[arrow]'`.") from None
    try:
        return pa.ipc.open_stream(pa.memory_map(str(file))) if file.suffix == ".arrow" else pq.ParquetFile(file)
    except Exception as error:  # damaged files raise almost anything
        raise ValueError(f"{file} cannot be read ({' '.join(str(error).split())[:200] or type(error).__name__}).") from error


def _rows(path: Path, files: list[Path], columns: _Columns, problems: Problems) -> Iterator[_Row]:
    """Rows that hold a picture, file by file; the rest of a damaged file is left out."""
    for file in files:
        name, number = str(file.relative_to(path)), 0
        for values in _values(file, columns):
            where, number = f"{name} row {number}", number + 1
            if isinstance(values, _Lost):
                problems.drop(f"{where} on", values.why, values.num)
                continue
            content = values[columns.picture]
            content = content.get("bytes") if isinstance(content, dict) else content
            if isinstance(content, bytes):
                yield _Row(where, content, values[columns.label] if columns.label else None, values[OBJECTS] if columns.objects else None)
            else:
                problems.drop(where, "holds no picture")


def _values(file: Path, columns: _Columns) -> Iterator[dict[str, Any] | _Lost]:
    """Rows as plain values, of the columns that count; at last what is lost of a damaged file: one row at least, all the others that it promises."""
    wanted, number, num = [name for name in (columns.picture, columns.label, columns.objects) if name], 0, 0
    why = "the file holds fewer rows than it promises"
    try:
        with _opened(file) as opened:
            is_parquet = file.suffix != ".arrow"
            num = opened.metadata.num_rows if is_parquet else 0
            for batch in opened.iter_batches(AT_ONCE, columns=wanted) if is_parquet else opened:
                for values in batch.select(wanted).to_pylist():
                    number += 1
                    yield values
    except Exception as error:  # damaged files raise almost anything
        why, num = f"cannot be read ({' '.join(str(error).split())[:200] or type(error).__name__})", max(num, number + 1)
    if number < num:
        yield _Lost(why, num - number)

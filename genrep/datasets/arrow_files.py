"""What Parquet and Arrow files of pictures hold: which column is what, and their rows, as far as they can be read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from genrep.datasets.images import TOLD_SPLITS
from genrep.datasets.problems import Problems

AT_ONCE = 64
"""Rows that are decoded together."""
PICTURES, LABELS, OBJECTS = ("image", "img"), ("label", "labels", "fine_label"), "objects"
"""Usual names of columns, which go before others of their kind."""
BOXES, CATEGORIES = ("bbox", "bboxes"), ("category", "categories", "label", "labels", "category_id")
"""Usual names of what a column of objects holds."""


@dataclass(frozen=True)
class Columns:
    """Where in a row things are; None: nowhere."""

    picture: str
    label: str | None
    objects: str | None
    class_names: tuple[str, ...] | None = None
    """None: the files do not say."""
    order: Mapping[Path, tuple[int, ...]] = field(default_factory=dict)
    """Of files that count the classes otherwise, which class each of their numbers is."""


@dataclass
class Row:
    """A picture, and what its row says of it."""

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
        found.setdefault(next((TOLD_SPLITS[word] for word in reversed(words) if word in TOLD_SPLITS), "train"), []).append(file)
    return found


def columns_in(every: Mapping[str, list[Path]], files: list[Path]) -> Columns:
    """What the columns of the first of some files are that can be read; classes are those of the whole folder, in the order of the first file that names them.

    Args:
        every: all files by split.
    Raises:
        ValueError: pyarrow is not installed, none can be read, it has no pictures, or files name different classes.
    """
    failures = []
    for file in files:
        try:
            columns = _columns_of(file)
        except ValueError as error:
            failures.append(error)
        else:
            return replace(columns, **_agreed([file for split in ("train", "val", "test") for file in every.get(split, [])], columns))
    raise failures[0]


def _columns_of(file: Path) -> Columns:
    names, features = _described(file)
    picture = next((name for name in (*PICTURES, *names) if _is(features.get(name), "Image")), next((name for name in PICTURES if name in names), None))
    if picture is None:
        raise ValueError(f"{file} has no column of pictures; expected `image`, found {', '.join(names)[:200] or 'none'}.")
    told = [name for name in names if _is(features.get(name), "ClassLabel")]
    usual = [name for name in LABELS if name in names and not _is(features.get(name), "Image")]
    label = next((name for name in usual if name in told), next(iter((*usual, *told)), None))
    return Columns(picture, label, OBJECTS if OBJECTS in names else None)


def _agreed(files: list[Path], columns: Columns) -> dict[str, Any]:
    """The classes' names, and for files that have them in another order the place of each.

    Raises:
        ValueError: two files name different classes.
    """
    first, names, order = None, None, {}
    for file in files:
        try:
            features = _described(file)[1]
        except ValueError:  # which is reported where its rows are read
            continue
        own = _class_names(_categories(features.get(OBJECTS)) if columns.objects else features.get(columns.label or ""))
        if own is None or own == names:
            continue
        if names is None:
            first, names = file, own
        elif set(own) != set(names):
            raise ValueError(f"{file} has the classes {', '.join(own)[:200]}; {first} has {', '.join(names)[:200]}. They must be the same in all files.")
        else:
            order[file] = tuple(names.index(name) for name in own)
    return {"class_names": names, "order": order}


def _categories(feature: Any) -> Any:
    """The description of objects' classes, as they will be read, in that of objects."""
    while (isinstance(feature, list) and feature) or (isinstance(feature, dict) and "feature" in feature):
        feature = feature[0] if isinstance(feature, list) else feature["feature"]
    return next((feature[key] for key in CATEGORIES if key in feature), None) if isinstance(feature, dict) else None


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


def rows_in(path: Path, files: list[Path], columns: Columns, problems: Problems) -> Iterator[Row]:
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
                order = columns.order.get(file)
                label = _counted(values[columns.label], order) if columns.label else None
                yield Row(where, content, label, _counted(values[OBJECTS], order) if columns.objects else None)
            else:
                problems.drop(where, "holds no picture")


def _counted(value: Any, order: tuple[int, ...] | None) -> Any:
    """Numbers of classes, as they are or in lists or as categories of objects, as the whole folder counts them."""
    if order is None:
        return value
    if isinstance(value, dict):
        return {key: _counted(each, order) if key in CATEGORIES else each for key, each in value.items()}
    if isinstance(value, list):
        return [_counted(each, order) for each in value]
    return order[value] if type(value) is int and 0 <= value < len(order) else value


def _values(file: Path, columns: Columns) -> Iterator[dict[str, Any] | _Lost]:
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

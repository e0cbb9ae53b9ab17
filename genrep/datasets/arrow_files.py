"""What Parquet and Arrow files of pictures hold: which column is what, and their rows, as far as they can be read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genrep.datasets.images import SPLITS
from genrep.datasets.problems import Problems

AT_ONCE = 64
"""Rows that are decoded together."""
PICTURES, LABELS, OBJECTS = ("image", "img"), ("label", "labels", "fine_label"), "objects"
"""Usual names of columns, where the files do not say what theirs are."""


@dataclass(frozen=True)
class Columns:
    """Where in a row things are; None: nowhere."""

    picture: str
    label: str | None
    objects: str | None
    class_names: tuple[str, ...] | None
    """None: the files do not say."""


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
        found.setdefault(next((SPLITS[word] for word in reversed(words) if word in SPLITS), "train"), []).append(file)
    return found


def columns_in(files: list[Path]) -> Columns:
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


def _columns_of(file: Path) -> Columns:
    names, features = _described(file)
    picture = next((name for name in names if _is(features.get(name), "Image")), next((name for name in PICTURES if name in names), None))
    if picture is None:
        raise ValueError(f"{file} has no column of pictures; expected `image`, found {', '.join(names)[:200] or 'none'}.")
    objects = OBJECTS if OBJECTS in names else None
    told = [name for name in names if _is(features.get(name), "ClassLabel")]
    label = next((name for name in LABELS if name in told), next((name for name in (*told, *LABELS) if name in names), None))
    return Columns(picture, label, objects, _class_names(features.get(objects if objects else label or "")))


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
                yield Row(where, content, values[columns.label] if columns.label else None, values[OBJECTS] if columns.objects else None)
            else:
                problems.drop(where, "holds no picture")


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

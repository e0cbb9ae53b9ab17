"""Pictures whose classes stand in a table: `labels.csv`, with one class a picture or several."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from genrep.datasets.base import ArrayDataset, of_class_sets
from genrep.datasets.images import TOLD_SPLITS, existing_folder, inside, of_split_by_class, read_names, read_picture, with_val
from genrep.datasets.problems import Problem, Problems
from genrep.registry import lookup

TABLE = "labels.csv"
FILES = ("file_name", "filename", "file", "image", "path")
CLASSES = ("labels", "label", "classes", "class", "category")
SPLIT = "split"
REMEDY = "Rename the file if it is no table of pictures."
IN_OR_OUT = {"0": False, "1": True, "0.0": False, "1.0": True, "false": False, "true": True}
"""What stands in a column that is a class."""


@dataclass
class _Listed:
    """A picture of the table, which may stand in several of its rows."""

    where: str
    """Its first row."""
    file: Path
    split: str
    held: set[str] | None
    """Its classes; None: unknown."""


@dataclass(frozen=True)
class _Table:
    class_names: tuple[str, ...]
    by_split: dict[str, list[_Listed]]


@dataclass(frozen=True)
class _Header:
    """Where in a row things are."""

    num: int
    file: int
    label: int | None
    """None: every other column is a class."""
    split: int | None
    classes: Mapping[int, str]
    """Those columns."""
    between: str
    """What may stand between the classes of a cell."""


def splits(path: Path) -> tuple[str, ...]:
    """The splits that can be read from the folder; none if it has no table."""
    if not (path / TABLE).is_file():
        return ()
    return tuple(with_val(_read(path, Problems(strict=False)).by_split))


def pictures(path: Path) -> list[Path]:
    """Every training picture of the table."""
    return [listed.file for listed in _read(path, Problems(strict=False)).by_split.get("train", [])]


def has_several(path: Path) -> bool:
    """Whether a picture of the table holds several classes, or none."""
    every = _read(path, Problems(strict=False)).by_split.values()
    return any(listed.held is not None and len(listed.held) != 1 for some in every for listed in some)


def read_table(
    path: Path, split: str, *, image_size: tuple[int, int], channels: int = 3, max_objects: int = 4, strict: bool = False
) -> tuple[ArrayDataset, list[Problem]]:
    """The pictures of a split with the classes they hold, and what is wrong with the table.

    A row is a picture: its file, below the folder or below its `images`, and its classes, in one column, several with `|` or `;` between them, or in a column
    of 0 and 1 for each class. A picture may stand in several rows, as one class each. An empty cell is unknown; zeros throughout are known to be none.

    Args:
        path: folder with `labels.csv`; with `classes.txt` classes are those, in that order, else all that are named, in alphabetical order.
        split: train, val or test, of the column `split`; without it all is train; where there is no val, a tenth of train chosen by content
            (of each class, of pictures of one).
        image_size: (height, width) in pixels, to which pictures are stretched.
        channels: 3 (colour) or 1 (grey).
        max_objects: empty object slots, so that batches of other sets can be joined.
        strict: raise at the first problem; otherwise what cannot be used is left out and reported.
    Raises:
        ValueError: no such folder, table or split, a table without files or classes, or no picture that can be read; with `strict` the first problem.
    """
    problems = Problems(strict)
    table = _read(existing_folder(path), problems)
    listed = lookup(with_val(table.by_split), split, f"split of {path}")
    pixels: list[UInt8[Tensor, "c h w"]] = []
    sets: list[list[int] | None] = []
    for each in listed if "val" in table.by_split or split == "test" else _part(listed, split):
        try:
            pixels.append(read_picture(each.file, image_size, channels)[0])
            sets.append(None if each.held is None else sorted(map(table.class_names.index, each.held)))
        except ValueError as error:
            problems.drop(each.where, str(error))
    if not pixels:
        raise ValueError(f"{path / TABLE} names no readable picture of split `{split}`.")
    return of_class_sets(path.name, table.class_names, torch.stack(pixels), sets, max_objects), problems.found


def _part(listed: list[_Listed], split: str) -> list[_Listed]:
    """What of the training pictures is train, or val: of those of one class alone the same share of each class."""
    groups: dict[str, list[_Listed]] = {}
    for each in listed:
        groups.setdefault(next(iter(each.held)) if each.held and len(each.held) == 1 else "", []).append(each)
    return [each for some in of_split_by_class(list(groups.values()), split, lambda one: one.file) for each in some]


def _read(path: Path, problems: Problems) -> _Table:
    """The table, the rows of one picture drawn together; a picture none of whose rows can be used is lost.

    Raises:
        ValueError: it is no text, its first line does not say where files and classes are, or no row can be used.
    """
    header, rows = _opened(path / TABLE)
    given = read_names(path / "classes.txt")
    found: dict[str, _Listed] = {}
    failed: list[tuple[str, str, str]] = []
    for number, cells in rows:
        where, name = f"{TABLE} row {number}", cells[header.file].strip() if header.file < len(cells) else f"row {number}"
        try:
            listed = _listed(path, where, header, cells, given)
            _join(found.setdefault(_real(listed.file), listed), listed)
        except ValueError as error:
            failed.append((_real(f"{path}/{_place(path, name)}"), where, str(error)))
    if not found:
        raise ValueError(f"{path / TABLE} has no row that can be used{f'; {failed[0][1]}: {failed[0][2]}' if failed else ''}.")
    lost = {name for name, _, _ in failed} - set(found)
    for name, where, why in failed:
        (problems.drop if name in lost else problems.add)(where, why)
        lost.discard(name)
    named = list(header.classes.values()) or sorted({name for each in found.values() for name in each.held or ()})
    by_split: dict[str, list[_Listed]] = {}
    for each in found.values():
        by_split.setdefault(each.split, []).append(each)
    return _Table(tuple(given or named), by_split)


def _listed(path: Path, where: str, header: _Header, cells: list[str], given: list[str]) -> _Listed:
    """What a row says.

    Raises:
        ValueError: it cannot be used.
    """
    if len(cells) != header.num:
        raise ValueError(f"has {len(cells)} cells; the first line has {header.num}")
    name, told = cells[header.file].strip(), "train" if header.split is None else cells[header.split].strip()
    if told.lower() not in TOLD_SPLITS:
        raise ValueError(f"unknown split `{told[:20]}`; known: {', '.join(TOLD_SPLITS)}")
    file = inside(path, _place(path, name))
    if not os.path.isfile(file):
        raise ValueError(f"{name[:100]} is missing")
    held = _held(header, cells)
    strange = next((each for each in sorted(held or ()) if given and each not in given), None)
    if strange is not None:
        raise ValueError(f"unknown class `{strange[:20]}`; known: {', '.join(given)[:200]}")
    return _Listed(where, file, TOLD_SPLITS[told.lower()], held)


def _place(path: Path, name: str) -> str:
    """Where below the folder a picture is, or would be."""
    return next((place for place in (name, f"images/{name}") if os.path.isfile(f"{path}/{place}")), name)


def _real(file: Path | str) -> str:
    """What all names of a file have in common."""
    return os.path.realpath(str(file).replace("\0", ""))


def _join(first: _Listed, other: _Listed) -> None:
    """Note what another row of a picture says.

    Raises:
        ValueError: that it is of another split.
    """
    if other.split != first.split:
        raise ValueError(f"{first.file.name} is of {first.split} in {first.where}, and of {other.split} here")
    if other.held is not None:
        first.held = (first.held or set()) | other.held


def _held(header: _Header, cells: list[str]) -> set[str] | None:
    """The classes of a row; None: unknown.

    Raises:
        ValueError: a class's column holds something else than 0 and 1.
    """
    if header.label is not None:
        return {name.strip() for name in re.split(f"[{header.between}]", cells[header.label]) if name.strip()} or None
    values = {name: cells[i].strip().lower() for i, name in header.classes.items()}
    if not any(values.values()):
        return None
    strange = next((name for name, value in values.items() if value not in IN_OR_OUT), None)
    if strange is not None:
        raise ValueError(f"`{values[strange][:20]}` in column `{strange[:20]}`; expected 0 or 1 in every column of a class")
    return {name for name, value in values.items() if IN_OR_OUT[value]}


def _opened(file: Path) -> tuple[_Header, list[tuple[int, list[str]]]]:
    """What the first line says of the columns, and the other rows that hold anything, by their number.

    Raises:
        ValueError: it is no text, or does not say where pictures and classes are.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
        delimiter = max(",;\t", key=text.partition("\n")[0].count)
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{file} cannot be read as a table ({error}); expected comma-separated text in UTF-8.") from error
    cells = [cell.strip() for cell in rows[0]] if rows else []
    names = [cell.lower() for cell in cells]
    picture, label, split = (next((names.index(name) for name in known if name in names), None) for known in (FILES, CLASSES, (SPLIT,)))
    if picture is None:
        raise ValueError(
            f"{file} has no column of pictures; expected {', '.join(FILES)} in its first line, found {', '.join(names)[:100] or 'nothing'}. {REMEDY}"
        )
    classes = {i: cell for i, cell in enumerate(cells) if label is None and i not in (picture, split)}
    if label is None and (not all(classes.values()) or len(set(classes.values())) < max(1, len(classes))):
        raise ValueError(f"{file} has no classes; expected a column {', '.join(CLASSES)}, or a column of 0 and 1 for each class, of different names. {REMEDY}")
    between = "|" if delimiter == ";" else "|;"
    return _Header(len(cells), picture, label, split, classes, between), [(number, row) for number, row in enumerate(rows[1:], 2) if row]

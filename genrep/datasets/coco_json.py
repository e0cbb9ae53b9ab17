"""COCO annotation files: which there are, and what they say, checked entry by entry."""

from __future__ import annotations

import json
import mmap
import os
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from genrep.datasets.images import SPLITS, inside, of_split, with_val
from genrep.datasets.objects import Contents, Entry, Picture
from genrep.datasets.problems import Problems
from genrep.registry import lookup
from genrep.types import UNLABELLED

KEYS = ("images", "annotations", "categories")
"""What a file of annotations holds."""
OWN = ("instances", "_annotations.coco")
"""How the names of such files begin."""


def annotation_files(root: Path) -> dict[str, Path]:
    """Annotation files by split.

    Looks at `annotations/*.json`, `*.json` and `SPLIT/_annotations.coco.json`; the split is a word of the name (`instances_train2017`);
    a single file that names none is train. `instances_*` goes before other files of the same split. What holds no annotations of objects, as
    `captions_val2017.json` and `image_info_test2017.json`, makes no split.

    Raises:
        ValueError: several files for one split.
    """
    candidates = _candidates(root)
    found = {split: _preferred(files) for split, files in _by_split(candidates).items() if any(map(_has_objects, files))}
    if not found and len(candidates) == 1 and not _split_of(candidates[0]) and _has_objects(candidates[0]):
        return {"train": candidates[0]}
    return found


def _candidates(root: Path) -> list[Path]:
    return [*sorted(root.glob("annotations/*.json")), *sorted(root.glob("*.json")), *sorted(root.glob("*/_annotations.coco.json"))]


def _by_split(files: list[Path]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for file in files:
        if split := _split_of(file):
            found.setdefault(split, []).append(file)
    return found


def _has_objects(file: Path) -> bool:
    """Whether a file is to be read as annotations of objects, or to be refused as what should have been some."""
    return file.name.startswith(OWN) or _looks_like_it(file, file.stat().st_mtime_ns)


@lru_cache
def _looks_like_it(file: Path, modified: int) -> bool:
    """Whether json has all the KEYS, or some of them and is damaged; looked at once, as long as it stays as it is, and parsed only where one is missing."""
    del modified
    with file.open("rb") as opened:
        if not os.fstat(opened.fileno()).st_size:
            return False
        with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
            present = [content.find(f'"{key}"'.encode()) >= 0 for key in KEYS]
    if all(present) or not any(present):
        return all(present)
    try:
        _parse(file)
    except ValueError:
        return True
    return False


def _split_of(file: Path) -> str | None:
    name = file.parent.name if file.name == "_annotations.coco.json" else file.stem
    words = re.findall("[a-z]+", name.lower())
    return next((SPLITS[word] for word in words if word in SPLITS), None)


def _preferred(files: list[Path]) -> Path:
    named = [file for file in files if file.name.startswith("instances")] or [file for file in files if _has_objects(file)]
    if len(named) > 1:
        raise ValueError(f"{named[0]} and {named[1]} are both annotations of the same split; keep one, or name it instances_SPLIT.json.")
    return named[0]


def read_contents(root: Path, split: str, problems: Problems) -> Contents:
    """What the annotation file of `split` says; without one for val, a tenth of train's pictures, chosen by content.

    Raises:
        ValueError: no such split, or the file is not COCO json.
    """
    files = annotation_files(root)
    file = lookup(with_val(files), split, f"split of {root}")
    source = "train" if file == files.get("train") else split
    for which, others in _by_split(_candidates(root)).items():
        if which not in files and others[0].parent != root:
            problems.note(others[0].name, f"holds no annotations of objects; there is no split {which}")
    content = _content(file)
    names = _categories(file, content["categories"])
    pictures = _pictures(root, file, source, content["images"], problems)
    _attach(file, content["annotations"], pictures, names, problems)
    chosen = [picture for picture in pictures.values() if picture is not None]
    chosen = chosen if "val" in files else of_split(chosen, split, lambda picture: picture.file)
    return Contents(root=root, split=split, class_names=_in_order(names), pictures=chosen)


def class_names(root: Path, split: str) -> tuple[str, ...]:
    """Those of the annotation file of `split`, in order of their ids.

    Raises:
        ValueError: no such split, or the file is not COCO json.
    """
    file = lookup(with_val(annotation_files(root)), split, f"split of {root}")
    return _in_order(_categories(file, _content(file)["categories"]))


def _in_order(names: dict[int, str]) -> tuple[str, ...]:
    return tuple(name for _, name in sorted(names.items()))


def _content(file: Path) -> dict[str, Any]:
    content = _parse(file)
    for key in KEYS:
        if not isinstance(content.get(key), list):
            raise ValueError(f"{file}: not COCO json; expected a list `{key}`, found {type(content.get(key)).__name__}.")
    return content


def _parse(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is not valid json ({' '.join(str(error).split())}).") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file}: not COCO json; expected an object, found {type(content).__name__}.")
    return content


def _categories(file: Path, entries: list[Any]) -> dict[int, str]:
    """Class names by id; ids may have gaps."""
    names: dict[int, str] = {}
    for entry in entries:
        if not isinstance(entry, dict) or type(entry.get("id")) is not int or not isinstance(entry.get("name"), str):
            raise ValueError(f"{file}: a category needs an integer `id` and a `name`; found {str(entry)[:80]}.")
        if entry["id"] in names or entry["name"] in names.values():
            raise ValueError(f"{file}: category {entry['id']} `{entry['name']}` is there twice.")
        names[entry["id"]] = entry["name"]
    return names


def _dicts(where: str, entries: list[Any], problems: Problems) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, entry in enumerate(entries):
        if isinstance(entry, dict):
            yield f"{where} {entry.get('id', f'number {number}')}", entry
        else:
            problems.drop(f"{where} number {number}", "is not an object")


def _pictures(root: Path, file: Path, split: str, entries: list[Any], problems: Problems) -> dict[int, Picture | None]:
    """Pictures by id; None for those that cannot be used, which is reported."""
    pictures: dict[int, Picture | None] = {}
    for where, entry in _dicts(f"{file.name} image", entries, problems):
        key, name = entry.get("id"), entry.get("file_name")
        if type(key) is not int or not isinstance(name, str) or key in pictures:
            problems.drop(where, "needs an integer `id` of its own and a `file_name`")
            continue
        try:
            path = _locate(root, file, split, name)
        except (ValueError, OSError) as error:
            problems.drop(where, str(error))
            pictures[key] = None
            continue
        pictures[key] = Picture(file=path, name=name, announced=(entry.get("height"), entry.get("width")))
    return pictures


def _locate(root: Path, file: Path, split: str, name: str) -> Path:
    """The picture `name`, from the first of the usual folders that has it."""
    bases = [Path("images"), Path("images") / split, Path(split), Path(f"{split}2017"), file.parent.relative_to(root), Path()]
    paths = [inside(root, (base / name).as_posix()) for base in bases]
    found = next((path for path in paths if path.is_file()), None)
    if found is None:
        raise ValueError(f"`{name}` is not there; looked in {', '.join(str(base) for base in bases)}")
    return found


def _attach(file: Path, entries: list[Any], pictures: dict[int, Picture | None], names: dict[int, str], problems: Problems) -> None:
    """Give each picture its annotations."""
    order = {key: label for label, key in enumerate(sorted(names))}
    known = ", ".join(f"{number} {name}" for number, name in sorted(names.items()))[:200]
    num_crowd = num_lost = 0
    for where, entry in _dicts(f"{file.name} annotation", entries, problems):
        key, category = entry.get("image_id"), entry.get("category_id")
        label = order.get(category, UNLABELLED) if type(category) is int else UNLABELLED
        is_crowd = bool(entry.get("iscrowd")) and label != UNLABELLED
        if type(key) is not int or key not in pictures:
            problems.drop(where, f"belongs to no picture of the file (image_id {str(key)[:20]})")
            continue
        if label == UNLABELLED:
            problems.drop(where, f"unknown class {str(category)[:20]}; known: {known}")
        if (picture := pictures[key]) is not None:
            picture.entries.append(Entry(where, label, entry.get("bbox"), entry.get("segmentation"), is_crowd))
            num_crowd += is_crowd
        elif label != UNLABELLED:
            num_lost += 1
    if num_crowd:
        problems.note(file.name, f"{num_crowd} crowd annotations are no objects; what is in them is ignored", num_dropped=num_crowd)
    if num_lost:
        problems.drop(file.name, f"{num_lost} annotations belong to pictures that cannot be used", num_lost)

"""Pictures sorted into folders by class: `SPLIT/CLASS/*` or `CLASS/*`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from genrep.datasets.base import ArrayDataset, unlocated
from genrep.datasets.images import FORMATS, existing_folder, is_picture, of_split_by_class, read_picture, split_folders, with_val
from genrep.datasets.problems import Problem, Problems
from genrep.registry import lookup

NO_CLASSES = {"images", "masks", "labels", "annotations", "jpegimages"}
"""Names of folders that belong to other layouts."""


@dataclass(frozen=True, kw_only=True)
class _Layout:
    class_names: tuple[str, ...]
    files: dict[str, dict[str, list[Path]]]
    """Pictures by split and class."""


def splits(path: Path) -> tuple[str, ...]:
    """The splits that can be read from the folder; none if no folder in it holds pictures."""
    folders = _class_folders(path)
    names = {name for by_class in folders.values() for name in by_class}
    if names and {name.lower() for name in names} <= NO_CLASSES:
        return ()
    if not any(_pictures(folder) for by_class in folders.values() for folder in by_class.values()):
        return ()
    _check_depth(folders)
    return tuple(with_val(folders))


def read_image_folder(
    path: Path, split: str, *, image_size: tuple[int, int], channels: int = 3, max_objects: int = 4, strict: bool = False
) -> tuple[ArrayDataset, list[Problem]]:
    """The pictures of a split with their classes, and what is wrong with the folder.

    Where there is no val folder, a tenth of each class of train is val, chosen by the files' content: names do not matter, and
    copies of a picture stay together, whatever their classes. The classes are the folder names of all splits in alphabetical order.

    Args:
        path: folder of `SPLIT/CLASS/*.jpg` or `CLASS/*.jpg`; also png, webp, bmp, and folders within the class folders.
        split: train, val or test.
        image_size: (height, width) in pixels, to which pictures are stretched.
        channels: 3 (colour) or 1 (grey).
        max_objects: empty object slots, so that batches of other sets can be joined.
        strict: raise at the first problem; otherwise what cannot be used is left out and reported.
    Raises:
        ValueError: the folder is missing, or has no pictures, or not this split; with `strict` the first problem.
    """
    problems = Problems(strict)
    layout = _layout(existing_folder(path), problems)
    pixels: list[UInt8[Tensor, "c h w"]] = []
    labels: list[int] = []
    by_class = lookup(with_val(layout.files), split, f"split of {path}")
    chosen = by_class.values() if "val" in layout.files else of_split_by_class(list(by_class.values()), split, lambda file: file)
    for name, files in zip(by_class, chosen, strict=True):
        for file in files:
            try:
                pixels.append(read_picture(file, image_size, channels)[0])
                labels.append(layout.class_names.index(name))
            except ValueError as error:
                problems.drop(str(file.relative_to(path)), str(error))
    if not pixels:
        raise ValueError(f"{path} has no readable picture in split `{split}`; expected {', '.join(FORMATS)} files in class folders.")
    return unlocated(path.name, layout.class_names, torch.stack(pixels), torch.tensor(labels), max_objects), problems.found


def _layout(path: Path, problems: Problems) -> _Layout:
    folders = _class_folders(path)
    class_names = tuple(sorted({name for by_class in folders.values() for name in by_class}))
    files = {split: {name: _pictures(folder) for name, folder in by_class.items()} for split, by_class in folders.items()}
    if not any(found for by_class in files.values() for found in by_class.values()):
        raise ValueError(f"{path} has no pictures; expected CLASS/*.jpg or SPLIT/CLASS/*.jpg (also {', '.join(FORMATS)}).")
    _check_depth(folders)
    _report_leftovers(path, folders, files, problems)
    return _Layout(class_names=class_names, files=files)


def _class_folders(path: Path) -> dict[str, dict[str, Path]]:
    """Class folders by split and name; without split folders all are train."""
    found: dict[str, tuple[Path, dict[str, Path]]] = {}
    for folder, split in split_folders(path).items():
        by_class = _subfolders(folder)
        if by_class and split in found and found[split][1]:
            raise ValueError(f"{found[split][0]} and {folder} are both {split}; put the pictures of one into the other.")
        if by_class or split not in found:
            found[split] = (folder, by_class)
    by_split = {split: by_class for split, (_, by_class) in found.items()}
    return by_split if any(by_split.values()) else {"train": _subfolders(path)}


def _check_depth(folders: dict[str, dict[str, Path]]) -> None:
    """Class folders hold pictures, and not further class folders.

    Raises:
        ValueError: they hold folders alone, and there is one of them, or most of those in them have the same names.
    """
    every = [folder for by_class in folders.values() for folder in by_class.values()]
    if any(is_picture(file) for folder in every for file in folder.iterdir()):
        return
    below: dict[str, set[str]] = {}
    for folder in (folder for folder in every if _pictures(folder)):
        below.setdefault(folder.name, set()).update(_subfolders(folder))
    counts = Counter(name for names in below.values() for name in names)
    if len(below) == 1 or 2 * sum(num > 1 for num in counts.values()) > len(counts):
        outer, inner = (", ".join(sorted(names))[:200] for names in (below, counts))
        what = f"{every[0].parent}: the classes would be {outer}, which hold no pictures but folders: {inner}"
        raise ValueError(
            f"{what}. If these are the classes, put them in the place of the folders above them, or name one of those; else put the pictures there."
        )


def _subfolders(path: Path) -> dict[str, Path]:
    found = [child for child in sorted(path.iterdir()) if child.is_dir() and not child.name.startswith((".", "__MACOSX"))]
    return {child.name: child for child in found if not any(child.glob("*/command.txt"))}  # where our own runs lie, nothing is to be learnt from


def _pictures(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if is_picture(file) and not any(part.startswith(".") for part in file.relative_to(folder).parts))


def _report_leftovers(path: Path, folders: dict[str, dict[str, Path]], files: dict[str, dict[str, list[Path]]], problems: Problems) -> None:
    """Name what the layout has no place for."""
    used = {file for by_class in files.values() for found in by_class.values() for file in found}
    for split, by_class in folders.items():
        for name, folder in by_class.items():
            if not files[split][name]:
                problems.add(str(folder.relative_to(path)), "a class folder without pictures")
            elif split != "train" and not files.get("train", {}).get(name):
                problems.add(str(folder.relative_to(path)), f"class `{name}` has no picture in train")
            for other in sorted(file for file in folder.rglob("*") if file.is_file() and file not in used and not file.name.startswith(".")):
                problems.drop(str(other.relative_to(path)), f"not one of {', '.join(FORMATS)}")
    below = (file for folder in _subfolders(path).values() for file in _pictures(folder))
    for stray in sorted(file for file in {*path.glob("*"), *below} if is_picture(file) and file not in used):
        problems.drop(str(stray.relative_to(path)), "lies in no class folder")

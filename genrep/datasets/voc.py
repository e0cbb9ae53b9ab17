"""Pictures as Pascal VOC has them: `JPEGImages/`, `Annotations/*.xml`; `ImageSets/Main/SPLIT.txt` and `SegmentationClass/*.png` where there are any."""

from __future__ import annotations

import re
from pathlib import Path

from genrep.datasets.base import ArrayDataset
from genrep.datasets.images import FORMATS, existing_folder, inside, is_picture, of_split, read_names, with_val, without_background
from genrep.datasets.objects import Contents, Entry, Picture, read_objects
from genrep.datasets.problems import Problem, Problems
from genrep.datasets.voc_xml import Annotation, read_annotation
from genrep.registry import lookup
from genrep.types import UNLABELLED

PICTURES, ANNOTATIONS, MASKS, NAMES = "JPEGImages", "Annotations", "SegmentationClass", "classes.txt"
LISTS = {"train": ("train", "trainval"), "val": ("val",), "test": ("test",)}
"""Lists below ImageSets/Main by split, the first one that exists; trainval is what is left of it without val."""
VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog", "horse", "motorbike", "person",
    "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
"""The data set's own, in the order of the indices in its masks, which count from 1."""


def splits(path: Path) -> tuple[str, ...]:
    """The splits that can be read from the folder; none if it has no annotations of this kind."""
    if not (path / PICTURES).is_dir() or not any((path / ANNOTATIONS).glob("*.xml")):
        return ()
    return tuple(with_val(_lists(path)))


def pictures(path: Path) -> list[Path]:
    """Every picture of the folder."""
    return [file for file in sorted((path / PICTURES).iterdir()) if is_picture(file)]


def read_voc(
    path: Path, split: str, *, image_size: tuple[int, int], channels: int = 3, max_objects: int = 16, strict: bool = False
) -> tuple[ArrayDataset, list[Problem]]:
    """The pictures of a split with their objects, and what is wrong with the data.

    Classes are the lines of `classes.txt` but for a background in the first; without it VOC's own, where there are masks and no object is of another class,
    else the names of all objects in alphabetical order. Objects marked difficult are none, as crowds are; a listed picture without annotation is unlabelled.
    Objects: see `read_objects`.

    Args:
        path: folder of `JPEGImages/`, `Annotations/`, and where there are any `ImageSets/Main/`, `SegmentationClass/`, `classes.txt`.
        split: train, val or test; without lists all are train; without val a tenth of train, chosen by content.
        image_size: (height, width) in pixels, to which pictures are stretched, and boxes and masks with them.
        channels: 3 (colour) or 1 (grey).
        max_objects: slots; of pictures with more the largest objects are kept, at most 254.
        strict: raise at the first problem; otherwise what cannot be used is left out and reported.
    Raises:
        ValueError: missing folder or split, no readable picture; with `strict` the first problem.
    """
    problems = Problems(strict)
    contents = read_contents(path, split, problems)
    return read_objects(contents, image_size=image_size, channels=channels, max_objects=max_objects, problems=problems), problems.found


def read_contents(path: Path, split: str, problems: Problems) -> Contents:
    """What the annotations of `split` say.

    Raises:
        ValueError: missing folder or split.
    """
    lists = _lists(existing_folder(path))
    names = lookup(with_val(lists), split, f"split of {path}")
    class_names = _class_names(path)
    found = [picture for name in names if (picture := _picture(path, name, class_names, problems)) is not None]
    found = found if "val" in lists else of_split(found, split, lambda picture: picture.file)
    return Contents(root=path, split=split, class_names=class_names, pictures=found)


IN_CLASS = re.compile(r"\s+-?[01]$")
"""Behind a name in the lists of one class: whether the picture shows it."""


def _lists(path: Path) -> dict[str, list[str]]:
    """Names of pictures by split."""
    found: dict[str, list[str]] = {}
    for split, stems in LISTS.items():
        file = next((file for stem in stems if (file := path / "ImageSets" / "Main" / f"{stem}.txt").is_file()), None)
        if file is not None:
            lines = file.read_text(encoding="utf-8-sig", errors="replace").splitlines()
            found[split] = list(dict.fromkeys(IN_CLASS.sub("", line.strip()) for line in lines if line.strip()))
    if "val" in found and "train" in found:
        found["train"] = [name for name in found["train"] if name not in set(found["val"])]
    return found or {"train": sorted(file.stem for file in (path / ANNOTATIONS).glob("*.xml"))}


def _class_names(path: Path) -> tuple[str, ...]:
    """Of all splits, so that each counts the same; what is wrong with files is reported where they are read."""
    if given := read_names(path / NAMES):
        if not (names := without_background(given)):
            raise ValueError(f"{path / NAMES} names no class beside the background; expected one class name a line.")
        return names
    quiet = Problems(strict=False)
    annotations = [read_annotation(file, quiet) for file in sorted((path / ANNOTATIONS).glob("*.xml"))]
    found = {each.class_name for annotation in annotations if annotation for each in annotation.objects}
    return VOC_CLASSES if (path / MASKS).is_dir() and found <= set(VOC_CLASSES) else tuple(sorted(found))


def _picture(path: Path, name: str, class_names: tuple[str, ...], problems: Problems) -> Picture | None:
    """A listed picture with its annotation; None if it cannot be used, which is reported."""
    annotation = None
    try:
        file = inside(path / ANNOTATIONS, f"{name}.xml")
        annotation = read_annotation(file, problems) if file.is_file() else Annotation(file, None, (None, None), ())
        if annotation is None:
            return None
        located = _locate(path, name, annotation)
        picture = Picture(file=located, name=located.name, announced=annotation.announced, is_annotated=file.is_file())
        mask = inside(path / MASKS, f"{name}.png")
    except (ValueError, OSError) as error:
        problems.drop(f"{name[:80]}.xml", str(error), 1 + len(annotation.objects if annotation else ()))
        return None
    if not picture.is_annotated:
        problems.note(file.name, "is not there; the picture has no objects that are known")
    picture.semantic_mask = mask if mask.is_file() else None
    _attach(picture, annotation, class_names, problems)
    return picture


def _attach(picture: Picture, annotation: Annotation, class_names: tuple[str, ...], problems: Problems) -> None:
    """Give a picture its objects, and a sign of each that is lost."""
    for each in annotation.objects:
        if each.class_name not in class_names:
            problems.drop(each.where, f"unknown class {each.class_name[:40]}; known: {', '.join(class_names)}")
        picture.entries.append(each.entry(class_names.index(each.class_name) if each.class_name in class_names else UNLABELLED))
    if num := sum(entry.is_crowd and entry.label != UNLABELLED for entry in picture.entries):
        problems.note(picture.name, f"{num} difficult objects are set aside, as crowds are", num_dropped=num)
    picture.entries += [Entry(picture.name, UNLABELLED, None, None, False)] * annotation.num_lost


def _locate(path: Path, name: str, annotation: Annotation) -> Path:
    """The picture that the annotation names, or else the one that is called as it is."""
    said = [inside(path / PICTURES, annotation.picture)] if annotation.picture else []
    called = [inside(path / PICTURES, f"{name}{suffix}") for low in FORMATS for suffix in (low, low.upper())]
    found = next((file for file in (*said, *called) if is_picture(file)), None)
    if found is None:
        raise ValueError(f"its picture `{annotation.picture or name}` is not in {PICTURES}")
    return found

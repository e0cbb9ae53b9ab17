"""Pictures as Pascal VOC has them: `JPEGImages/`, `Annotations/*.xml`; `ImageSets/Main/SPLIT.txt` and `SegmentationClass/*.png` where there are any."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from genrep.datasets.base import ArrayDataset
from genrep.datasets.images import FORMATS, existing_folder, inside, is_picture, of_split, read_names, unread, with_val, without_background
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
    return tuple(with_val(_lists(path) or _annotated(path)))


def pictures(path: Path) -> list[Path]:
    """Every picture of the folder."""
    return [file for file in sorted((path / PICTURES).iterdir()) if is_picture(file) and not file.name.startswith(".")]


def read_voc(
    path: Path, split: str, *, image_size: tuple[int, int], channels: int = 3, max_objects: int = 16, strict: bool = False
) -> tuple[ArrayDataset, list[Problem]]:
    """The pictures of a split with their objects, and what is wrong with the data.

    Classes are the lines of `classes.txt` but for a background in the first; without it VOC's own, where there are masks and no object is of another class,
    else the names of all objects in alphabetical order. Objects marked difficult are none, as crowds are; a picture without annotation is unlabelled.
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
    every = lists or _annotated(path)
    names = lookup(with_val(every), split, f"split of {path}")
    names = names if split == "test" else _untested(names, set(every.get("test", ())), problems)
    class_names, owners = _class_names(path), _owners(path, every)
    found = [picture for name in names if (picture := _picture(path, name, class_names, owners, problems)) is not None]
    found += [] if lists else _loose(path, owners, problems)
    found = found if "val" in every else of_split(found, split, lambda picture: picture.file)
    return Contents(root=path, split=split, class_names=class_names, pictures=found)


IN_CLASS = re.compile(r"\s+-?[01]$")
"""Behind a name in the lists of one class: whether the picture shows it."""


def _lists(path: Path) -> dict[str, list[str]]:
    """Names of pictures by split; empty without lists."""
    found: dict[str, list[str]] = {}
    for split, stems in LISTS.items():
        file = next((file for stem in stems if (file := path / "ImageSets" / "Main" / f"{stem}.txt").is_file()), None)
        if file is not None:
            lines = [line.strip() for line in file.read_text(encoding="utf-8-sig", errors="replace").splitlines() if line.strip()]
            found[split] = list(dict.fromkeys(_name(path, line) for line in lines))
    if "val" in found and "train" in found:
        val = set(found["val"])
        found["train"] = [name for name in found["train"] if name not in val]
    return found


def _untested(names: list[str], tested: set[str], problems: Problems) -> list[str]:
    """Those that are not of test."""
    for name in (name for name in names if name in tested):
        problems.drop(f"{name[:80]}.xml", "is in the list of test, too")
    return [name for name in names if name not in tested]


def _name(path: Path, line: str) -> str:
    """What a line of a list names: the whole of it, where that is there."""
    cut = IN_CLASS.sub("", line)
    return line if cut != line and (os.path.isfile(path / ANNOTATIONS / f"{line}.xml") or _called(path, line)) else cut


def _annotated(path: Path) -> dict[str, list[str]]:
    """All that have annotations, as train."""
    return {"train": sorted(file.stem for file in (path / ANNOTATIONS).glob("*.xml"))}


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


def _owners(path: Path, every: Mapping[str, list[str]]) -> dict[Path, str | None]:
    """Whose picture each one is: of the name that it is called as, else of the annotation that names it; None where several do."""
    names = {name for some in (*_annotated(path).values(), *every.values()) for name in some}
    called = {name: file for name in sorted(names) if (file := _called(path, name))}
    owners: dict[Path, str | None] = {file: name for name, file in called.items()}
    for name in sorted(names - called.keys()):
        try:
            said = _said(path, read_annotation(inside(path / ANNOTATIONS, f"{name}.xml"), Problems(strict=False)))
        except (ValueError, OSError):  # which is reported where it is read
            continue
        if said is not None and owners.get(said) not in called:
            owners[said] = None if said in owners else name
    return owners


def _loose(path: Path, owners: Mapping[Path, str | None], problems: Problems) -> list[Picture]:
    """The pictures without annotation."""
    for file in unread(path / PICTURES):
        problems.drop(file.name, f"not one of {', '.join(FORMATS)}")
    files = [file for file in pictures(path) if file not in owners]
    if files:
        problems.note(files[0].name, f"has no annotation, nor have {len(files) - 1} others; what they show is not known")
    return [Picture(file=file, name=file.name, announced=(None, None), is_annotated=False) for file in files]


def _picture(path: Path, name: str, class_names: tuple[str, ...], owners: Mapping[Path, str | None], problems: Problems) -> Picture | None:
    """A listed picture with its annotation; None if it cannot be used, which is reported."""
    annotation = None
    try:
        file = inside(path / ANNOTATIONS, f"{name}.xml")
        annotation = read_annotation(file, problems) if file.is_file() else Annotation(file, None, (None, None), ())
        if annotation is None:
            return None
        located = _locate(path, name, annotation, owners, problems)
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


def _locate(path: Path, name: str, annotation: Annotation, owners: Mapping[Path, str | None], problems: Problems) -> Path:
    """The picture that is called as the annotation is, or else the one that it names, if no other annotation has it.

    Raises:
        ValueError: there is none, or it is another's.
    """
    called, said = _called(path, name), _said(path, annotation)
    found = called or said
    if found is None:
        raise ValueError(f"its picture `{annotation.picture or name}` is not in {PICTURES}")
    inside(path / PICTURES, str(found.relative_to(path / PICTURES)))
    if (owner := owners.get(found)) != name:
        raise ValueError(f"its picture `{found.name}` is that of {owner}.xml" if owner else f"its picture `{found.name}` is named by several annotations")
    if annotation.picture and Path(annotation.picture).stem != found.stem:
        problems.note(f"{name}.xml", f"names `{annotation.picture[:60]}` as its picture; `{found.name}` is, which is called as it")
    return found


def _called(path: Path, name: str) -> Path | None:
    """The picture that is called as an annotation is."""
    names = [f"{name}{suffix}" for low in FORMATS for suffix in (low, low.upper())]
    return next((path / PICTURES / each for each in names if os.path.isfile(path / PICTURES / each)), None)


def _said(path: Path, annotation: Annotation | None) -> Path | None:
    """The picture that an annotation names.

    Raises:
        ValueError: it would lie outside the folder.
    """
    file = inside(path / PICTURES, annotation.picture) if annotation and annotation.picture else None
    return file if file and is_picture(file) else None

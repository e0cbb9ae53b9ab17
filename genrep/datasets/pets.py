"""Pictures as the Oxford-IIIT Pet set has them: `images/*.jpg`, `annotations/trimaps/*.png`, and lists with the class of each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from genrep.datasets.base import MOST_CLASSES, ArrayDataset
from genrep.datasets.images import FORMATS, existing_folder, inside, is_picture, of_split_by_class, with_val
from genrep.datasets.index_masks import Masked, read_masked
from genrep.datasets.problems import Problem, Problems
from genrep.registry import lookup
from genrep.types import IGNORE

PICTURES, TRIMAPS = "images", "annotations/trimaps"
ALL = "list.txt"
LISTS = {"train": ("trainval.txt", ALL), "test": ("test.txt",)}
"""Below annotations/, the first one that exists."""
PET, BACKGROUND, BORDER = 1, 2, 3


@dataclass(frozen=True)
class _Line:
    where: str
    name: str
    class_id: int

    @property
    def class_name(self) -> str:
        return self.name.rpartition("_")[0] or self.name


def splits(path: Path) -> tuple[str, ...]:
    """The splits that can be read from the folder; none if it has no such lists."""
    lists = _lists(path)
    if "train" not in lists or not (path / PICTURES).is_dir() or not (path / TRIMAPS).is_dir():
        return ()
    return tuple(with_val(lists))


def pictures(path: Path) -> list[Path]:
    """Every picture of the folder."""
    return [file for file in sorted((path / PICTURES).iterdir()) if is_picture(file)]


def read_pets(
    path: Path, split: str, *, image_size: tuple[int, int], channels: int = 3, max_objects: int = 4, strict: bool = False
) -> tuple[ArrayDataset, list[Problem]]:
    """The pictures of a split with their breed and its mask, and what is wrong with the folder.

    Val is a tenth of each breed of `trainval.txt`, chosen by content; `list.txt` is train but for what is of test. Where a trimap says border the mask is
    unlabelled; so is a picture without trimap.

    Args:
        path: folder of `images/` and `annotations/` with `trimaps/`, `trainval.txt` (or else `list.txt`), `test.txt`: lines `BREED_7 CLASS SPECIES ID`.
        split: train, val or test.
        image_size: (height, width) in pixels, to which pictures and masks are stretched.
        channels: 3 (colour) or 1 (grey).
        max_objects: empty object slots, so that batches of other sets can be joined.
        strict: raise at the first problem; otherwise what cannot be used is left out and reported.
    Raises:
        ValueError: the folder is missing, or has no pictures, or not this split; with `strict` the first problem.
    """
    problems, lists = Problems(strict), _lists(existing_folder(path))
    lines = {which: _lines(file, problems if which == split or {which, split} == {"train", "val"} else Problems(strict=False)) for which, file in lists.items()}
    lines = _apart(lines, problems if split != "test" else Problems(strict=False))
    names = _class_names([line for some in lines.values() for line in some])
    if len(names) > MOST_CLASSES:
        raise ValueError(f"{path} has {len(names)} classes in its lists; at most {MOST_CLASSES} can be told apart in a mask.")
    by_class: dict[int, list[Masked]] = {label: [] for label in range(len(names))}
    order = {class_id: label for label, class_id in enumerate(sorted(names))}
    for line in lookup(with_val(lines), split, f"split of {path}"):
        if (found := _masked(path, line, order[line.class_id], problems)) is not None:
            by_class[order[line.class_id]].append(found)
    chosen = [masked for some in of_split_by_class(list(by_class.values()), split, lambda masked: masked.file) for masked in some]
    class_names = tuple(names[class_id] for class_id in sorted(names))
    data = read_masked(path, class_names, chosen, image_size=image_size, channels=channels, max_objects=max_objects, problems=problems)
    if data is None:
        raise ValueError(f"{path} has no readable picture in split `{split}`; expected those that its lists name in {PICTURES}.")
    return data, problems.found


def _lists(path: Path) -> dict[str, Path]:
    files = {split: [path / "annotations" / name for name in names if (path / "annotations" / name).is_file()] for split, names in LISTS.items()}
    return {split: some[0] for split, some in files.items() if some}


def _lines(file: Path, problems: Problems) -> list[_Line]:
    found: dict[str, _Line] = {}
    for number, text in enumerate(file.read_text(encoding="utf-8-sig", errors="replace").splitlines(), 1):
        words, where = text.split(), f"{file.name} line {number}"
        if not words or text.startswith("#"):
            continue
        if len(words) < 2 or not (words[1].isascii() and words[1].isdigit() and len(words[1]) < 5):
            problems.drop(where, f"expected `BREED_7 CLASS SPECIES ID`, numbers from the second on; found `{text[:60]}`")
        elif words[0] in found:
            problems.drop(where, f"`{words[0][:60]}` is there twice")
        else:
            found[words[0]] = _Line(where, words[0], int(words[1]))
    return list(found.values())


def _apart(lines: dict[str, list[_Line]], problems: Problems) -> dict[str, list[_Line]]:
    """What is of test is not of train: `list.txt` has both, and of other lists it is said."""
    tested = {line.name for line in lines.get("test", [])}
    for line in lines.get("train", []):
        if line.name in tested and not line.where.startswith(ALL):
            problems.drop(line.where, f"`{line.name[:60]}` is of test, too")
    return {which: [line for line in some if which == "test" or line.name not in tested] for which, some in lines.items()}


def _class_names(lines: list[_Line]) -> dict[int, str]:
    """Names by id: that of the most pictures, with the id where another has it, too."""
    votes: dict[int, dict[str, int]] = {}
    for line in lines:
        of_class = votes.setdefault(line.class_id, {})
        of_class[line.class_name] = of_class.get(line.class_name, 0) + 1
    names = {class_id: max(sorted(of_class), key=of_class.__getitem__) for class_id, of_class in votes.items()}
    return {class_id: name if list(names.values()).count(name) == 1 else f"{name} {class_id}" for class_id, name in names.items()}


def _masked(path: Path, line: _Line, label: int, problems: Problems) -> Masked | None:
    try:
        file = next((file for suffix in FORMATS if is_picture(file := inside(path / PICTURES, f"{line.name}{suffix}"))), None)
        trimap = inside(path / TRIMAPS, f"{line.name}.png")
        if file is None:
            raise ValueError(f"`{line.name}` is not in {PICTURES}")
    except (ValueError, OSError) as error:
        problems.drop(line.where, str(error))
        return None
    if not trimap.is_file():
        problems.note(line.where, f"`{line.name}` has no trimap; its mask is unlabelled")
    return Masked(file, trimap if trimap.is_file() else None, {PET: label + 1, BACKGROUND: 0, BORDER: IGNORE}, label)

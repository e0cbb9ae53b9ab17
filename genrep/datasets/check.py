"""What a folder of a user's data holds, and what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from genrep.datasets.base import ArrayDataset
from genrep.datasets.folders import LAYOUTS, recognise
from genrep.datasets.problems import Problem, Problems, merged
from genrep.types import UNLABELLED

_GLANCE_PX = (32, 32)


@dataclass(frozen=True)
class DataReport:
    """The findings of `check_data`."""

    path: Path
    layout: str
    num_images: dict[str, int]
    """By split."""
    num_per_class: dict[str, dict[str, int]]
    """By split and class: objects, or where none are known pictures of the class: by their label, or by their mask as a glance shows it."""
    num_objects: int
    problems: list[Problem]

    @property
    def tally(self) -> str:
        """What became of all that was found."""
        dropped, fixed = (sum(getattr(problem, name) for problem in self.problems) for name in ("num_dropped", "num_fixed"))
        return f"kept {sum(self.num_images.values()):,} pictures and {self.num_objects:,} objects, fixed {fixed:,}, dropped {dropped:,}"


def check_data(path: Path) -> DataReport:
    """Read every picture and annotation of a folder and list what is wrong, by file and annotation id.

    Raises:
        ValueError: there is nothing to check: no such folder, or no pictures in it.
    """
    layout = recognise(path)
    splits, read = LAYOUTS[layout].splits, LAYOUTS[layout].read
    problems, by_split = Problems(strict=False), []
    sets: dict[str, ArrayDataset] = {}
    for split in splits(path):
        try:
            sets[split], found = read(path, split, image_size=_GLANCE_PX, max_objects=254)
            by_split.append(found)
        except ValueError as error:
            problems.add(split, str(error))
            by_split.append(_of_annotations(path, layout, split))
    _compare_classes(sets, problems)
    counts = {split: _counts(data) for split, data in sets.items()}
    num_objects = sum(int((data.object_labels != UNLABELLED).sum()) for data in sets.values())
    found = [*merged(*by_split), *problems.found]
    return DataReport(path, layout, {split: len(data) for split, data in sets.items()}, counts, num_objects, found)


def _of_annotations(path: Path, layout: str, split: str) -> list[Problem]:
    """What is wrong with the annotations of a split that cannot be read, as far as they can be: it may say why."""
    quiet, contents = Problems(strict=False), LAYOUTS[layout].contents
    try:
        if contents:
            contents(path, split, quiet)
    except ValueError:
        pass
    return quiet.found


def _compare_classes(sets: dict[str, ArrayDataset], problems: Problems) -> None:
    """All splits must count the same classes."""
    names = {split: data.class_names for split, data in sets.items()}
    for split, known in names.items():
        if known != next(iter(names.values())):
            problems.add(split, f"has classes {', '.join(known)}; {next(iter(names))} has {', '.join(next(iter(names.values())))}")


def _counts(data: ArrayDataset) -> dict[str, int]:
    counts = data.class_counts.long().sum(0)
    if data.class_names and not bool(counts.any()):
        counts = torch.stack([(data.semantic_mask == 1 + label).flatten(1).any(1).sum() for label in range(len(data.class_names))])
    return dict(zip(data.class_names, counts.tolist(), strict=True))

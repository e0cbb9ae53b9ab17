"""The data of a run: every set that its configuration names, embedded or a folder of the user's, by split. The one place that loads."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

import torch

from genrep.codecs import CODECS
from genrep.config import Config
from genrep.datasets import DATASETS, ArrayDataset, Problem, labelled_rows, load_dataset, read_folder, splits_of
from genrep.datasets.folders import own_classes_of
from genrep.datasets.images import NothingToHoldOut
from genrep.datasets.problems import merged
from genrep.randomness import permutation
from genrep.registry import lookup, nearest
from genrep.types import IGNORE, UNLABELLED, Batch

MOST_OBJECTS = IGNORE - 1
"""Objects of a picture that a mask can tell apart."""

NUM_PROBLEMS_SHOWN = 3
SAME_CLASSES = "They must be the same, by name."
EXPECTED_CLASSES = "pictures without any labels train beside a set that has some; put them into class folders, or name such a set, too."


class RunData:
    """The sets of a configuration; a folder's pictures are read once and kept.

    A set is called by its name, a folder by its last part. A folder is shuffled by a fixed seed, so that its first samples are
    of all classes; where it has no test split, val stands in.

    Args:
        allow_network: whether missing embedded data may be fetched.
        some_classes: whether a set may lack some of the model's classes, as one to be looked at may, and one to be learnt from may not.
    Raises:
        ValueError: no set, two different ones of one name, or a set that is neither embedded nor a folder.
    """

    def __init__(self, config: Config, *, allow_network: bool = False, some_classes: bool = False) -> None:
        self.config, self._allow_network, self._some_classes = config, allow_network, some_classes
        self._folders = folders_of(config.data.sets)
        self._read: dict[tuple[str, str], ArrayDataset] = {}
        self.problems: dict[str, list[Problem]] = {}
        """What is wrong with each folder, as far as it has been read."""

    @property
    def names(self) -> tuple[str, ...]:
        """The sets, in order."""
        return tuple(self._folders)

    @property
    def shares(self) -> tuple[int, ...]:
        """How often each set is named in the configuration."""
        named = [name for each in self.config.data.sets for name in folders_of((each,))]
        return tuple(named.count(name) for name in self.names)

    def is_folder(self, name: str) -> bool:
        """Whether a set is the user's own."""
        return self._folders[name] is not None

    def split(self, name: str, split: str, num: int | None = None) -> ArrayDataset:
        """A split of a set, or its first `num` samples, or all of one that has fewer.

        Raises:
            ValueError: it cannot be read, or its classes or image size are not the model's.
        """
        folder = self._folders[name]
        if folder is not None:
            data = self._own(name, folder, self.stand_in(name, split))
            data = data if num is None else data.first(min(num, len(data)))
        else:
            root = Path(self.config.data.root) if self.config.data.root else None
            data = load_dataset(name, split, num=num, root=root, allow_network=self._allow_network, verify=root is None)
        classes = self.config.model.class_names
        data = data.among(classes) if self._some_classes else data.in_order(classes)
        self._check(data, split)
        return data if data.class_names else replace(data, class_names=self.config.model.class_names)

    def to_be_seen(self, name: str, *, known: bool) -> dict[str, ArrayDataset]:
        """What of a set a finished model is to be measured by, by split: test; of a folder that has none val, and train too where it is not known.

        Args:
            known: the model was trained on it.
        Raises:
            ValueError: as of `split`.
        """
        if (split := self.stand_in(name, "test")) == "test" or known:
            return {split: self.split(name, split)}
        train = {"train": self.split(name, "train")}
        with contextlib.suppress(NothingToHoldOut):  # then all of it is in train
            return {**train, "val": self.split(name, "val")}
        return train

    def stand_in(self, name: str, split: str) -> str:
        """The split that is read for `split`: val for test where a folder has no test."""
        folder = self._folders[name]
        return "val" if folder is not None and split == "test" and "test" not in splits_of(folder) else split

    def visible(self, name: str) -> ArrayDataset:
        """A training set as training may see it: labels beyond `labelled_fraction` are removed."""
        share, data = self.config.data.labelled_fraction, self.split(name, "train", self.config.data.num_train)
        return data if share == 1 else data.with_labels_for(labelled_rows(len(data), round(share * len(data)), seed=0))

    def training(self) -> list[ArrayDataset]:
        """All training sets as training may see them."""
        return self._alike([self.visible(name) for name in self.names])

    def validation(self) -> list[ArrayDataset]:
        """The val split of all sets."""
        return self._alike([self.split(name, "val") for name in self.names])

    def first_validation(self, num: int) -> Batch:
        """The first `num` samples of the val split of every set."""
        return Batch.cat([data.batch(torch.arange(min(len(data), num))) for data in self.validation()])

    def lines(self, sets: list[ArrayDataset]) -> list[str]:
        """What to know of the training sets: their size and classes, and what is wrong with the folders among them.

        Raises:
            ValueError: a folder has no val split that could be read, or its test split has other classes.
        """
        return [line for data in sets for line in self._lines(data)]

    def _lines(self, train: ArrayDataset) -> list[str]:
        name = train.name
        if not self.is_folder(name):
            return [f"{len(train):,} training images of {name}"]
        height, width = train.image_size
        grey = ", read as grey (`--model.codec pixels` keeps colours)" if train.pixels.shape[1] == 1 else ""
        classes = ", ".join(train.class_names)
        lines = [f"{len(train):,} training and {len(self.split(name, 'val')):,} val images of {name}, {height} x {width} px{grey}; classes: {classes}"]
        if self.stand_in(name, "test") != "test":
            lines.append(f"{name} has no test split: evaluation will use val, on which guidance, calibration and gates are chosen")
        elif (folder := self._folders[name]) is not None and (own := own_classes_of(folder, "test")):
            _check_classes(name, own, "test", train.class_names, SAME_CLASSES)
        problems = self.problems[name]
        lines += [f"{name}: {problem}" for problem in problems[:NUM_PROBLEMS_SHOWN]]
        rest = len(problems) - NUM_PROBLEMS_SHOWN
        return lines + ([f"{name}: {rest} more of the kind; log.txt and `genrep data check {self._folders[name]}` list them all"] if rest > 0 else [])

    def _own(self, name: str, folder: Path, split: str) -> ArrayDataset:
        """A folder's split at the model's size and in its colours, without unused slots."""
        if (name, split) not in self._read:
            model = self.config.model
            channels = lookup(CODECS, model.codec, "codec").image_channels
            strict = self.config.data.strict
            data, problems = read_folder(folder, split, image_size=model.image_size, channels=channels, max_objects=MOST_OBJECTS, strict=strict)
            self.problems[name] = merged(self.problems.get(name, []), problems)
            used = int(data.occupied.sum(1).max())
            self._read[name, split] = replace(data.with_slots(max(1, used)).rows(permutation(len(data), 0, 0)), name=name)
        return self._read[name, split]

    def _alike(self, sets: list[ArrayDataset]) -> list[ArrayDataset]:
        """The sets with one number of object slots, and those that know no classes with the others', so that their batches can be put together."""
        most = max(data.object_labels.shape[1] for data in sets)
        classes = self.config.model.class_names or next((data.class_names for data in sets if data.class_names), ())
        if not classes:
            raise ValueError(f"{', '.join(data.name for data in sets)} has no classes: {EXPECTED_CLASSES}")
        return [replace(data, class_names=data.class_names or classes).in_order(classes).with_slots(most) for data in sets]

    def _check(self, data: ArrayDataset, split: str) -> None:
        model = self.config.model
        if data.image_size != model.image_size:
            size, wanted = (",".join(map(str, of)) for of in (data.image_size, model.image_size))
            raise ValueError(f"`{data.name}` has images of {size} (height, width) px; `model.image_size` is {wanted}. Set it to {size}.")
        if model.class_names and data.class_names:
            demand = "All must be among the model's, by name." if self._some_classes else SAME_CLASSES
            _check_classes(data.name, data.class_names, split, model.class_names, demand)


def _check_classes(name: str, found: tuple[str, ...], split: str, wanted: tuple[str, ...], demand: str) -> None:
    if sorted(found) != sorted(wanted):
        raise ValueError(f"`{name}` has the classes {', '.join(found)} in {split}; the model has {', '.join(wanted)}. {demand}")


def folders_of(sets: tuple[str, ...]) -> dict[str, Path | None]:
    """The sets of a configuration by name: the folder of a user's own, None for an embedded one.

    Raises:
        ValueError: no set, two different ones of one name, or a set that is neither embedded nor a folder.
    """
    found: dict[str, Path | None] = {}
    for name in sets:
        if not name.strip():
            raise ValueError(f"`data.sets` has an empty entry in {','.join(sets)}; name a data set or folder there, or leave the comma out.")
        folder = None if name in DATASETS else Path(name).expanduser().resolve()
        if folder is not None and not folder.is_dir():
            known = ", ".join(sorted(DATASETS))
            raise ValueError(f"unknown data set `{name}`: it is not a folder, nor one of {known}.{nearest(name, DATASETS)}")
        key = folder.name if folder is not None else name
        if key in found and found[key] != folder:
            raise ValueError(f"two data sets are called `{key}`; rename one of the folders.")
        found[key] = folder
    if not found:
        raise ValueError("`data.sets` is empty; name at least one data set or folder.")
    return found


def filled(config: Config, sets: list[ArrayDataset]) -> Config:
    """The configuration with what only the data know: class names, tasks that some set has annotations for, whole paths.

    Raises:
        ValueError: none of the tasks has any, or there is a labeller and nothing to label.
    """
    whole = tuple(str(folder or name) for each in config.data.sets for name, folder in folders_of((each,)).items())
    tasks = tuple(task for task in config.model.tasks if any(_is_annotated(data, task) for data in sets))
    if config.model.tasks and not tasks:
        raise ValueError(f"none of the training images is annotated for {', '.join(config.model.tasks)}; there is nothing to learn. Label some of them.")
    if "depth" in tasks and config.model.depth == "metric" and (order := [data.name for data in sets if data.layered and bool(data.has_depth.any())]):
        raise ValueError(
            f"{', '.join(order)}: known is what lies before what, not how far away it is; leave `model.depth` relative, or `depth` out of `model.tasks`."
        )
    if config.objective.labeller and all(bool(data.annotated.all()) for data in sets):
        raise ValueError("`objective.labeller` has nothing to say: all training images are annotated. Leave it out, or lower `data.labelled_fraction`.")
    return replace(
        config,
        data=replace(config.data, sets=whole),
        model=replace(config.model, class_names=config.model.class_names or sets[0].class_names, tasks=tasks),
    )


def left_out(given: Config, config: Config) -> list[str]:
    """A line for each task that was asked for and has no annotations."""
    return [f"{task} is left out: no set has annotations for it" for task in given.model.tasks if task not in config.model.tasks]


def _is_annotated(data: ArrayDataset, task: str) -> bool:
    """Whether any image says something about a task; of tasks we do not know it is assumed."""
    known = {
        "classification": lambda: data.label != UNLABELLED,
        "multilabel": lambda: data.classified | (data.semantic_mask != IGNORE).flatten(1).all(1),
        "detection": lambda: data.has_objects,
        "segmentation": lambda: data.semantic_mask != IGNORE,
        "depth": lambda: data.has_depth,
    }
    return task not in known or bool(known[task]().any())

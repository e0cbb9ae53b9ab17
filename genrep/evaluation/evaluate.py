"""Everything that is measured of a finished run, on test images: eval.json, eval_details.json and samples/."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genrep.config import Config
from genrep.datasets import ArrayDataset, cache_folder
from genrep.devices import default_device
from genrep.evaluation.baselines import fit_logistic_regression
from genrep.evaluation.generation import Samples, Studio, measure_generation, measure_likelihood, measure_scenes, sampling, unlike_samples
from genrep.evaluation.judge import holds_several, load_judge
from genrep.evaluation.kept import DETAILS
from genrep.evaluation.perception import MEASURES, Figures, Measured, Seen, Tables, see
from genrep.evaluation.pictures import NUM_FILMS, draw_film, draw_neighbours, draw_samples, draw_scenes
from genrep.evaluation.robustness import measure_robustness
from genrep.evaluation.sides import measure_sides
from genrep.evaluation.unjudged import draw_unjudged
from genrep.metrics.base import wilson
from genrep.metrics.generation import NUM_NEIGHBOURS
from genrep.model import GenRep
from genrep.model_config import ModelConfig
from genrep.overrides import from_dict
from genrep.processes import in_turn, is_first
from genrep.registry import lookup
from genrep.storage import read_json, write_json
from genrep.training import RunFolder, Screen, agreed_bf16, computes_in_bf16
from genrep.training.data import RunData
from genrep.training.records import Silent
from genrep.types import IGNORE, UNLABELLED, Batch

Homes = dict[str, str | None]
"""The set that the unprefixed figures of each task come from."""

MIN_JUDGE_IMAGES = 200
"""Labelled training images of a folder of the user's, below which nothing could judge samples."""


@dataclass
class Evaluation:
    """A run being measured: what is known of it, and what has been found so far."""

    config: Config
    model: GenRep
    samples: Path
    data: RunData
    screen: Screen
    figures: Figures = field(default_factory=dict)
    tables: Tables = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    @cached_property
    def bf16(self) -> bool:
        """Samples are made as the run was trained, as far as the devices of all processes, who ask together, compute in it."""
        return bool(self.config.train.bf16) and agreed_bf16(computes_in_bf16(self.model.device), self.model.device)

    def test(self, name: str) -> ArrayDataset:
        """The test images of one of the run's sets."""
        return self.data.split(name, "test", self.config.eval.num_test)

    def add(self, prefix: str, found: Measured) -> None:
        """Keep what was measured under a name such as `detection`."""
        self.figures |= {f"{prefix}/{name}": value for name, value in found.figures.items()}
        self.notes += found.notes
        if found.tables:
            self.tables[prefix] = found.tables

    @property
    def of_val(self) -> list[str]:
        """Sets without a test split."""
        return [name for name in self.data.names if self.data.stand_in(name, "test") != "test"]

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Say what is being done, and keep how long it took."""
        self.screen.on_event({"event": "evaluation", "part": name})
        start = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - start, 2)


def finished_run(run: Path | str, *, weights: str = "last") -> tuple[RunFolder, Config, GenRep]:
    """A run's folder, what it was configured to be, and its model, where it computes.

    Args:
        weights: `last`, or `best`, those that saw validation images best.
    Raises:
        ValueError: it has no finished model, or kept no best one.
    """
    folder = RunFolder(Path(run))
    if (folder.path / "model.safetensors").is_file():
        raise ValueError(f"{folder.path} is a model folder; what is measured is a run, the folder with config.json and model/ that it was trained in.")
    if not (folder.config.is_file() and folder.model.is_dir()):
        raise ValueError(f"{folder.path} is not a finished run: it needs config.json and model/. Train it to the end first.")
    model = lookup({"last": folder.model, "best": folder.model_best}, weights, "weights")
    if not model.is_dir():
        raise ValueError(f"{folder.path} kept no best model; train with `--train.best_by mean` (or a task's name), or leave `--weights` out.")
    return folder, from_dict(read_json(folder.config), Config), GenRep.from_pretrained(model).to(default_device())


def evaluate(run: Path | str, *, allow_network: bool = False, progress: Screen | None = None) -> dict[str, float]:
    """Measure a finished run on test images.

    Under `torchrun` all processes see and sample their parts; the first of them draws and writes.

    Single-label figures, samples included, come from the first set whose images have one label each; detection from the
    last set with objects, segmentation from the last with masks, depth from the last that has some. Other sets appear under their name,
    `fashion/detection/ap50`.

    Returns:
        what eval.json holds: figures by name, with `_low` and `_high` ends of 95 % intervals.
    Raises:
        ValueError: the run has no finished model, or the data cannot be had.
    """
    folder, config, model = finished_run(run)
    if is_first():
        shutil.rmtree(folder.samples, ignore_errors=True)
        folder.samples.mkdir()
    work = Evaluation(config, model, folder.samples, RunData(config, allow_network=allow_network), progress or Silent())
    _measure(work)
    if not is_first():
        return work.figures
    details = {
        **work.tables,
        "of_val": work.of_val,
        "class_names": list(model.class_names),
        "gates": folder.gates(),
        "notes": work.notes,
        "seconds": work.seconds,
    }
    write_json(folder.path / DETAILS, details)
    write_json(folder.evaluation, work.figures)
    return work.figures


def _measure(work: Evaluation) -> None:
    work.notes.extend(f"{name} has no test split: its figures are of val, on which guidance, calibration and gates were chosen too." for name in work.of_val)
    with work.part("perception"):
        test = in_turn(lambda: [work.test(name) for name in work.data.names])
        seen = [see(work.model, some, batch_size=work.config.eval.batch_size) for some in test]
    homes, jobs = homes_of(seen), work.config.objective.jobs
    if "perception" in jobs:
        _measure_perception(work, seen, homes)
        if num := work.config.eval.num_robust:
            with work.part("noise and corruptions"):
                work.add("robustness", measure_robustness(work.model, [one.first(num) for one in seen]))
    else:
        work.notes.append("perception: not measured, the run trained none.")
    single = next((one.name for one in seen if bool(one.truth.single.all())), None)
    if "generation" not in jobs:
        work.notes.append("samples: not measured, the run trained no generation.")
        return
    if (num := work.config.eval.num_likelihood) and work.model.codec.stride == 1:
        with work.part("likelihood"):
            for one in seen:
                at_home = one.name == (single or seen[-1].name)
                work.add("likelihood" if at_home else f"{one.name}/likelihood", measure_likelihood(work.model, one.first(num)))
    if len(work.model.class_names) < 2:
        work.notes.append("samples: not measured, a judge that knows one class alone recognises everything.")
    elif single is None:
        work.notes.append("samples: not measured, no set has one object per image.")
    elif not work.config.eval.num_samples:
        work.notes.append("samples: not measured, `eval.num_samples` is 0.")
    else:
        _measure_samples(work, single)
    _draw_unjudged(work, seen)
    scenes = homes["detection"] or _last(seen, lambda truth: truth.has_classes)
    if scenes and len(work.model.class_names) > 1 and work.config.eval.num_scene_samples:
        _measure_scenes(work, scenes)


def _measure_perception(work: Evaluation, seen: list[Seen], homes: Homes) -> None:
    """Every task on every set, the linear baseline, pictures of scenes; that a head is missing is worth a note where it is usual."""
    usual = ModelConfig().tasks
    with work.part("figures of perception"):
        for one in seen:
            for task in (task for task in MEASURES if task in usual or task in work.model.heads):
                found = MEASURES[task](one, work.model.class_names)
                at_home = homes[task] == one.name
                work.add(task if at_home else f"{one.name}/{task}", found if at_home or found.figures else Measured())
    if (single := homes["classification"]) and "classification/top1" in work.figures:
        _measure_baseline(work, single)
    home = next((one for one in seen if one.name == single), None)
    if home and work.config.eval.num_posterior:
        with work.part("both sides of the model"):
            work.add("posterior", measure_sides(work.model, home, work.config.eval.num_posterior))
    objects = next((one for one in seen if one.name == homes["detection"]), None)
    if is_first() and objects is not None and (objects.perception.detections is not None or objects.perception.semantic_mask is not None):
        with work.part("pictures of scenes"):
            work.tables["scenes"] = draw_scenes(objects, work.model.class_names, work.samples)


def homes_of(seen: list[Seen]) -> Homes:
    """Which set the unprefixed figures of each task come from."""
    single = next((one.name for one in seen if bool((one.truth.label != UNLABELLED).all())), None)
    objects, sets = _last(seen, lambda truth: truth.has_objects), _last(seen, lambda truth: truth.has_classes)
    masked, deep = _last(seen, lambda truth: truth.semantic_mask != IGNORE) or objects, _last(seen, lambda truth: truth.inv_depth.isfinite())
    return {"classification": single, "multilabel": masked or sets, "detection": objects, "segmentation": masked, "depth": deep}


def _last(seen: list[Seen], known: Callable[[Batch], Tensor]) -> str | None:
    """The last set of which something is known."""
    return next((one.name for one in reversed(seen) if bool(known(one.truth).any())), None)


def _measure_baseline(work: Evaluation, name: str) -> None:
    """What a linear classifier makes of the same labels."""
    with work.part("logistic regression"):
        test = work.test(name)
        linear = fit_logistic_regression(work.data.visible(name), work.data.split(name, "val"))
        right = int((linear(test.pixels) == test.label).sum())
        work.figures |= wilson(right, len(test)).named("classification/logistic_regression_top1")


def _measure_samples(work: Evaluation, name: str) -> None:
    """Samples against the real images of a set, as its judge sees them."""
    train = work.data.split(name, "train")
    if work.data.is_folder(name):
        train = train.rows(train.label != UNLABELLED)
        if len(train) < MIN_JUDGE_IMAGES:
            work.notes.append(f"samples: not measured, a judge of them needs {MIN_JUDGE_IMAGES} labelled training images; {name} has {len(train)}.")
            return
    val, test = work.data.split(name, "val"), work.test(name)
    if min(len(val), len(test)) <= NUM_NEIGHBOURS:
        work.notes.append(f"samples: not measured, that needs more than {NUM_NEIGHBOURS} images of val and of test; {name} has {len(val)} and {len(test)}.")
        return
    with work.part("judge"):
        judge = in_turn(lambda: load_judge(train, cache=cache_folder()))
    studio = Studio(work.model, judge, work.config.eval, bf16=work.bf16)
    work.notes.extend(unlike_samples(test))
    with work.part("samples"):
        found, made = measure_generation(studio, val, test)
        work.add("generation", _without_floors(found) if name in work.of_val else found)
    if not is_first():
        return
    with work.part("pictures of samples"):
        work.tables["pictures"] = _draw(work, studio, made, work.data.visible(name))


def _draw_unjudged(work: Evaluation, seen: list[Seen]) -> None:
    """Samples that nothing judged are to be looked at all the same."""
    if is_first() and "pictures" not in work.tables:
        with work.part("pictures of samples"):
            settings = work.config.eval
            work.tables["pictures"] = draw_unjudged(work.model, seen, work.samples, guidance=settings.guidance, options=sampling(settings))


def _measure_scenes(work: Evaluation, name: str) -> None:
    """Samples with the objects of the images of a set, where these hold several."""
    train = work.data.split(name, "train")
    if not holds_several(train):
        work.notes.append(f"samples of class sets: not measured, {name} has images of one object.")
        return
    train = train.rows(train.classified)
    if len(train) < MIN_JUDGE_IMAGES and work.data.is_folder(name):
        work.notes.append(
            f"samples of class sets: not measured, a judge of them needs {MIN_JUDGE_IMAGES} training images whose classes are known; {name} has {len(train)}."
        )
        return
    with work.part("judge of class sets"):
        judge = in_turn(lambda: load_judge(train, cache=cache_folder()))
        studio = Studio(work.model, judge, work.config.eval, bf16=work.bf16)
    with work.part("samples of class sets"):
        guidance = work.figures.get("generation/guidance", work.config.eval.guidance or 1.0)
        test = work.test(name)
        found = measure_scenes(studio, work.data.split(name, "val"), test.rows(test.classified), guidance=guidance)
        # of val standing in for test the KID would be of images from themselves; what the judge finds in real scenes stays true
        figures = {key: value for key, value in found.figures.items() if name not in work.of_val or not key.startswith("scenes_kid_real")}
        work.figures |= {f"generation/{key}": value for key, value in figures.items()}
        work.tables["generated_scenes"] = found.tables


def _without_floors(found: Measured) -> Measured:
    """Without the figures that compare real val with real test images, where these are the same."""
    return replace(found, figures={name: value for name, value in found.figures.items() if "_real" not in name})


def _draw(work: Evaluation, studio: Studio, made: Samples, train: ArrayDataset) -> dict[str, Any]:
    features, _ = studio.features(train, len(train))
    num = len(studio.model.class_names)
    first = torch.eye(num)[torch.linspace(0, num - 1, min(NUM_FILMS, num)).long()]
    return {
        "samples": draw_samples(made, studio.model.class_names, work.samples),
        "film": draw_film(studio.model, first, work.samples, guidance=work.figures["generation/guidance"], options=studio.options),
        "neighbours": draw_neighbours(made, train, features, work.samples),
        "num_train": len(train),
    }

"""A joint model's perception beside networks for one task each, trained from scratch on the same images, of which they see as many."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from genrep.augmentation import Augmentation
from genrep.config import Config
from genrep.datasets import ArrayDataset
from genrep.evaluation.evaluate import finished_run, homes_of
from genrep.evaluation.figures import Figure, plain
from genrep.evaluation.perception import MEASURES, Seen, see
from genrep.evaluation.specialists import SPECIALISTS, Specialist
from genrep.evaluation.timing import Progress, silent
from genrep.metrics.base import Estimate, bootstrap
from genrep.metrics.segmentation import pixel_confusion, segmentation
from genrep.randomness import SampleGenerator
from genrep.training.data import RunData
from genrep.training.optimization import lr_at
from genrep.training.stream import Stream
from genrep.types import IGNORE, UNLABELLED, Perception

FEW_LABELS, ALLOWED = 0.1, 0.01
"""With at most this share of the labels a joint model should be ahead; with more, behind by no more than this."""
FIGURES = {"classification": "top1", "detection": "ap", "segmentation": "miou_foreground"}
"""What is compared, by task."""
RATES = (3e-4, 1e-3)
"""Learning rates of which each specialist has the better one, by val."""
BATCH, WEIGHT_DECAY, QUICK_IMAGES, MOST_VAL = 32, 0.05, 64, 500


@dataclass(frozen=True)
class Lesson:
    """What a specialist is trained on, and how long."""

    sets: list[ArrayDataset]
    num_images: int
    augment: Augmentation
    seed: int


def specialist_figures(run: Path, *, quick: bool = False, progress: Progress = silent) -> list[Figure]:
    """For each task of a finished run: its figure on test images, that of every specialist, and the difference beside its target.

    Args:
        run: a finished run; what it was trained on must still be there.
        quick: specialists of a few images, by which nothing is judged.
    Raises:
        ValueError: the run has no finished model, or no task that there is a specialist for.
    """
    _, config, model = finished_run(run)
    data = RunData(config)
    seen = [see(model, data.split(name, "test", config.eval.num_test), batch_size=config.eval.batch_size) for name in data.names]
    homes, figures = homes_of(seen), list[Figure]()
    for task in (task for task in FIGURES if task in model.heads and homes[task]):
        ours = next(one for one in seen if one.name == homes[task])
        for name in SPECIALISTS[task]:
            progress(f"{task}: {name}")
            theirs = _trained(task, name, config, data, homes[task] or "", ours, quick=quick)
            figures += _beside(task, name, ours, theirs, config, quick=quick)
    if not figures:
        raise ValueError(f"{run} has no task that there is a specialist for and test images with annotations: expected one of {', '.join(FIGURES)}.")
    return figures


def _trained(task: str, name: str, config: Config, data: RunData, home: str, ours: Seen, *, quick: bool) -> Seen:
    """What the better of a specialist's trainings sees in the same images."""
    num = QUICK_IMAGES if quick else config.train.stage1_images + config.train.stage2_images
    lesson = Lesson(data.training(), num, config.objective.augment, config.train.seed)
    val = data.split(home, "val")
    val = val.first(min(len(val), MOST_VAL))
    truth = val.batch(torch.arange(len(val)))
    best: tuple[float, Perception] | None = None
    for lr in RATES[:1] if quick else RATES:
        one = _taught(task, name, lesson, config, lr)
        found = Seen(home, truth, _seen(one, truth.image))
        figure = _figure(task, found, config)
        if best is None or figure > best[0]:
            best = figure, _seen(one, ours.truth.image)
    assert best
    return Seen(home, ours.truth, best[1])


def _taught(task: str, name: str, lesson: Lesson, config: Config, lr: float) -> Specialist:
    """A specialist that has seen so many annotated images, by AdamW under the schedule of our own training."""
    first = lesson.sets[0]
    with torch.random.fork_rng():
        torch.manual_seed(lesson.seed)
        one = SPECIALISTS[task][name](len(first.class_names), first.image_size)
        useful = [data.rows(one.known(data.batch(torch.arange(len(data))))) for data in lesson.sets]
        stream = Stream([data for data in useful if len(data)], seed=lesson.seed)
        optimizer = torch.optim.AdamW(one.network.parameters(), lr=lr, weight_decay=WEIGHT_DECAY, fused=True)
        one.network.train()
        num_steps = max(1, lesson.num_images // BATCH)
        for step in range(num_steps):
            batch, positions = stream.batch(step * BATCH, BATCH)
            loss = one.loss(lesson.augment(batch, SampleGenerator(lesson.seed, positions, "specialist")))
            optimizer.zero_grad()
            loss.backward()
            for group in optimizer.param_groups:
                group["lr"] = lr_at(step, num_steps, config.train) * lr / config.train.lr
            optimizer.step()
    one.network.eval()
    return one


@torch.no_grad()
def _seen(one: Specialist, image: Tensor) -> Perception:
    return Perception.cat([one.see(part) for part in image.split(BATCH)])


def _figure(task: str, seen: Seen, config: Config) -> float:
    """0 where nothing is known of the images."""
    return MEASURES[task](seen, config.model.class_names).figures.get(FIGURES[task], 0.0)


def _beside(task: str, name: str, ours: Seen, theirs: Seen, config: Config, *, quick: bool) -> list[Figure]:
    share, num = config.data.labelled_fraction, config.train.stage1_images + config.train.stage2_images
    target = 0.0 if share <= FEW_LABELS else -ALLOWED
    mine, other = (_figure(task, seen, config) for seen in (ours, theirs))
    apart = _difference(task, ours, theirs)
    on = f"{len(ours.truth):,} test images of {ours.name}, {share:.0%} of the labels"
    long = f"trained on {num:,} images, the better of the learning rates {', '.join(map(str, RATES))} by val"
    trained = f"trained on {QUICK_IMAGES} images; too few to judge a target by" if quick else long
    key = f"{task} {FIGURES[task]}"
    difference = Figure(
        name=f"{key}, joint less {name}",
        value=mine - other,
        interval=(apart.low, apart.high) if apart else None,
        unit="difference",
        target=target,
        met=None if quick else mine - other >= target,
        how=f"{on}; {name} {trained}" + ("; the same images drawn anew for both" if apart else ""),
    )
    return [difference, plain(f"joint: {key}", mine, "share", on), plain(f"{name}: {key}", other, "share", f"{on}, {trained}")]


def _difference(task: str, ours: Seen, theirs: Seen) -> Estimate | None:
    """With a bootstrap interval over images, paired; none for AP, which takes too long to compute anew so often."""
    truth = ours.truth
    if task == "classification":
        right = [_right(seen)[truth.label != UNLABELLED] for seen in (ours, theirs)]
        return bootstrap(lambda rows: float((right[0][rows] - right[1][rows]).mean()), len(right[0]))
    if task == "segmentation":
        each = [_confusions(seen) for seen in (ours, theirs)]

        def apart(rows: Tensor) -> float:
            both = [segmentation(confusion[rows].sum(0)).miou_foreground for confusion in each]
            return both[0] - both[1]

        return bootstrap(apart, len(truth), num_resamples=200)
    return None


def _right(seen: Seen) -> Tensor:
    assert seen.perception.class_log_probs is not None
    return (seen.perception.class_log_probs.argmax(1) == seen.truth.label).double()


def _confusions(seen: Seen) -> Tensor:
    """Of each image, [b v v]."""
    found, truth = seen.perception.semantic_mask, seen.truth.semantic_mask
    assert found is not None
    num = int(max(found.max(), truth[truth != IGNORE].max())) + 1
    num = max(num, seen.truth.classes.shape[1] + 1)
    return torch.stack([pixel_confusion(found[i : i + 1], truth[i : i + 1], num_values=num) for i in range(len(truth))])

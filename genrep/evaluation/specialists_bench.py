"""A joint model's perception beside networks for one task each, trained from scratch on the same images, of which they see as many."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from genrep.config import Config
from genrep.datasets import ArrayDataset
from genrep.evaluation.evaluate import finished_run, homes_of
from genrep.evaluation.figures import Figure, plain
from genrep.evaluation.perception import MEASURES, Seen, see
from genrep.evaluation.specialists import SPECIALISTS, Make, Specialist
from genrep.evaluation.timing import Progress, silent
from genrep.metrics.base import Estimate, bootstrap
from genrep.metrics.detection import average_precision
from genrep.metrics.segmentation import pixel_confusion, segmentation
from genrep.randomness import SampleGenerator
from genrep.storage import file_name, load_tensors, save_tensors, verify_folder, write_folder
from genrep.tasks import TASKS
from genrep.training.data import RunData
from genrep.training.optimization import lr_at
from genrep.training.stream import Stream
from genrep.types import UNLABELLED, Perception

FEW_LABELS, ALLOWED = 0.1, 0.01
"""With at most this share of the labels a joint model should be ahead; with more, behind by no more than this."""
FIGURES = {"classification": "top1", "detection": "ap", "segmentation": "miou_foreground"}
"""What is compared, by task."""
RATES = (3e-4, 1e-3)
"""Learning rates of which each specialist has the better one, by val."""
WEIGHT_DECAY, QUICK_IMAGES, MOST_VAL = 0.05, 64, 500
KEPT, WEIGHTS = "specialists", "weights.safetensors"
"""In the run's folder, a folder for each specialist and rate; what is there is not trained again."""


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
    measured = ((task, one) for task in FIGURES for one in seen if task in model.heads and homes[task] == one.name)
    for task, ours in ((task, one) for task, one in measured if FIGURES[task] in MEASURES[task](one, model.class_names).figures):
        for name in SPECIALISTS[task]:
            progress(f"{task}: {name}")
            theirs = _trained(task, name, config, data, ours, keep=None if quick else run / KEPT)
            figures += _beside(task, name, ours, theirs, config, quick=quick)
    if not figures:
        raise ValueError(f"{run} has no task that there is a specialist for and test images with annotations: expected one of {', '.join(FIGURES)}.")
    return figures


def _num_images(task: str, config: Config) -> int:
    """What the run has seen for a task, glimpses included where it learns from them, and a specialist sees."""
    train = config.train
    glimpsed = train.stage1_images * train.stage1_glimpses // train.stage1_batch_size + train.stage2_images * train.glimpses // train.batch_size
    return train.stage1_images + train.stage2_images + glimpsed * TASKS[task].glimpses


def _trained(task: str, name: str, config: Config, data: RunData, ours: Seen, *, keep: Path | None) -> Seen:
    """What the better of a specialist's trainings sees in the same images; better by val, which where there is no test is these images, in its favour.

    Args:
        keep: where trainings are kept, and those of before found; None: one rate and few images, not kept.
    """
    val = data.split(ours.name, "val", MOST_VAL)
    truth = val.batch(torch.arange(len(val)))
    make, sets = SPECIALISTS[task][name], data.training()
    if keep is None:
        trained = [taught(make, sets, config, lr=RATES[0], num_images=QUICK_IMAGES)]
    else:
        folders = {lr: keep / file_name(f"{task} {name} {lr}") for lr in RATES}
        trained = [_taught_once(make, sets, config, lr=lr, num_images=_num_images(task, config), folder=folder) for lr, folder in folders.items()]
    best = max(trained, key=lambda one: _figure(task, Seen(ours.name, truth, _seen(one, truth.image)), config))
    return Seen(ours.name, ours.truth, _seen(best, ours.truth.image))


def _taught_once(make: Make, sets: Sequence[ArrayDataset], config: Config, *, lr: float, num_images: int, folder: Path) -> Specialist:
    """As `taught`, but read from its folder if it is there, and kept in it if not: a bench of hours that was stopped goes on.

    Raises:
        ValueError: what was kept is damaged, or of another network.
    """
    if not folder.exists():
        one = taught(make, sets, config, lr=lr, num_images=num_images)
        write_folder(folder, lambda path: save_tensors(path / WEIGHTS, one.network.state_dict()))
        return one
    verify_folder(folder)
    with torch.random.fork_rng():
        one = make(len(sets[0].class_names), sets[0].image_size)
    try:
        one.network.load_state_dict(load_tensors(folder / WEIGHTS))
    except RuntimeError:
        raise ValueError(f"{folder / WEIGHTS} does not fit its network, which another version made; delete {folder}, and it is trained again.") from None
    one.network.eval()
    return one


def taught(make: Make, sets: Sequence[ArrayDataset], config: Config, *, lr: float, num_images: int) -> Specialist:
    """A specialist that has seen so many images, all of them annotated, by AdamW under the run's schedule, in its precision and batches of its size.

    Args:
        sets: as training may see them; what the specialist cannot learn from is left out.
        lr: peak of the learning rate.
    """
    seed, size = config.train.seed, config.train.batch_size
    num_steps = num_images // size
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        one = make(len(sets[0].class_names), sets[0].image_size)
        useful = [data.rows(one.known(data.batch(torch.arange(len(data))))) for data in sets]
        stream = Stream([data for data in useful if len(data)], seed=seed)
        optimizer = torch.optim.AdamW(one.network.parameters(), lr=lr, weight_decay=WEIGHT_DECAY, fused=True)
        one.network.train()
        for step in range(num_steps):
            batch, positions = stream.batch(step * size, size)
            batch = config.objective.augment(batch, SampleGenerator(seed, positions, "specialist"))
            with torch.autocast(batch.image.device.type, torch.bfloat16, enabled=bool(config.train.bf16)):
                loss = one.loss(batch)
            optimizer.zero_grad()
            loss.backward()
            for group in optimizer.param_groups:
                group["lr"] = lr_at(step, num_steps, config.train) * lr / config.train.lr
            optimizer.step()
    one.network.eval()
    return one


@torch.no_grad()
def _seen(one: Specialist, image: Tensor) -> Perception:
    return Perception.cat([one.see(part) for part in image.split(32)])


def _figure(task: str, seen: Seen, config: Config) -> float:
    """0 where nothing is known of the images."""
    return MEASURES[task](seen, config.model.class_names).figures.get(FIGURES[task], 0.0)


def _beside(task: str, name: str, ours: Seen, theirs: Seen, config: Config, *, quick: bool) -> list[Figure]:
    share = config.data.labelled_fraction
    target = 0.0 if share <= FEW_LABELS else -ALLOWED
    mine, other = (_figure(task, seen, config) for seen in (ours, theirs))
    apart = _difference(task, ours, theirs)
    on = f"{len(ours.truth):,} test images of {ours.name}, {share:.0%} of the labels"
    long = f"trained on {_num_images(task, config):,} images, the better of the learning rates {', '.join(map(str, RATES))} by val"
    trained = f"trained on {QUICK_IMAGES} images; too few to judge a target by" if quick else long
    key = f"{task} {FIGURES[task]}"
    difference = Figure(
        name=f"{key}, joint less {name}",
        value=mine - other,
        interval=(apart.low, apart.high),
        unit="difference",
        target=target,
        met=None if quick else mine - other >= target,
        how=f"{on}; {name} {trained}; the same images drawn anew for both",
    )
    return [difference, plain(f"joint: {key}", mine, "share", on), plain(f"{name}: {key}", other, "share", f"{on}, {trained}")]


def _difference(task: str, ours: Seen, theirs: Seen) -> Estimate:
    """With a bootstrap interval over images, of classification the annotated ones, paired."""
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
    known = torch.nonzero(truth.has_objects).squeeze(1)
    return bootstrap(lambda rows: _ap(ours, known[rows]) - _ap(theirs, known[rows]), len(known), num_resamples=50)


def _ap(seen: Seen, rows: Tensor) -> float:
    """Of some images."""
    found = seen.perception.detections
    assert found is not None
    return average_precision([found[i] for i in rows.tolist()], [seen.truth.rows(rows)]).ap


def _right(seen: Seen) -> Tensor:
    assert seen.perception.class_log_probs is not None
    return (seen.perception.class_log_probs.argmax(1) == seen.truth.label).double()


def _confusions(seen: Seen) -> Tensor:
    """Of each image, [b v v]."""
    found, truth = seen.perception.semantic_mask, seen.truth.semantic_mask
    assert found is not None
    num = seen.truth.classes.shape[1] + 1
    return torch.stack([pixel_confusion(found[i : i + 1], truth[i : i + 1], num_values=num) for i in range(len(truth))])

"""What reading data costs, and what damaged data does: batches beside torchvision's transforms, mutated annotations and pictures."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from genrep.boxes import to_xyxy_px
from genrep.datasets import ArrayDataset
from genrep.evaluation.figures import Figure, at_most, plain
from genrep.evaluation.mutants import of_documents, of_pictures
from genrep.evaluation.small_folders import FOLDERS
from genrep.evaluation.timing import ENOUGH_ROUNDS, Progress, cpu_seconds, silent
from genrep.training.records import peak_memory_gb
from genrep.training.runtime import side_by_side
from genrep.training.stream import Ahead

BATCH = 256
STEP_S, ENOUGH_STEPS = 0.005, 200
FASTER, FASTER_ALL, WAIT = 20.0, 10.0, 0.02
"""At least so many times torchvision's speed, images alone and with all annotations; at most so much of a step is spent waiting."""
HANG_S, GROWTH_MB = 2.0, 50.0
NUM_DOCUMENTS, NUM_PICTURES = 5_000, 10_000
"""Damaged documents for each reader, and pictures."""


def data_figures(single: ArrayDataset, scenes: ArrayDataset, *, quick: bool, progress: Progress = silent) -> list[Figure]:
    """All of them.

    Args:
        single: images of one object each.
        scenes: images of several.
    """
    num_rounds = 2 if quick else ENOUGH_ROUNDS
    progress("batches beside torchvision's transforms")
    figures = [*speed_figures(single, scenes, num_rounds=num_rounds), wait_figure(scenes, num_steps=20 if quick else ENOUGH_STEPS)]
    with TemporaryDirectory() as folder:
        figures += _of_readers(Path(folder), NUM_DOCUMENTS // 25 if quick else NUM_DOCUMENTS, progress, judged=not quick)
        num = NUM_PICTURES // 25 if quick else NUM_PICTURES
        progress(f"{num:,} mutated picture files")
        before = peak_memory_gb(torch.device("cpu"))
        figures += _mutants("picture files", f"{num:,} mutated picture files", islice(of_pictures(Path(folder), random.Random(0)), num), judged=not quick)
        grown = 1024 * (peak_memory_gb(torch.device("cpu")) - before)
    return [*figures, at_most("picture files: growth of memory", grown, GROWTH_MB, "MB", "peak of the process before and after", judged=not quick)]


def _of_readers(folder: Path, num: int, progress: Progress, *, judged: bool) -> list[Figure]:
    """Damaged documents of every layout, all together."""
    progress(f"{num:,} mutated documents for each of {len(FOLDERS)} readers")
    trials = chain.from_iterable(islice(of_documents(layout, folder, random.Random(0)), num) for layout in FOLDERS)
    return _mutants("annotation documents", f"{num:,} mutated documents for each of {', '.join(FOLDERS)}", trials, judged=judged)


def speed_figures(single: ArrayDataset, scenes: ArrayDataset, *, num_rounds: int) -> list[Figure]:
    """A batch at once beside its samples one by one, and whether they are the same."""
    rows = torch.arange(BATCH)
    with side_by_side(torch.get_num_threads()):  # one thread: several, for so little work, mostly wait for each other
        spent = cpu_seconds(
            {
                "images": lambda: single.batch(rows),  # with all it knows of them
                "images one by one": lambda: _images(single, rows),
                "all": lambda: scenes.batch(rows),
                "all one by one": lambda: _annotated(scenes, rows),
            },
            num_rounds,
        )
    batch, (images, boxes, masks) = scenes.batch(rows), _annotated(scenes, rows)
    ours = to_xyxy_px(batch.boxes_cxcywh, scenes.image_size)[batch.object_labels >= 0]
    apart = max(float((a.double() - b.double()).abs().max()) for a, b in ((batch.image[:, :1], images), (batch.instance_mask, masks), (ours, boxes)))
    how = f"{BATCH} images of 32 px, medians of {num_rounds} rounds in turn, one thread, CPU time; torchvision's v2 transforms sample by sample, and collated"
    return [
        _at_least("torchvision / a batch, images alone", spent["images one by one"] / spent["images"], FASTER, how, num_rounds),
        _at_least("torchvision / a batch, with boxes and masks", spent["all one by one"] / spent["all"], FASTER_ALL, how, num_rounds),
        at_most("largest difference between the two", apart, 1e-4, "-1 to 1, px", "images, boxes and masks of the same samples"),
        plain("a batch with boxes and masks", 1000 * spent["all"], "ms", how),
    ]


def _at_least(name: str, value: float, target: float, how: str, num_rounds: int) -> Figure:
    judged = num_rounds >= ENOUGH_ROUNDS
    how = how if judged else f"{how}; too few to judge a target by"
    return Figure(name=name, value=value, interval=None, unit="ratio", target=target, met=value >= target if judged else None, how=how)


_TO_FLOAT = v2.Compose([v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True), v2.Normalize([0.5], [0.5])])


def _images(data: ArrayDataset, rows: Tensor) -> Tensor:
    return torch.stack([_TO_FLOAT(tv_tensors.Image(data.pixels[i])) for i in rows.tolist()])


def _annotated(data: ArrayDataset, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Images, corners of all boxes in pixels, instance masks."""
    height, width = data.image_size
    scale = torch.tensor([width, height, width, height])
    transform = v2.Compose([v2.ConvertBoundingBoxFormat("XYXY"), _TO_FLOAT])
    found = []
    for i in rows.tolist():
        used = data.object_labels[i] >= 0
        boxes = tv_tensors.BoundingBoxes(data.boxes_cxcywh[i][used] * scale, format="CXCYWH", canvas_size=(height, width))
        found.append(transform(tv_tensors.Image(data.pixels[i]), boxes, tv_tensors.Mask(data.instance_mask[i])))
    return torch.stack([image for image, _, _ in found]), torch.cat([boxes for _, boxes, _ in found]), torch.stack([mask for _, _, mask in found])


def wait_figure(data: ArrayDataset, *, num_steps: int) -> Figure:
    """How much of a step is spent waiting for its images, where a step keeps an accelerator busy and the CPU free."""
    stream, waited = Ahead([data], seed=0), 0.0
    stream.batch(0, BATCH)
    for step in range(1, num_steps + 1):
        time.sleep(STEP_S)
        began = time.perf_counter()
        stream.batch(step * BATCH, BATCH)
        waited += time.perf_counter() - began
    share = waited / (num_steps * STEP_S)
    how = f"{num_steps} steps of {1000 * STEP_S:g} ms with {BATCH} images of 32 px, with annotations"
    judged = num_steps >= ENOUGH_STEPS
    return at_most("waiting for images / step", share, WAIT, "ratio", how if judged else f"{how}; too few to judge a target by", judged=judged)


def _mutants(what: str, how: str, trials: Iterator[Callable[[], object]], *, judged: bool) -> list[Figure]:
    """Of attempts to read something damaged: those that ended in anything but a result or one line, those that took too long, what vanished, the refused.

    Args:
        trials: each may say how many things vanished: neither kept nor said to be dropped.
    """
    broke: list[str] = []
    num = hung = refused = vanished = 0
    for trial in trials:
        num, began = num + 1, time.monotonic()
        try:
            vanished += found if isinstance(found := trial(), int) else 0
        except ValueError as error:
            refused += 1
            broke += [repr(error)] if "\n" in str(error) else []
        except Exception as error:  # what should not happen is what is counted
            broke.append(repr(error))
        hung += time.monotonic() - began > HANG_S
    how = how if judged else f"{how}; too few to judge a target by"
    return [
        at_most(f"{what} that broke the reader", len(broke), 0, "count", f"{how}{': ' + broke[0][:200] if broke else ''}", judged=judged),
        at_most(f"{what} that took more than {HANG_S:g} s", hung, 0, "count", how, judged=judged),
        at_most(f"{what}: things that vanished unsaid", vanished, 0, "count", f"{how}; neither kept nor named and counted", judged=judged),
        plain(f"{what} refused in one line", refused / num, "share", f"{how}; the others were read, less what was named as wrong"),
    ]

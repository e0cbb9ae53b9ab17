"""What reading data costs, and what damaged data does: batches beside torchvision's transforms, mutated annotations and pictures."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from genrep.boxes import to_xyxy_px
from genrep.datasets import ArrayDataset, read_folder
from genrep.datasets.depth_pairs import read_inv_depth
from genrep.datasets.images import read_picture
from genrep.evaluation.figures import Figure, at_most, plain
from genrep.evaluation.timing import ENOUGH_ROUNDS, Progress, cpu_seconds, silent
from genrep.training.runtime import side_by_side
from genrep.training.stream import Ahead

BATCH = 256
STEP_S, ENOUGH_STEPS = 0.005, 200
FASTER, FASTER_ALL, WAIT = 20.0, 10.0, 0.02
"""At least so many times torchvision's speed, images alone and with all annotations; at most so much of a step is spent waiting."""
HANG_S = 2.0
SIZE = (16, 16)
JUNK: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    2**40,
    1.5,
    float("nan"),
    float("inf"),
    "",
    "x",
    "../../x",
    [],
    {},
    [1, 2],
    {"counts": "x", "size": [1, 1]},
    "9" * 400,
)


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
        for what, num, find in (("annotation documents", 5_000, of_documents), ("picture files", 10_000, of_pictures)):
            num = num // 25 if quick else num
            progress(f"{num:,} mutated {what}")
            figures += _mutants(what, num, find(Path(folder), random.Random(0)), judged=not quick)
    return figures


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


def _mutants(what: str, num: int, trials: Iterator[Callable[[], object]], *, judged: bool) -> list[Figure]:
    """Of so many attempts to read something damaged: those that ended in anything but a result or one line, those that took too long, and the refused."""
    broke: list[str] = []
    hung = refused = 0
    for _, trial in zip(range(num), trials, strict=False):
        began = time.monotonic()
        try:
            trial()
        except ValueError as error:
            refused += 1
            broke += [repr(error)] if "\n" in str(error) else []
        except Exception as error:  # what should not happen is what is counted
            broke.append(repr(error))
        hung += time.monotonic() - began > HANG_S
    how = f"{num:,} mutated {what}" + ("" if judged else "; too few to judge a target by")
    return [
        at_most(f"{what} that broke the reader", len(broke), 0, "count", f"{how}{': ' + broke[0][:200] if broke else ''}", judged=judged),
        at_most(f"{what} that took more than {HANG_S:g} s", hung, 0, "count", how, judged=judged),
        plain(f"{what} refused in one line", refused / num, "share", f"{how}; the others were read, less what was named as wrong"),
    ]


def of_documents(folder: Path, rng: random.Random) -> Iterator[Callable[[], object]]:
    """Reads of COCO folders whose json was mutated: a value replaced, removed or doubled, or bytes changed."""
    root = folder / "coco"
    (root / "images").mkdir(parents=True)
    (root / "annotations").mkdir()
    for number in range(3):
        Image.new("RGB", (12, 10), (80 * number,) * 3).save(root / "images" / f"{number}.png")
    document, path = _document(), root / "annotations" / "instances_train.json"
    (root / "annotations" / "instances_val.json").write_text(document)
    while True:
        path.write_bytes(_altered(document, rng).encode() if rng.random() < 0.6 else _spoilt(document.encode(), rng))
        yield partial(read_folder, root, "train", image_size=SIZE)


def _document() -> str:
    runs = {"size": [10, 12], "counts": [15, 5, 100]}
    shapes: Sequence[Any] = ([[1, 1, 6, 1, 6, 7, 1, 7]], runs, {"size": [10, 12], "counts": "?5T3"}, [])
    images = [{"id": i, "file_name": f"{i}.png", "height": 10, "width": 12} for i in range(3)]
    annotations = [
        {"id": i, "image_id": i % 3, "category_id": 1 + i % 2, "bbox": [1, 1, 5, 6], "segmentation": shapes[i % 4], "iscrowd": int(i == 5)} for i in range(6)
    ]
    return json.dumps({"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]})


def _altered(document: str, rng: random.Random) -> str:
    """The document with one to three of its values replaced, removed or doubled."""
    found = json.loads(document)
    for _ in range(rng.randint(1, 3)):
        parent, key = rng.choice(list(_places(found)))
        if isinstance(parent, list) and rng.random() < 0.2:
            parent.append(parent[key])
        elif rng.random() < 0.3:
            del parent[key]
        else:
            parent[key] = rng.choice(JUNK)
    return json.dumps(found)


def _places(node: Any) -> Iterator[tuple[Any, Any]]:
    for key, value in list(node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()):
        yield node, key
        yield from _places(value)


def _spoilt(data: bytes, rng: random.Random) -> bytes:
    """Some bytes changed, a piece removed or doubled, or the end cut off."""
    found = bytearray(data)
    kind, start = rng.randrange(4), rng.randrange(len(found))
    piece = found[start : start + rng.randint(1, 64)]
    if kind == 0:
        del found[start:]
    elif kind == 1:
        found[start:start] = piece
    elif kind == 2:
        del found[start : start + len(piece)]
    for _ in range(rng.randint(1, 8) if kind == 3 else 0):
        found[rng.randrange(len(found))] = rng.randrange(256)
    return bytes(found)


def of_pictures(folder: Path, rng: random.Random) -> Iterator[Callable[[], object]]:
    """Reads of pictures, of every format, and of depth maps whose bytes were mutated."""
    noise = np.random.default_rng(0)
    colours = Image.fromarray(noise.integers(0, 256, (20, 24, 3), np.uint8))
    originals: list[tuple[Path, bytes]] = []
    for name, picture, options in (
        ("a.jpg", colours, {}),
        ("b.jpg", colours, {"progressive": True, "exif": _sideways()}),
        ("a.png", colours, {}),
        ("b.png", colours.convert("P"), {"transparency": 0}),
        ("a.webp", colours, {}),
        ("a.bmp", colours, {}),
        ("depth.png", Image.fromarray(noise.integers(0, 9000, (20, 24), np.uint16)), {}),
    ):
        path = folder / name
        picture.save(path, **options)
        originals.append((path, path.read_bytes()))
    while True:
        path, data = rng.choice(originals)
        path.write_bytes(_spoilt(data, rng))
        yield partial(read_inv_depth, path, SIZE, own=(20, 24)) if path.stem == "depth" else partial(read_picture, path, SIZE, 3)


def _sideways() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif

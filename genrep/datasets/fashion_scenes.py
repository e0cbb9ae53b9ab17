"""`fashion-scenes`: two to four garments on a 32 x 32 canvas, with classes, boxes, masks and depth order.

A scene depends on (seed, split, index) alone. It is drawn as a whole, and drawn again as a whole (with the same number of
garments) until at least half of every garment is visible. Slots are in order of painting, far to near.

A garment is shrunk by an area filter whose weights are kept as integers; all sums are exact in float32, so that scenes do
not depend on the order of summation, the batch they are made in, or the machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from genrep.datasets.arrays import cached_arrays
from genrep.datasets.base import ArrayDataset, boxes_of, painted
from genrep.datasets.garments import FASHION_CLASSES, MAX_OBJECTS, Garments, Origin, checked_num, load_garments
from genrep.randomness import SampleGenerator
from genrep.registry import lookup
from genrep.types import UNLABELLED

NAME = "fashion-scenes"
CANVAS_PX = 32
GARMENT_PX = 28
MIN_SIDE_PX, MAX_SIDE_PX = 11, 20
MIN_OBJECTS = 2
MIN_VISIBLE_PX = 9
BRIGHTEST_GROUND = 0.35 * 255
FULL_COVER = GARMENT_PX**2
NUM_SCENES = {"train": 60_000, "val": 2_000, "test": 2_000}
"""How many there are where no number is asked for; there is no end to them."""
MAX_ATTEMPTS = 300
_CHUNK = 250


@dataclass(frozen=True)
class _Layout:
    """Which garment of which size lies where in each scene, far to near."""

    source: Int[Tensor, "b o"]
    side_px: Int[Tensor, "b o"]
    top_px: Int[Tensor, "b o"]
    left_px: Int[Tensor, "b o"]
    used: Bool[Tensor, "b o"]


def load(origin: Origin, num: int | None, seed: int) -> ArrayDataset:
    """The set as `load_dataset` asks for it; scenes are drawn once and kept in the cache."""
    size = checked_num(num, lookup(NUM_SCENES, origin.split, "split"), NAME)
    name = f"{NAME}-{origin.split}-{origin.key()}-seed{seed}-num{size}"

    def build() -> dict[str, Tensor]:
        return _arrays(load_garments(origin), torch.arange(size), seed=seed, split=origin.split)

    return _as_dataset(cached_arrays(origin.cache, name, build))


def scenes(garments: Garments, indices: Int[Tensor, " n"], *, seed: int, split: str) -> ArrayDataset:
    """The scenes with these indices, made of the garments of one split; nothing is read from or written to disk."""
    return _as_dataset(_arrays(garments, indices, seed=seed, split=split))


def _as_dataset(arrays: dict[str, Tensor]) -> ArrayDataset:
    num = len(arrays["pixels"])
    label, has_objects = torch.full((num,), UNLABELLED), torch.ones(num, dtype=torch.bool)
    return ArrayDataset(name=NAME, class_names=FASHION_CLASSES, label=label, has_objects=has_objects, layered=True, **arrays)


def _arrays(garments: Garments, indices: Int[Tensor, " n"], *, seed: int, split: str) -> dict[str, Tensor]:
    """All of the data set that differs from scene to scene."""
    parts = [_annotated(garments, _draw(garments, chunk, seed=seed, split=split)) for chunk in indices.split(_CHUNK)]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _annotated(garments: Garments, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
    """Drawn scenes with what follows from them: labels, boxes, semantic masks."""
    sources, instance_mask = drawn["sources"], drawn["instance_mask"]
    object_labels = torch.where(sources == UNLABELLED, UNLABELLED, garments.label[sources])
    semantic_mask = painted(instance_mask, object_labels, len(FASHION_CLASSES))
    return {**drawn, "object_labels": object_labels, "boxes_cxcywh": boxes_of(instance_mask, MAX_OBJECTS), "semantic_mask": semantic_mask}


def _draw(garments: Garments, indices: Int[Tensor, " b"], *, seed: int, split: str) -> dict[str, Tensor]:
    stream = f"{NAME}/{split}"
    once = SampleGenerator(seed, indices, stream)
    num_objects = MIN_OBJECTS + once.integers(MAX_OBJECTS - MIN_OBJECTS + 1)
    ground = _ground(once)
    pixels = torch.empty(len(indices), 1, CANVAS_PX, CANVAS_PX, dtype=torch.uint8)
    instance_mask = torch.empty(len(indices), CANVAS_PX, CANVAS_PX, dtype=torch.uint8)
    sources = torch.empty(len(indices), MAX_OBJECTS, dtype=torch.int64)
    pending = torch.arange(len(indices))
    for attempt in range(MAX_ATTEMPTS):
        if len(pending) == 0:
            return {"pixels": pixels, "instance_mask": instance_mask, "sources": sources}
        generator = SampleGenerator(seed, indices[pending], f"{stream}/{attempt}")
        layout = _layout(generator, num_objects[pending], len(garments))
        cover = _place(garments.mask[layout.source], layout)
        instance, good = _stack(cover, layout.used)
        done = pending[good]
        value = _place(garments.pixels[layout.source[good]] * garments.mask[layout.source[good]], _rows(layout, good))
        pixels[done, 0] = _paint(ground[done], cover[good], value)
        instance_mask[done] = instance[good]
        sources[done] = layout.source[good].masked_fill(~layout.used[good], UNLABELLED)
        pending = pending[~good]
    raise ValueError(
        f"scene {int(indices[pending[0]])} of `{split}` could not be composed in {MAX_ATTEMPTS} attempts: "
        f"the masks of these garments are too small (fewer than {MIN_VISIBLE_PX} visible pixels). Check the picture files."
    )


def _layout(generator: SampleGenerator, num_objects: Int[Tensor, " b"], num_garments: int) -> _Layout:
    side_px = MIN_SIDE_PX + generator.integers(MAX_SIDE_PX - MIN_SIDE_PX + 1, MAX_OBJECTS)
    room = CANVAS_PX - side_px + 1
    return _Layout(
        source=generator.integers(num_garments, MAX_OBJECTS),
        side_px=side_px,
        top_px=(generator.uniform(MAX_OBJECTS) * room).long().clamp_(max=room - 1),
        left_px=(generator.uniform(MAX_OBJECTS) * room).long().clamp_(max=room - 1),
        used=torch.arange(MAX_OBJECTS) < num_objects[:, None],
    )


def _rows(layout: _Layout, where: Bool[Tensor, " b"]) -> _Layout:
    return _Layout(layout.source[where], layout.side_px[where], layout.top_px[where], layout.left_px[where], layout.used[where])


def _ground(generator: SampleGenerator) -> Float[Tensor, "b h w"]:
    """Grey of the ground, 0 to BRIGHTEST_GROUND: flat in half of the scenes, else rising linearly in a random direction.

    ground = middle + slope_x * x + slope_y * y,   x, y in [-1, 1],   |slope_x| + |slope_y| <= distance of middle to the ends
    """
    flat, middle, strength, share, *signs = generator.uniform(6).unbind(1)
    middle = middle * BRIGHTEST_GROUND
    slope = (flat > 0.5) * strength * torch.minimum(middle, BRIGHTEST_GROUND - middle)
    slope_x, slope_y = (torch.where(sign > 0.5, part, -part) * slope for sign, part in zip(signs, (share, 1 - share), strict=True))
    place = (torch.arange(CANVAS_PX) * 2 + 1 - CANVAS_PX) / (CANVAS_PX - 1)
    return middle[:, None, None] + slope_x[:, None, None] * place + slope_y[:, None, None] * place[:, None]


@lru_cache(maxsize=1)
def _area_filters() -> Float[Tensor, "sides offsets canvas garment"]:
    """For each side and offset the weights that shrink 28 px to `side` px and shift them by `offset` on the canvas.

    In units of 1 / (28 * side) of the garment an old pixel is `side` long and a new one 28: their overlap is the weight.
    """
    filters = torch.zeros(MAX_SIDE_PX - MIN_SIDE_PX + 1, CANVAS_PX - MIN_SIDE_PX + 1, CANVAS_PX, GARMENT_PX, dtype=torch.float32)
    for number, side in enumerate(range(MIN_SIDE_PX, MAX_SIDE_PX + 1)):
        new, old = torch.arange(side)[:, None] * GARMENT_PX, torch.arange(GARMENT_PX)[None] * side
        overlap = (torch.minimum(new + GARMENT_PX, old + side) - torch.maximum(new, old)).clamp(min=0)
        for offset in range(CANVAS_PX - side + 1):
            filters[number, offset, offset : offset + side] = overlap
    return filters


def _place(garments: Tensor, layout: _Layout) -> Float[Tensor, "b o h w"]:
    """Garments [b o 28 28] shrunk and put in their places, times FULL_COVER; zeros in unused slots."""
    rows = _area_filters()[layout.side_px - MIN_SIDE_PX, layout.top_px]
    columns = _area_filters()[layout.side_px - MIN_SIDE_PX, layout.left_px]
    return rows @ (garments * layout.used[..., None, None]).float() @ columns.mT


def _stack(cover: Float[Tensor, "b o h w"], used: Bool[Tensor, "b o"]) -> tuple[UInt8[Tensor, "b h w"], Bool[Tensor, " b"]]:
    """The instance mask of garments painted one over the other, and whether enough of each is visible.

    A pixel is a garment's where the garment covers half of it or more. Enough is half of a garment and MIN_VISIBLE_PX.
    """
    full = cover >= FULL_COVER / 2
    slot = torch.arange(1, MAX_OBJECTS + 1, dtype=torch.uint8)[:, None, None]
    instance = (full * slot).amax(1)
    visible = (instance[:, None] == slot).sum((-1, -2))
    enough = (2 * visible >= full.sum((-1, -2))) & (visible >= MIN_VISIBLE_PX)
    return instance, (enough | ~used).all(1)


def _paint(ground: Float[Tensor, "b h w"], cover: Float[Tensor, "b o h w"], value: Float[Tensor, "b o h w"]) -> UInt8[Tensor, "b h w"]:
    """The ground with the garments blended over it, far to near; `value` is already weighted by cover."""
    canvas = ground
    for slot in range(MAX_OBJECTS):
        canvas = canvas * (1 - cover[:, slot] / FULL_COVER) + value[:, slot] / FULL_COVER
    return canvas.round_().clamp_(0, 255).to(torch.uint8)

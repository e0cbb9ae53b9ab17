"""A toy world with every annotation: rectangles, one to four per image and each in a quarter of its own, whose shade or colour is their class and
says how near they are."""

from __future__ import annotations

import torch

from genrep.datasets import ArrayDataset
from genrep.datasets.base import boxes_of
from genrep.types import UNLABELLED

COLOURS = torch.tensor([[230, 30, 30], [30, 230, 30], [30, 30, 230], [230, 230, 30]], dtype=torch.uint8)
SHADES = torch.tensor([[90], [145], [200], [255]], dtype=torch.uint8)
SLOTS = 4


def rectangles(num: int, *, num_objects: int = 1, size: int = 32, colour: bool = False, name: str = "rectangles", seed: int = 0) -> ArrayDataset:
    """`num` images of `num_objects` rectangles each, of the classes a, b, c, d in turn."""
    generator = torch.Generator().manual_seed(seed)
    shades, half = COLOURS if colour else SHADES, size // 2
    pixels = torch.zeros(num, shades.shape[1], size, size, dtype=torch.uint8)
    instance_mask = torch.zeros(num, size, size, dtype=torch.uint8)
    object_labels = torch.full((num, SLOTS), UNLABELLED)
    for i in range(num):
        quarters = torch.randperm(4, generator=generator)[:num_objects].tolist()
        for slot, quarter in enumerate(quarters):
            label = (i + slot) % len(shades)
            height, width = torch.randint(half // 2 - 1, half - 1, (2,), generator=generator).tolist()
            top, left = (half * where + 1 for where in divmod(quarter, 2))
            pixels[i, :, top : top + height, left : left + width] = shades[label][:, None, None]
            instance_mask[i, top : top + height, left : left + width] = slot + 1
            object_labels[i, slot] = label
    of_pixel = torch.cat([torch.zeros(num, 1, dtype=torch.int64), object_labels + 1], dim=1)
    semantic_mask = of_pixel.gather(1, instance_mask.flatten(1).long()).view_as(instance_mask).to(torch.uint8)
    return ArrayDataset(
        name=name,
        class_names=("a", "b", "c", "d"),
        pixels=pixels,
        label=object_labels[:, 0] if num_objects == 1 else torch.full((num,), UNLABELLED),
        object_labels=object_labels,
        boxes_cxcywh=boxes_of(instance_mask, SLOTS),
        has_objects=torch.ones(num, dtype=torch.bool),
        instance_mask=instance_mask,
        semantic_mask=semantic_mask,
        inv_depth=(semantic_mask + 1) / 5,
    )

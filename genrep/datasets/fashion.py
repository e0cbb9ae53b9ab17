"""`fashion`: one garment of 28 px, centred on a black 32 x 32 canvas, with its class, box and mask."""

from __future__ import annotations

import torch
from torch.nn.functional import pad

from genrep.datasets.base import ArrayDataset, boxes_of
from genrep.datasets.garments import FASHION_CLASSES, MAX_OBJECTS, Garments, Origin, checked_num, load_garments
from genrep.types import UNLABELLED

NAME = "fashion"
_MARGIN_PX = (2, 2, 2, 2)


def load(origin: Origin, num: int | None, seed: int) -> ArrayDataset:
    """The set as `load_dataset` asks for it; nothing in it is random, so it is the same for every `seed`."""
    garments = load_garments(origin)
    return centred(garments, min(checked_num(num, len(garments), NAME), len(garments)))


def centred(garments: Garments, size: int) -> ArrayDataset:
    """The first `size` garments of a split, each alone on its canvas."""
    label = garments.label[:size]
    instance_mask = pad(garments.mask[:size].to(torch.uint8), _MARGIN_PX)
    empty_slots = (0, MAX_OBJECTS - 1)
    return ArrayDataset(
        name=NAME,
        class_names=FASHION_CLASSES,
        pixels=pad(garments.pixels[:size], _MARGIN_PX)[:, None],
        label=label,
        object_labels=pad(label[:, None], empty_slots, value=UNLABELLED),
        boxes_cxcywh=pad(boxes_of(instance_mask, 1), (0, 0, *empty_slots)),
        has_objects=torch.ones(size, dtype=torch.bool),
        instance_mask=instance_mask,
        semantic_mask=instance_mask * (label[:, None, None] + 1).to(torch.uint8),
        layered=True,
        sources=pad(torch.arange(size)[:, None], empty_slots, value=UNLABELLED),
    )

"""Images with annotations, made: what the model draws of the classes asked for and, looking at it, recognises as that."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from genrep.boxes import cells_inside, one_per_place, to_cxcywh
from genrep.model import GenRep
from genrep.samplers import Sampler
from genrep.types import Detections, Perception

ROW = 1_000_000
"""Images of one request before the seeds of the next begin."""


@dataclass(frozen=True, kw_only=True)
class Floor:
    """How sure the model must be of what it made.

    Raises:
        ValueError: a number that is no probability.
    """

    class_prob: float = 0.9
    """Of the class, where one object is asked for and the model classifies."""
    score: float = 0.5
    """Of each box, where it detects: the boxes above it must be those asked for, no more and no fewer."""

    def __post_init__(self) -> None:
        for name in ("class_prob", "score"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` must lie in [0, 1]; found {getattr(self, name)}.")


@dataclass(frozen=True)
class Made:
    """An image and what the model says of it."""

    image: Float[Tensor, "3 h w"]
    """In [-1, 1]."""
    index: int
    """It comes again from this index, the seed and the options."""
    class_prob: float | None
    """Of the class, where one object was asked for."""
    objects: Detections | None
    """Best first; None of a model that does not detect."""
    masks: Bool[Tensor, "n h w"] | None
    """Of each object; None of a model without masks, or where an object has no pixel."""
    semantic_mask: UInt8[Tensor, "h w"] | None


def synthesize(
    model: GenRep,
    wanted: Float[Tensor, " k"],
    *,
    floor: Floor,
    row: int = 0,
    seed: int = 0,
    sampler: Sampler | None = None,
    guidance: float = 1.0,
    batch_size: int = 64,
) -> Iterator[Made | None]:
    """Images of what is wanted, one after the other and without end; None for one in which the model does not see it.

    Args:
        wanted: how many objects of each class.
        floor: how sure the model must be.
        row: of the request among others of the same seed; each has seeds of its own.
        seed: an image depends on (weights, wanted, seed, its index) and the sampler alone.
        sampler, guidance: as in `GenRep.generate`.
        batch_size: images that are made together.
    Raises:
        ValueError: the model cannot tell what it made: it does not detect, and several objects are wanted; or it neither detects nor classifies.
    """
    several = float(wanted.sum()) != 1
    if "detection" not in model.heads and (several or "classification" not in model.heads):
        raise ValueError(
            f"to keep what shows {'several objects' if several else 'the class'} takes a model that {'detects' if several else 'classifies or detects'}; "
            f"this one has {', '.join(model.heads) or 'no tasks'}."
        )

    def made() -> Iterator[Made | None]:
        for start in count(row * ROW, batch_size):
            index = torch.arange(start, start + batch_size)
            images = model.generate(wanted.expand(batch_size, -1), seed=seed, index=index, sampler=sampler, guidance=guidance)
            seen = model.perceive(images)
            yield from (_judged(images[i], int(index[i]), seen, i, wanted, floor) for i in range(batch_size))

    return made()


def _judged(image: Tensor, index: int, seen: Perception, i: int, wanted: Tensor, floor: Floor) -> Made | None:
    prob, objects, masks = None, None, None
    mask = None if seen.semantic_mask is None else seen.semantic_mask[i]
    if seen.class_log_probs is not None and float(wanted.sum()) == 1:
        prob = float(seen.class_log_probs[i, int(wanted.argmax())].exp())
        if prob < floor.class_prob:
            return None
    if seen.detections is not None:
        objects = one_per_place(seen.detections[i], floor.score)
        if not torch.equal(objects.labels.bincount(minlength=len(wanted)), wanted.cpu().long()):
            return None
        masks = None if mask is None else _masks(objects, mask)
    return Made(image, index, prob, objects, masks, mask)


def _masks(objects: Detections, semantic_mask: Tensor) -> Bool[Tensor, "n h w"] | None:
    """Each object's pixels: those of its class in its box that no better object has."""
    size = (semantic_mask.shape[0], semantic_mask.shape[1])
    inside = cells_inside(to_cxcywh(objects.boxes_xyxy_px, size), size) > 0
    mine = inside & (semantic_mask == objects.labels[:, None, None] + 1)
    first = mine & (mine.int().cumsum(0) == 1)
    return first if bool(first.flatten(1).any(1).all()) else None

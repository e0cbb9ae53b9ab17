"""Images moved, scaled, mirrored and coloured together with all that is known of them: what is seen often should not look the same each time."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from genrep.randomness import SampleGenerator
from genrep.types import UNLABELLED, Batch

EDGE_PX = 0.5
"""A side of a box that is nearer to the image's edge than so lies on it: what is in the box holds the last pixel."""
LEAST_LEFT = 0.5
"""Share of an object's box that must stay in the image."""
LUMINANCE = (0.299, 0.587, 0.114)
"""Of red, green and blue (ITU-R BT.601)."""


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What perception's images undergo in training; generation's, since samples should look like them, and glimpses stay as they are.

    Args:
        shift_px: furthest that an image moves, in each direction; at the edge it goes on as it ends there.
        mirror: whether half of the images are mirrored, left to right.
        zoom: by what factor an image grows or shrinks at the most, about its middle; 1: not at all.
        colour: by what share brightness, contrast and saturation differ at the most; 0: not at all.
    """

    shift_px: int = 0
    mirror: bool = False
    zoom: float = 1.0
    colour: float = 0.0

    def __post_init__(self) -> None:
        if self.shift_px < 0:
            raise ValueError(f"`shift_px` must be at least 0; found {self.shift_px}. 0 leaves images where they are.")
        if not 1 <= self.zoom <= 2:
            raise ValueError(f"`zoom` must lie in [1, 2]; found {self.zoom}. 1 leaves images as large as they are.")
        if not 0 <= self.colour < 1:
            raise ValueError(f"`colour` must lie in [0, 1); found {self.colour}. 0 leaves colours as they are.")

    def __call__(self, batch: Batch, generator: SampleGenerator) -> Batch:
        """The batch, every image by its own random numbers; one that would lose half of an object, or more, shrinks instead, or stays where it is."""
        if self.shift_px or self.mirror or self.zoom > 1:
            batch = _moved(batch, self._place(batch, generator), exact=self.zoom == 1)
        return replace(batch, image=_coloured(batch.image, 1 + self.colour * (2 * generator.uniform(3) - 1))) if self.colour else batch

    def _place(self, batch: Batch, generator: SampleGenerator) -> _Place:
        shift = generator.integers(2 * self.shift_px + 1, 2) - self.shift_px
        mirrored = generator.integers(2).bool() & self.mirror
        scale = self.zoom ** (2 * generator.uniform(1).squeeze(1) - 1) if self.zoom > 1 else torch.ones_like(batch.label, dtype=torch.float32)
        place = _Place(shift, scale, mirrored)
        place = replace(place, scale=torch.where(_loses(batch, place), torch.minimum(scale, 1 / scale), scale))
        return replace(place, shift=shift * ~_loses(batch, place)[:, None])


@dataclass(frozen=True)
class _Place:
    """Where each image goes: it is scaled about its middle, moved by (down, right) pixels, then mirrored."""

    shift: Int[Tensor, "b 2"]
    scale: Float[Tensor, " b"]
    mirrored: Bool[Tensor, " b"]


def _loses(batch: Batch, place: _Place) -> Bool[Tensor, " b"]:
    """Whether too little of an object would be left in the image."""
    left = _boxes(batch, place)[..., 2:].prod(-1)
    before = batch.boxes_cxcywh[..., 2:].prod(-1) * place.scale[:, None].square()
    return ((left < LEAST_LEFT * before) & (batch.object_labels != UNLABELLED)).any(1)


def _moved(batch: Batch, place: _Place, *, exact: bool) -> Batch:
    """All images in their places.

    Args:
        exact: nothing is scaled, so that no pixel lies between others.
    """
    height, width = batch.image.shape[-2:]
    rows, columns = (_sources(size, by, place.scale) for size, by in ((height, place.shift[:, 0]), (width, place.shift[:, 1])))
    columns = torch.where(place.mirrored[:, None], columns.flip(1), columns)

    def of(array: Tensor) -> Tensor:
        """[b ... h w]: the nearest."""
        return _gathered(_gathered(array, rows.round().long(), -2), columns.round().long(), -1)

    return replace(
        batch,
        image=of(batch.image) if exact else _between(_between(batch.image, rows, -2), columns, -1),
        semantic_mask=of(batch.semantic_mask),
        instance_mask=of(batch.instance_mask),
        inv_depth=of(batch.inv_depth) * place.scale[:, None, None],  # what is larger is nearer
        boxes_cxcywh=_boxes(batch, place).masked_fill((batch.slots == UNLABELLED)[..., None], 0.0),
    )


def _sources(size: int, by: Int[Tensor, " b"], scale: Float[Tensor, " b"]) -> Float[Tensor, "b size"]:
    """Where each place's content comes from."""
    from_middle = torch.arange(size, device=by.device) - (size - 1) / 2 - by[:, None]
    return ((size - 1) / 2 + from_middle / scale[:, None]).clamp(0, size - 1)


def _gathered(array: Tensor, where: Int[Tensor, "b size"], dim: int) -> Tensor:
    """Rows (`dim` -2) or columns (-1) of [b ... h w], each image's own."""
    lead = (slice(None), *(None,) * (array.ndim - 3))
    where = where[lead][..., None] if dim == -2 else where[lead][..., None, :]
    return array.gather(dim, where.expand(array.shape))


def _between(image: Tensor, where: Float[Tensor, "b size"], dim: int) -> Tensor:
    """The same where places may lie between two, linearly."""
    low = where.floor()
    share = (where - low)[:, None, :, None] if dim == -2 else (where - low)[:, None, None, :]
    one, other = (_gathered(image, each.long(), dim) for each in (low, where.ceil()))
    return one + share.to(image) * (other - one)


def _boxes(batch: Batch, place: _Place) -> Float[Tensor, "b n 4"]:
    """Cut to the image; a side at the image's edge goes to it when the box moves inwards, as what is in it goes on."""
    boxes, scale = batch.boxes_cxcywh, place.scale[:, None, None]
    size = torch.tensor(batch.image.shape[:-3:-1], device=scale.device)
    by = 0.5 * (1 - scale) + (place.shift.flip(1) / size)[:, None]
    low, high = boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2
    new_low, new_high = low * scale + by, high * scale + by
    low = torch.where((low <= EDGE_PX / size) & (new_low > low), 0.0, new_low).clamp(0, 1)
    high = torch.where((high >= 1 - EDGE_PX / size) & (new_high < high), 1.0, new_high).clamp(0, 1)
    centre = (low + high) / 2
    across = torch.where(place.mirrored[:, None], 1 - centre[..., 0], centre[..., 0])
    return torch.cat([across[..., None], centre[..., 1:], (high - low).clamp(min=0)], dim=-1)


def _coloured(image: Float[Tensor, "b 3 h w"], factors: Float[Tensor, "b 3"]) -> Float[Tensor, "b 3 h w"]:
    """Brightness, contrast and saturation times so much, in this order, each as torchvision's `ColorJitter` has it; grey images stay grey."""
    brightness, contrast, saturation = factors.to(image)[..., None, None, None].unbind(1)
    weights = image.new_tensor(LUMINANCE)[:, None, None]
    found = ((image + 1) / 2 * brightness).clamp(0, 1)
    mean = (found * weights).sum(1, keepdim=True).mean((2, 3), keepdim=True)
    found = (mean + contrast * (found - mean)).clamp(0, 1)
    grey = (found * weights).sum(1, keepdim=True)
    return (grey + saturation * (found - grey)).clamp(0, 1) * 2 - 1

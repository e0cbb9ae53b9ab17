"""Images moved and mirrored together with all that is known of them: what is seen often should not look the same each time."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from genrep.randomness import SampleGenerator
from genrep.types import UNLABELLED, Batch

EDGE = 1e-6
"""How near a side of a box is to the image's edge where it lies on it."""


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What perception's images undergo in training; generation's, since samples should look like them, and glimpses stay as they are.

    Args:
        shift_px: furthest that an image moves, in each direction; at the edge it goes on as it ends there.
        mirror: whether half of the images are mirrored, left to right.
    """

    shift_px: int = 0
    mirror: bool = False

    def __post_init__(self) -> None:
        if self.shift_px < 0:
            raise ValueError(f"`shift_px` must be at least 0; found {self.shift_px}. 0 leaves images where they are.")

    def __call__(self, batch: Batch, generator: SampleGenerator) -> Batch:
        """The batch, every image by its own random numbers; an image stays where it is if an object would leave it."""
        if not (self.shift_px or self.mirror):
            return batch
        shift = generator.integers(2 * self.shift_px + 1, 2) - self.shift_px
        mirrored = generator.integers(2).bool() & self.mirror
        found = _moved(batch, shift, mirrored)
        lost = ((found.boxes_cxcywh[..., 2:].amin(-1) <= 0) & (batch.object_labels != UNLABELLED)).any(1)
        return _moved(batch, shift * ~lost[:, None], mirrored) if bool(lost.any()) else found


def _moved(batch: Batch, shift: Int[Tensor, "b 2"], mirrored: Bool[Tensor, " b"]) -> Batch:
    """Images moved by (down, right) pixels, then mirrored where asked."""
    height, width = batch.image.shape[-2:]
    rows, columns = (_sources(size, by) for size, by in ((height, shift[:, 0]), (width, shift[:, 1])))
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)

    def of(array: Tensor) -> Tensor:
        """[b ... h w]."""
        lead = (slice(None), *(None,) * (array.ndim - 3))
        down = array.gather(-2, rows[lead][..., None].expand(array.shape))
        return down.gather(-1, columns[lead][..., None, :].expand(array.shape))

    boxes = _boxes(batch.boxes_cxcywh, shift, mirrored, (height, width))
    return replace(
        batch,
        image=of(batch.image),
        semantic_mask=of(batch.semantic_mask),
        instance_mask=of(batch.instance_mask),
        inv_depth=of(batch.inv_depth),
        boxes_cxcywh=boxes.masked_fill((batch.object_labels == UNLABELLED)[..., None], 0.0),
    )


def _sources(size: int, by: Int[Tensor, " b"]) -> Int[Tensor, "b size"]:
    """Where each place's content comes from."""
    return (torch.arange(size, device=by.device) - by[:, None]).clamp(0, size - 1)


def _boxes(boxes: Float[Tensor, "b n 4"], shift: Int[Tensor, "b 2"], mirrored: Bool[Tensor, " b"], size: tuple[int, int]) -> Float[Tensor, "b n 4"]:
    """Moved, cut to the image, and mirrored; a side at the image's edge stays there when the box moves inwards, as what is in it goes on."""
    by = (shift.flip(1) / torch.tensor(size[::-1], device=shift.device))[:, None]
    low, high = boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2
    low = torch.where(low <= EDGE, 0.0, low + by).clamp(0, 1)
    high = torch.where(high >= 1 - EDGE, 1.0, high + by).clamp(0, 1)
    centre = (low + high) / 2
    across = torch.where(mirrored[:, None], 1 - centre[..., 0], centre[..., 0])
    return torch.cat([across[..., None], centre[..., 1:], (high - low).clamp(min=0)], dim=-1)

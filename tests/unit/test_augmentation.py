"""Whatever is known of an image moves with it, and random numbers are each image's own."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from rectangles import rectangles
from small_models import small_model

from genrep.augmentation import Augmentation
from genrep.datasets.base import boxes_of
from genrep.objective import ObjectiveConfig, perception_losses
from genrep.randomness import SampleGenerator
from genrep.types import Batch

DATA = rectangles(40, num_objects=3, colour=True)
BATCH = DATA.batch(torch.arange(40))


def moved(batch: Batch, augmentation: Augmentation, seed: int = 0) -> Batch:
    return augmentation(batch, SampleGenerator(seed, batch.index, "augmentation"))


def test_nothing_asked_is_nothing_done() -> None:
    assert moved(BATCH, Augmentation()) is BATCH


@pytest.mark.parametrize("augmentation", [Augmentation(shift_px=3), Augmentation(mirror=True), Augmentation(shift_px=6, mirror=True)])
def test_boxes_masks_depth_and_pixels_stay_together(augmentation: Augmentation) -> None:
    found = moved(BATCH, augmentation)
    assert not torch.equal(found.image, BATCH.image)
    torch.testing.assert_close(found.boxes_cxcywh, boxes_of(found.instance_mask, 4))
    colour = torch.zeros(5, 3)
    for value in range(5):
        where = (BATCH.semantic_mask == value)[:, None].expand_as(BATCH.image)
        colour[value] = BATCH.image[where].view(-1, 3).mean(0) if value == 0 else BATCH.image.permute(0, 2, 3, 1)[BATCH.semantic_mask == value][0]
    shown = found.image.permute(0, 2, 3, 1)
    for value in range(1, 5):
        assert (shown[found.semantic_mask == value] == colour[value]).all()
    torch.testing.assert_close(found.inv_depth, (found.semantic_mask + 1) / 5)


def test_every_shift_and_both_sides_come_up() -> None:
    spot = torch.zeros(400, 3, 9, 9)
    spot[:, :, 4, 3] = 1
    blank = rectangles(1, size=16).batch(torch.zeros(400, dtype=torch.int64))
    masks = torch.zeros(400, 9, 9, dtype=torch.uint8)
    plain = replace(blank, image=spot, index=torch.arange(400), semantic_mask=masks, instance_mask=masks, inv_depth=masks.float())
    where = moved(plain, Augmentation(shift_px=2, mirror=True)).image[:, 0].flatten(1).argmax(1)
    counts = torch.bincount(where, minlength=81).view(9, 9)
    assert set(counts.sum(1).nonzero().flatten().tolist()) == {2, 3, 4, 5, 6}
    assert set(counts.sum(0).nonzero().flatten().tolist()) == {1, 2, 3, 4, 5, 6, 7}  # 3 +- 2, and mirrored 5 +- 2


def test_an_object_is_not_lost() -> None:
    """What would leave the image keeps it where it is."""
    corner = rectangles(1).batch(torch.zeros(50, dtype=torch.int64))
    boxes = torch.zeros_like(corner.boxes_cxcywh)
    boxes[:, 0] = torch.tensor([2.5 / 32, 2.5 / 32, 1 / 32, 1 / 32])
    found = moved(replace(corner, boxes_cxcywh=boxes, index=torch.arange(50)), Augmentation(shift_px=8))
    assert (found.boxes_cxcywh[:, 0, 2:] > 0).all()
    assert (found.boxes_cxcywh[:, 0] == boxes[:, 0]).all(1).any() and not torch.equal(found.boxes_cxcywh, boxes)


def test_an_image_does_not_depend_on_the_others() -> None:
    augmentation = Augmentation(shift_px=3, mirror=True)
    whole, some = moved(BATCH, augmentation), moved(BATCH.rows(slice(10, 20)), augmentation)
    assert all(torch.equal(getattr(whole, f.name)[10:20], getattr(some, f.name)) for f in fields(Batch))


def test_mistakes_are_one_line() -> None:
    with pytest.raises(ValueError, match="`shift_px` must be at least 0"):
        Augmentation(shift_px=-1)


def test_perception_learns_from_augmented_images_with_what_is_known_of_them() -> None:
    augment, model = Augmentation(shift_px=3, mirror=True), small_model(image_size=(32, 32), codec="pixels")
    plain = ObjectiveConfig(noisy_fraction=0.0)

    def losses(config: ObjectiveConfig, batch: Batch) -> dict[str, torch.Tensor]:
        return model.answer(perception_losses(model, batch, config=config, generator=SampleGenerator(0, BATCH.index, "augmentation")))

    found = losses(replace(plain, augment=augment), BATCH)
    expected = losses(plain, moved(BATCH, augment))
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert not torch.equal(found["task"], losses(plain, BATCH)["task"])

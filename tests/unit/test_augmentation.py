"""Whatever is known of an image moves with it, and random numbers are each image's own."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from rectangles import rectangles
from small_models import small_model
from torchvision.transforms.v2.functional import adjust_brightness, adjust_contrast, adjust_saturation, resize

from genrep.augmentation import EDGE_PX, LEAST_LEFT, Augmentation, _coloured, _moved, _Place
from genrep.boxes import to_xyxy_px
from genrep.datasets.base import boxes_of
from genrep.losses import perception_losses
from genrep.objective import ObjectiveConfig
from genrep.randomness import SampleGenerator
from genrep.types import UNLABELLED, Batch

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
    plain = replace(plain, object_labels=torch.full_like(blank.object_labels, UNLABELLED))
    where = moved(plain, Augmentation(shift_px=2, mirror=True)).image[:, 0].flatten(1).argmax(1)
    counts = torch.bincount(where, minlength=81).view(9, 9)
    assert set(counts.sum(1).nonzero().flatten().tolist()) == {2, 3, 4, 5, 6}
    assert set(counts.sum(0).nonzero().flatten().tolist()) == {1, 2, 3, 4, 5, 6, 7}  # 3 +- 2, and mirrored 5 +- 2


def test_a_box_that_ends_within_the_last_pixel_goes_on_where_its_object_does() -> None:
    """Of a picture of 640 px made one of 32 px a box may end at 31.97; unmoved it stays so."""
    mask = torch.zeros(50, 32, 32, dtype=torch.uint8)
    mask[:, 4:28, 20:] = 1
    blank = rectangles(1).batch(torch.zeros(50, dtype=torch.int64))
    boxes = torch.zeros_like(blank.boxes_cxcywh)
    boxes[:, 0] = torch.tensor([(20 + 31.97) / 64, 0.5, (31.97 - 20) / 32, 24 / 32])
    objects = torch.full_like(blank.object_labels, UNLABELLED)
    objects[:, 0] = 0
    batch = replace(blank, instance_mask=mask, boxes_cxcywh=boxes, object_labels=objects, index=torch.arange(50))
    found = moved(batch, Augmentation(shift_px=3))
    right_px = 32 * (found.boxes_cxcywh[:, 0, 0] + found.boxes_cxcywh[:, 0, 2] / 2)
    torch.testing.assert_close(right_px, to_xyxy_px(boxes_of(found.instance_mask, 1), (32, 32))[:, 0, 2], atol=0.04, rtol=0)
    assert (right_px.unique() < 32).any() and (right_px == 32).any()


def test_an_object_is_not_lost() -> None:
    """What would leave the image keeps it where it is."""
    corner = rectangles(1).batch(torch.zeros(50, dtype=torch.int64))
    boxes = torch.zeros_like(corner.boxes_cxcywh)
    boxes[:, 0] = torch.tensor([2.5 / 32, 2.5 / 32, 1 / 32, 1 / 32])
    found = moved(replace(corner, boxes_cxcywh=boxes, index=torch.arange(50)), Augmentation(shift_px=8))
    assert (found.boxes_cxcywh[:, 0, 2:] > 0).all()
    assert (found.boxes_cxcywh[:, 0] == boxes[:, 0]).all(1).any() and not torch.equal(found.boxes_cxcywh, boxes)


def test_boxes_masks_and_pixels_grow_and_shrink_together() -> None:
    found = moved(BATCH, Augmentation(shift_px=3, mirror=True, zoom=1.5))
    there = BATCH.object_labels != UNLABELLED
    off_px = (to_xyxy_px(found.boxes_cxcywh, (32, 32)) - to_xyxy_px(boxes_of(found.instance_mask, 4), (32, 32))).abs()
    assert off_px[there].max() <= 1.01  # a mask has whole pixels
    grown = found.inv_depth.amax((1, 2)) / BATCH.inv_depth.amax((1, 2))  # what is larger is nearer
    assert grown.max() > 1.2 and grown.min() < 0.8
    sides = torch.stack([to_xyxy_px(each.boxes_cxcywh, (32, 32)) for each in (BATCH, found)])
    whole = there & ((sides > EDGE_PX) & (sides < 32 - EDGE_PX)).all(-1).all(0)  # none at the image's edge
    ratio = (found.boxes_cxcywh / BATCH.boxes_cxcywh)[..., 2:]
    torch.testing.assert_close(ratio[whole], grown[:, None, None].expand_as(ratio)[whole], atol=1e-4, rtol=1e-4)
    colour = torch.stack([BATCH.image.permute(0, 2, 3, 1)[BATCH.semantic_mask == value][0] for value in range(1, 5)])
    middle = (32 * found.boxes_cxcywh[..., :2]).long()
    for row, slot in torch.nonzero(there & (found.boxes_cxcywh[..., 2:].amin(-1) > 6 / 32)).tolist():
        x, y = middle[row, slot].tolist()
        if found.instance_mask[row, y - 1 : y + 2, x - 1 : x + 2].eq(slot + 1).all():  # not behind another
            torch.testing.assert_close(found.image[row, :, y, x], colour[found.semantic_mask[row, y, x].long() - 1])


def test_what_is_ignored_moves_too() -> None:
    """As an object would, had it been one."""
    ignored = replace(BATCH, object_labels=torch.full_like(BATCH.object_labels, UNLABELLED), ignored_labels=BATCH.object_labels)
    place = _Place(torch.full((40, 2), 3), torch.full((40,), 1.25), torch.arange(40) % 2 == 0)
    found, expected = (_moved(batch, place, exact=False).boxes_cxcywh for batch in (ignored, BATCH))
    assert torch.equal(found, expected) and not torch.equal(found, BATCH.boxes_cxcywh)


def test_pixels_between_others_are_mixed_of_them() -> None:
    """Twice as large, about the middle, as torchvision's bilinear resizing of it."""
    image = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    batch = replace(rectangles(1, size=8).batch(torch.zeros(1, dtype=torch.int64)), image=image)
    place = _Place(torch.zeros(1, 2, dtype=torch.int64), torch.tensor([2.0]), torch.tensor([False]))
    twice = resize(image, [16, 16], antialias=False)
    torch.testing.assert_close(_moved(batch, place, exact=False).image, twice[..., 4:12, 4:12])


def test_what_would_cut_an_object_in_half_shrinks_instead() -> None:
    """Objects of rectangles lie anywhere: of each at least half is left."""
    there = BATCH.object_labels != UNLABELLED
    for seed in range(20):
        found = moved(BATCH, Augmentation(shift_px=4, zoom=2.0), seed)
        scale = found.inv_depth.amax((1, 2)) / BATCH.inv_depth.amax((1, 2))
        left = found.boxes_cxcywh[..., 2:].prod(-1) / (BATCH.boxes_cxcywh[..., 2:].prod(-1) * scale[:, None].square())
        assert left[there].min() > LEAST_LEFT - 1e-4
    assert scale.max() > 1.3 and (scale < 1).float().mean() > 0.5


def test_colours_are_as_torchvisions() -> None:
    image = BATCH.image[:3]
    factors = torch.tensor([[1.2, 0.7, 1.4], [0.8, 1.3, 0.6], [1.0, 1.0, 1.0]])
    for row, (brightness, contrast, saturation) in enumerate(factors.tolist()):
        expected = adjust_saturation(adjust_contrast(adjust_brightness((image[row] + 1) / 2, brightness), contrast), saturation) * 2 - 1
        torch.testing.assert_close(_coloured(image, factors)[row], expected, atol=1e-3, rtol=0)  # it has one digit less of red's luminance
    grey = image.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    found = _coloured(grey, factors)
    assert torch.equal(found[:, 0], found[:, 1]) and torch.equal(found[:, 0], found[:, 2])


def test_colours_differ_by_as_much_as_asked() -> None:
    even = replace(BATCH, image=torch.full_like(BATCH.image, -0.5))
    shown = (moved(even, Augmentation(colour=0.4)).image[:, 0, 0, 0] + 1) / 2 / 0.25  # contrast and saturation leave an even grey as it is
    assert 0.6 <= shown.min() < 0.7 and 1.3 < shown.max() <= 1.4
    assert torch.equal(moved(even, Augmentation(colour=0.4)).boxes_cxcywh, even.boxes_cxcywh)


@pytest.mark.parametrize("augmentation", [Augmentation(shift_px=3, mirror=True), Augmentation(shift_px=3, mirror=True, zoom=1.5, colour=0.3)])
def test_an_image_does_not_depend_on_the_others(augmentation: Augmentation) -> None:
    whole, some = moved(BATCH, augmentation), moved(BATCH.rows(slice(10, 20)), augmentation)
    assert all(torch.equal(getattr(whole, f.name)[10:20], getattr(some, f.name)) for f in fields(Batch))


def test_mistakes_are_one_line() -> None:
    with pytest.raises(ValueError, match="`shift_px` must be at least 0"):
        Augmentation(shift_px=-1)
    with pytest.raises(ValueError, match=r"`zoom` must lie in \[1, 2\]; found 0.5"):
        Augmentation(zoom=0.5)
    with pytest.raises(ValueError, match=r"`colour` must lie in \[0, 1\); found 1.0"):
        Augmentation(colour=1.0)


def test_perception_learns_from_augmented_images_with_what_is_known_of_them() -> None:
    augment, model = Augmentation(shift_px=3, mirror=True), small_model(image_size=(32, 32), codec="pixels")
    plain = ObjectiveConfig(noisy_fraction=0.0)

    def losses(config: ObjectiveConfig, batch: Batch) -> dict[str, torch.Tensor]:
        return model.answer(perception_losses(model, batch, config=config, generator=SampleGenerator(0, BATCH.index, "augmentation")))

    found = losses(replace(plain, augment=augment), BATCH)
    expected = losses(plain, moved(BATCH, augment))
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert not torch.equal(found["task"], losses(plain, BATCH)["task"])

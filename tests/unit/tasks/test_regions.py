"""The second look: which boxes, and that size and place in the image do not matter to what is seen."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from rectangles import SLOTS, rectangles
from small_models import normal
from torch.nn import functional as F
from torchvision.ops import nms

from genrep.boxes import to_cxcywh, to_xyxy_px
from genrep.tasks.regions import CONTEXT, CROP, NOT_HERE, REACH, RegionOutput, Regions, _outline, crop, paste, propose
from genrep.types import UNLABELLED, Features, FeatureSpec

SIZE = (32, 48)


@given(seed=st.integers(0, 10**6), num=st.integers(1, 12))
def test_proposals_are_those_of_torchvision(seed: int, num: int) -> None:
    g = torch.Generator().manual_seed(seed)
    low = torch.rand(3, 20, 2, generator=g) * 20
    boxes, scores = torch.cat([low, low + 4 + torch.rand(3, 20, 2, generator=g) * 16], -1), torch.randn(3, 20, generator=g)
    index, exists = propose(scores, boxes, num=num)
    for i in range(3):
        expected = nms(boxes[i], scores[i], 0.6)[:num]
        assert torch.equal(index[i, exists[i]], expected) and exists[i].sum() == len(expected)
        assert exists[i].int().diff().le(0).all()


def test_a_crop_pasted_back_is_where_it_was() -> None:
    y, x = torch.arange(32)[:, None] + 0.5, torch.arange(48) + 0.5
    plane = (0.1 * x - 0.2 * y)[None, None]
    box = torch.tensor([[[10.0, 6.0, 30.0, 26.0]]])
    back = paste(crop(plane, box, SIZE, 20).unflatten(0, (1, 1)).squeeze(2), box, SIZE, -99.0)
    torch.testing.assert_close(back[0, 0, 6:26, 10:30], plane[0, 0, 6:26, 10:30], atol=1e-4, rtol=0)
    back[0, 0, 6:26, 10:30] = -99
    assert (back == -99).all()


def test_size_and_place_do_not_matter() -> None:
    """The same picture, once small in a corner and once twice as large elsewhere."""
    picture = F.interpolate(normal(1, 4, 4, 4), size=(10, 10), mode="bicubic")
    small, large = torch.zeros(1, 4, *SIZE), torch.zeros(1, 4, *SIZE)
    small[..., 2:12, 3:13] = picture
    large[..., 8:28, 20:40] = F.interpolate(picture, scale_factor=2, mode="bilinear")
    seen = [crop(small, torch.tensor([[[3.0, 2, 13, 12]]]), SIZE, 8), crop(large, torch.tensor([[[20.0, 8, 40, 28]]]), SIZE, 8)]
    assert (seen[0] - seen[1]).square().mean() < 0.02 * seen[0].square().mean()
    assert (seen[0] - seen[1].flip(-1)).square().mean() > 0.5 * seen[0].square().mean()


def test_what_is_far_from_a_box_changes_nothing_of_it() -> None:
    torch.manual_seed(0)
    spec = FeatureSpec(image_size=SIZE, taps=(8,), tap_stride=4, stem=(4, 8), stem_strides=(1, 2))
    regions = Regions(spec, 3)
    box = torch.tensor([[[4.0, 4.0, 16.0, 16.0]]])

    def look(stem: torch.Tensor) -> RegionOutput:
        return regions(Features((), (stem, torch.zeros(1, 8, 16, 24))), box, torch.tensor([[True]]), torch.zeros(1, 1))

    stem = normal(1, 4, *SIZE)
    there, near = stem.clone(), stem.clone()
    there[..., 24:] += 1.0
    near[..., 8:12, 8:12] += 1.0
    first = look(stem)
    torch.testing.assert_close(look(there).class_logits, first.class_logits)
    assert (look(near).class_logits - first.class_logits).abs().max() > 1e-3
    assert (first.mask_logits[..., 24:] == NOT_HERE).all() and (first.mask_logits[..., 6:14, 6:14] != NOT_HERE).all()


def test_proposals_match_the_object_they_overlap_by_more_than_half() -> None:
    proposals = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 21], [20, 20, 30, 30], [0, 0, 10, 10]]])
    exists = torch.tensor([[True, True, True, False]])
    output = RegionOutput(proposals, proposals, exists, torch.zeros(1, 4, 3), torch.zeros(1, 4), proposals, torch.zeros(1, 4, *SIZE), torch.zeros(1, 4, 0))
    blank = rectangles(1).batch(torch.arange(1))
    boxes, labels = torch.zeros(1, SLOTS, 4), torch.full((1, SLOTS), UNLABELLED)
    boxes[0, :3] = to_cxcywh(torch.tensor([[20.0, 20, 30, 30], [0, 0, 10, 10], [0, 0, 10, 12]]), SIZE)
    labels[0, :3] = 0
    masks = torch.zeros(1, *SIZE, dtype=torch.uint8)
    batch = replace(
        blank,
        image=torch.zeros(1, 3, *SIZE),
        inv_depth=torch.full((1, *SIZE), float("nan")),
        semantic_mask=masks,
        instance_mask=masks,
        boxes_cxcywh=boxes,
        object_labels=labels,
    )
    assert output.match(batch).tolist() == [[1, 2, 0, UNLABELLED]]
    labels[0, 1:3] = UNLABELLED
    assert output.match(batch).tolist() == [[UNLABELLED, UNLABELLED, 0, UNLABELLED]]


def test_a_proposal_that_moved_off_its_object_still_belongs_to_it() -> None:
    """Otherwise nothing would tell the first look that it was wrong."""
    batch = rectangles(1).batch(torch.arange(1))
    proposals = to_xyxy_px(batch.boxes_cxcywh, (32, 32))[:, :1]
    exists, scores = torch.ones(1, 1, dtype=torch.bool), torch.zeros(1, 1)
    away = RegionOutput(proposals, proposals + 40, exists, torch.zeros(1, 1, 3), scores, proposals, torch.zeros(1, 1, 32, 32), torch.zeros(1, 1, 0))
    assert away.match(batch).tolist() == [[0]]
    assert replace(away, proposals_xyxy_px=proposals + 40).match(batch).tolist() == [[UNLABELLED]]
    assert replace(away, proposals_xyxy_px=proposals + 40, looked_at_xyxy_px=proposals).match(batch).tolist() == [[0]]


def look_at(box: torch.Tensor, *, move: float, mask: float) -> torch.Tensor:
    """A box after a look by a network that says the same of everything: of the move of each side, and of each place of the mask."""
    spec = FeatureSpec(image_size=(32, 32), taps=(8,), tap_stride=4, stem=(8,), stem_strides=(1,))
    regions = Regions(spec, 3)
    for layer, bias in ((regions.read[-1], move), (regions.shape, mask)):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.constant_(layer.bias, bias)
    torch.nn.init.zeros_(regions.embed.weight)
    torch.nn.init.zeros_(regions.embed.bias)
    features = Features(taps=(torch.zeros(1, 8, 8, 8),), stem=(torch.zeros(1, 8, 32, 32),))
    return regions(features, box, torch.ones(1, 1, dtype=torch.bool), torch.zeros(1, 1)).boxes_xyxy_px


def test_a_look_moves_no_side_further_than_its_reach_beside_the_mask() -> None:
    """However sure the network is: boxes stay near what was looked at; and where nothing is, a pixel of them is left."""
    box = torch.tensor([[[8.0, 4, 18, 24]]])
    size = torch.tensor([10.0, 20, 10, 20])
    whole = box + size * (CONTEXT - 1) / 2 * torch.tensor([-1.0, -1, 1, 1])
    torch.testing.assert_close(look_at(box, move=100.0, mask=100.0), whole + REACH * size)
    low, high = look_at(box, move=0.0, mask=-100.0).split(2, dim=-1)
    torch.testing.assert_close(high, low + 1)


@given(sides=st.lists(st.integers(0, CROP), min_size=4, max_size=4), step=st.sampled_from([0.5, 4.0]))
def test_a_box_ends_where_its_mask_does(sides: list[int], step: float) -> None:
    """A mask of whole places, in a crop of any size; where its edge is half covered, the box ends half a place further in."""
    left, right = sorted((sides[0], sides[1]))
    top, bottom = sorted((sides[2], sides[3]))
    assume(right - left > 1 and bottom - top > 1)
    mask = torch.full((1, CROP, CROP), -99.0)
    mask[0, top:bottom, left:right] = 99.0
    size = CROP * step / CONTEXT
    first = (CONTEXT - 1) / 2 * size  # of the crop, before the box's own side

    def found(mask: torch.Tensor) -> list[float]:
        sides = torch.tensor([0, 0, size, size]) + size * _outline(mask)[0] + first
        return [float(side) / step for side in sides]

    assert found(mask) == pytest.approx([left, top, right, bottom], abs=1e-3)
    mask[0, :, left] = mask[0, :, left].clamp(max=0)
    assert found(mask) == pytest.approx([left + 0.5, top, right, bottom], abs=1e-3)


def test_without_its_outline_a_look_is_what_it_was_before_there_was_one() -> None:
    """Models of before keep their boxes: their `outline` is 0."""
    spec = FeatureSpec(image_size=SIZE, taps=(8,), tap_stride=4, stem=(4, 8), stem_strides=(1, 2))
    torch.manual_seed(0)
    regions, features = Regions(spec, 3), Features((), (normal(1, 4, *SIZE), torch.zeros(1, 8, 16, 24)))
    box, exists = torch.tensor([[[4.0, 4.0, 16.0, 16.0]]]), torch.tensor([[True]])
    beside = [regions(features, box, exists, torch.zeros(1, 1))]
    torch.nn.init.zeros_(regions.outline)
    beside.append(regions(features, box, exists, torch.zeros(1, 1)))
    outline = _outline(regions._see(features, box)[0][0])
    torch.testing.assert_close(beside[0].boxes_xyxy_px - beside[1].boxes_xyxy_px, 12 * outline[None])

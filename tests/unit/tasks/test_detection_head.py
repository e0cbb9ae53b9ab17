"""Matching of tokens and objects, and what becomes of a detector's raw output."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rectangles import SLOTS, rectangles
from small_models import normal
from torch import Tensor

from genrep.boxes import to_cxcywh, to_xyxy_px
from genrep.tasks import Detection
from genrep.tasks.detection import DetectionOutput
from genrep.tasks.regions import REACH, STEP, RegionOutput, propose
from genrep.types import IGNORE, UNLABELLED, Batch, Features, FeatureSpec

SPEC = FeatureSpec(image_size=(32, 48), taps=(4,), tap_stride=4, stem=(4,), stem_strides=(1,))
HEAD = Detection(SPEC, 3, width=8, num_proposals=12)
DENSE = Detection(SPEC, 3, width=8)


def batch_of(boxes_xyxy_px: Tensor) -> Batch:
    """One image of 32 x 48 px with these boxes, and a second without objects."""
    num = len(boxes_xyxy_px)
    boxes, labels = torch.zeros(2, SLOTS, 4), torch.full((2, SLOTS), UNLABELLED)
    boxes[0, :num], labels[0, :num] = to_cxcywh(boxes_xyxy_px, (32, 48)), torch.arange(num) % 3
    blank = rectangles(2).batch(torch.arange(2))
    image, masks = torch.zeros(2, 3, 32, 48), torch.zeros(2, 32, 48, dtype=torch.uint8)
    unknown = torch.full(masks.shape, float("nan"))
    return replace(blank, image=image, inv_depth=unknown, boxes_cxcywh=boxes, object_labels=labels, semantic_mask=masks, instance_mask=masks)


def boxes(low: int = 1) -> st.SearchStrategy[Tensor]:
    def corner(side: int) -> st.SearchStrategy[tuple[int, int]]:
        return st.integers(0, side - low).flatmap(lambda start: st.tuples(st.just(start), st.integers(start + low, side)))

    one = st.tuples(corner(48), corner(32)).map(lambda xy: [xy[0][0], xy[1][0], xy[0][1], xy[1][1]])
    return st.lists(one, min_size=1, max_size=SLOTS).map(lambda found: torch.tensor(found).float())


@given(found=boxes())
def test_every_object_keeps_a_token_however_they_lie(found: Tensor) -> None:
    slot = HEAD.match(batch_of(found))
    assert set(slot[0].tolist()) - {UNLABELLED} == set(range(len(found)))
    assert (slot[1] == UNLABELLED).all()


@pytest.mark.parametrize("num_proposals", [0, 12])
def test_no_place_in_something_ignored_learns_that_nothing_is_there(num_proposals: int) -> None:
    """But those of an object in it learn of that."""
    torch.manual_seed(0)
    head = Detection(SPEC, 3, width=8, num_proposals=num_proposals)
    batch = batch_of(torch.tensor([[8.0, 8, 16, 16], [4, 4, 28, 28]]))
    batch.object_labels[0, 1] = UNLABELLED
    crowd = torch.full_like(batch.object_labels, UNLABELLED)
    crowd[0, 1] = 2
    batch = replace(batch, ignored_labels=crowd, instance_mask=torch.full_like(batch.instance_mask, IGNORE))
    output = head(Features((normal(2, 4, 8, 12),), (normal(2, 4, 32, 48),), scan=None))
    output.objectness.retain_grad()
    regions = output.regions
    if regions:
        regions.objectness.retain_grad()
    sum(head.loss(output, batch).values()).backward()
    learns, centres, slot = output.objectness.grad != 0, head.centres_px.expand(2, -1, -1), head.match(batch)
    if regions:
        low, high = regions.looked_at_xyxy_px.split(2, dim=-1)
        learns, centres, slot = regions.objectness.grad != 0, (low + high) / 2, regions.match(batch)
    free = ~((centres > 4) & (centres < 28)).all(-1) & (slot < 0)
    assert learns[1].all() and learns[0].tolist() == (free | (slot >= 0))[0].tolist() and not bool(learns[0].all())


@given(found=boxes(low=4))
def test_a_lone_object_is_matched_in_its_middle_or_to_the_nearest_token(found: Tensor) -> None:
    box = found[:1]
    slot, centres = HEAD.match(batch_of(box))[0], HEAD.centres_px
    offset = (centres - (box[:, :2] + box[:, 2:]) / 2).abs()
    size = box[:, 2:] - box[:, :2]
    distance = (offset / size).amax(1)
    reach = torch.maximum(size / 4, torch.tensor(3.0))
    assert (slot[(offset < reach - 1e-3).all(1)] == 0).all()
    assert ((slot == UNLABELLED) | (offset < reach + 1e-3).all(1) | (distance < distance.min() + 1e-3)).all()


def test_an_object_within_another_keeps_its_middle() -> None:
    around, within = [0.0, 0.0, 32.0, 32.0], [13.0, 13.0, 19.0, 19.0]
    for order in ([around, within], [within, around], [around, around], [within, within, within, within]):
        slot = HEAD.match(batch_of(torch.tensor(order)))[0]
        assert set(slot.tolist()) - {UNLABELLED} == set(range(len(order)))


def regions(boxes_xyxy_px: Tensor, objectness: Tensor, class_logits: Tensor) -> RegionOutput:
    """A second look that changed nothing: masks are the boxes."""
    y, x = torch.arange(32)[:, None] + 0.5, torch.arange(48) + 0.5
    low_x, low_y, high_x, high_y = (side[..., None, None] for side in boxes_xyxy_px.unbind(-1))
    inside = (x > low_x) & (x < high_x) & (y > low_y) & (y < high_y)
    exists, nothing = torch.ones_like(objectness, dtype=torch.bool), class_logits[..., :0]
    return RegionOutput(boxes_xyxy_px, boxes_xyxy_px, exists, class_logits, objectness, boxes_xyxy_px, inside * 20.0 - 10.0, nothing)


def raw(boxes_xyxy_px: list[list[float]], scores: list[float], labels: list[int]) -> DetectionOutput:
    logits = torch.full((1, len(labels), 3), -20.0)
    logits[0, torch.arange(len(labels)), torch.tensor(labels)] = 20.0
    objectness, boxes_px = torch.tensor([scores]).logit(), torch.tensor([boxes_xyxy_px])
    return DetectionOutput(logits, objectness, boxes_px, regions(boxes_px, objectness, logits))


def test_what_is_no_object_is_left_out_and_boxes_stay_in_the_image() -> None:
    (found,) = HEAD.results(raw([[1, 1, 9, 9.5], [-5, 20, 60, 40], [2, 2, 4, 4]], [0.8, 0.9, 0.01], [0, 2, 2]))
    assert found.labels.tolist() == [2, 0]
    torch.testing.assert_close(found.scores, torch.tensor([0.9, 0.8]))
    assert found.boxes_xyxy_px.tolist() == [[0, 20, 48, 32], [1, 1, 9, 9.5]]


def test_proposals_that_moved_to_the_same_place_are_one_object() -> None:
    output = raw([[1.0, 1, 9, 9], [1, 1, 9, 9.5], [1, 1, 9, 9]], [0.5, 0.9, 0.8], [0, 0, 1])
    (found,) = HEAD.results(output)
    assert found.labels.tolist() == [0, 1]
    torch.testing.assert_close(found.scores, torch.tensor([0.9, 0.8]))


def test_objects_beyond_the_proposals_are_found_too() -> None:
    """What nobody looks at again is as the tokens say; what was looked at, the tokens say no more of."""
    places = [[8.0 * i, 0.0, 8.0 * i + 6, 6.0] for i in range(6)]
    dense = raw(places, [0.9, 0.8, 0.7, 0.6, 0.5, 0.01], [0, 1, 2, 0, 1, 2])
    looked = torch.tensor([places[:2]])
    again = regions(looked + torch.tensor([0.0, 6.0, 0.0, 6.0]), torch.tensor([[0.95, 0.3]]).logit(), torch.tensor([[[20.0, 0, 0], [0, 0, 20.0]]]))
    (found,) = HEAD.results(replace(dense, regions=replace(again, proposals_xyxy_px=looked)))
    assert found.labels.tolist() == [0, 2, 0, 1, 2]
    torch.testing.assert_close(found.scores, torch.tensor([0.95, 0.7, 0.6, 0.5, 0.3]))
    assert found.boxes_xyxy_px[0].tolist() == [0, 6, 6, 12] and found.boxes_xyxy_px[4].tolist() == [8, 6, 14, 12]
    absent = replace(again, proposals_xyxy_px=looked, exists=torch.tensor([[True, False]]), objectness=torch.tensor([[3.0, -20.0]]))
    assert HEAD.results(replace(dense, regions=absent))[0].labels.tolist() == [0, 1, 2, 0, 1]


def test_where_all_that_is_looked_at_are_or_may_be_objects_there_may_be_more() -> None:
    places = [[8.0 * i, 0.0, 8.0 * i + 6, 6.0] for i in range(3)]
    head = Detection(SPEC, 3, width=8, num_proposals=3)
    full, left, doubtful = (head.seen(raw(places, [0.9, 0.9, last], [0, 1, 1]), 0.8) for last in (0.9, 0.05, 0.3))
    assert left.classes.tolist() == [[1, 1, 0]] and left.num_objects.tolist() == [2]
    assert full.classes.tolist() == [[0, 0, 0]] and full.num_objects.tolist() == [3]
    assert not doubtful.classes.any() and doubtful.num_objects.tolist() == [2]
    assert full.objects.labels.tolist() == [[0, 1, 1]] and left.objects.labels.tolist() == [[0, 1, UNLABELLED]]
    assert left.objects.sure.tolist() == [[True, True, False]] and not head.seen(raw(places, [0.9, 0.9, 0.05], [0, 1, 1]), 1.0).objects.sure.any()


def test_an_ambiguous_object_is_named_by_each_class_it_may_be() -> None:
    output = raw([[1.0, 1, 9, 9]], [0.8], [0])
    unsure = replace(output.regions, class_logits=torch.tensor([[[0.6, 0.395, 0.005]]]).log())
    (found,) = HEAD.results(replace(output, regions=unsure))
    assert found.labels.tolist() == [0, 1]
    torch.testing.assert_close(found.scores, torch.tensor([0.48, 0.316]))


def test_of_tokens_only_the_best_class_counts() -> None:
    """Without a second look: duplicates of a class are suppressed, a neighbour that thinks otherwise is not."""
    output = replace(raw([[1.0, 1, 9, 9], [1, 1, 9, 9.5], [1, 1, 9, 9], [-5, 20, 60, 40]], [0.5, 0.9, 0.8, 0.7], [0, 0, 1, 2]), regions=None)
    unsure = output.class_logits.clone()
    unsure[0, 3] = torch.tensor([0.3, 0.1, 0.6]).log()
    (found,) = DENSE.results(replace(output, class_logits=unsure))
    assert found.labels.tolist() == [0, 1, 2]
    torch.testing.assert_close(found.scores, torch.tensor([0.9, 0.8, 0.42]))
    assert found.boxes_xyxy_px.tolist() == [[1, 1, 9, 9.5], [1, 1, 9, 9], [0, 20, 48, 32]]


def test_the_second_look_is_where_the_first_one_moved_the_boxes() -> None:
    """By a side's part that is bounded, and boxes keep a pixel."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        head = Detection(SPEC, 3, width=8, num_proposals=3)
    features = Features((normal(2, 4, 8, 12),), (normal(2, 4, 32, 48, seed=1),))
    assert head.regions is not None
    for move in ([0.0, 0.0, 2.5, 0.0], [99.0, 0.0, -99.0, 0.0]):
        with torch.no_grad():
            head.regions.read[-1].weight.zero_()
            head.regions.read[-1].bias[-4:] = torch.tensor(move)
            head.regions.outline.zero_()
        output = head(features)
        best, exists = propose(output.objectness, output.boxes_xyxy_px, num=3)
        first = output.boxes_xyxy_px.gather(1, best[..., None].expand(-1, -1, 4))
        torch.testing.assert_close(output.regions.proposals_xyxy_px[exists], first[exists])
        width, parts = first[..., 2] - first[..., 0], REACH * torch.tanh(STEP / REACH * torch.tensor(move))
        expected = first.clone()
        expected[..., 0] += parts[0] * width
        expected[..., 2] = torch.maximum(first[..., 2] + parts[2] * width, expected[..., 0] + 1)
        torch.testing.assert_close(output.regions.looked_at_xyxy_px[exists], expected[exists])
        assert not output.regions.looked_at_xyxy_px.requires_grad


def test_without_a_second_look_there_is_nothing_of_it() -> None:
    batch = with_masks(batch_of(PLACES))
    output = replace(perfect(batch), regions=None)
    assert set(DENSE.loss(output, batch)) == {"objectness", "object_class", "box"} and DENSE.offer(output) is None
    assert not any(name.startswith("regions") for name, _ in DENSE.named_parameters())
    assert any(name.startswith("regions") for name, _ in HEAD.named_parameters())


def test_best_come_first_up_to_a_number() -> None:
    places = [[4.0 * i, 0.0, 4.0 * i + 3, 3.0] for i in range(10)]
    (found,) = HEAD.results(raw(places, [0.1 + 0.05 * i for i in range(10)], [0] * 10), max_objects=4)
    torch.testing.assert_close(found.scores, torch.tensor([0.55, 0.5, 0.45, 0.4]))


def perfect(batch: Batch) -> DetectionOutput:
    slot = HEAD.match(batch)
    truth = to_xyxy_px(batch.boxes_cxcywh, (32, 48))
    logits = torch.zeros(2, 96, 3)
    boxes_px = torch.tensor([0.0, 0.0, 4.0, 4.0]).repeat(2, 96, 1)
    row, token = torch.nonzero(slot >= 0, as_tuple=True)
    logits[row, token, batch.object_labels[row, slot[row, token]]] = 30.0
    boxes_px[row, token] = truth[row, slot[row, token]]
    seen = torch.nn.functional.one_hot(batch.object_labels.clamp(min=0), 3) * 30.0
    there = torch.where(batch.object_labels >= 0, 30.0, -30.0)
    return DetectionOutput(logits, torch.where(slot >= 0, 30.0, -30.0), boxes_px, regions(truth, there, seen))


PLACES = torch.tensor([[2.0, 2.0, 14.0, 10.0], [20.0, 12.0, 44.0, 30.0]])


def with_masks(batch: Batch) -> Batch:
    mask = torch.zeros(2, 32, 48, dtype=torch.uint8)
    mask[0, 2:10, 2:14], mask[0, 12:30, 20:44] = 1, 2
    return replace(batch, instance_mask=mask)


def test_perfect_output_costs_next_to_nothing() -> None:
    batch = with_masks(batch_of(PLACES))
    terms = HEAD.loss(perfect(batch), batch)
    assert set(terms) == {"objectness", "object_class", "box", "region_class", "region_box", "region_objectness", "owner"}
    assert {name: float(value) for name, value in terms.items()} == pytest.approx(dict.fromkeys(terms, 0.0), abs=1e-3)


def test_each_mistake_of_the_second_look_costs_its_term() -> None:
    batch = with_masks(batch_of(PLACES))
    right = perfect(batch)
    good = right.regions
    wrong = {
        "region_class": replace(good, class_logits=good.class_logits.roll(1, 2)),
        "region_box": replace(good, boxes_xyxy_px=good.boxes_xyxy_px + 3),
        "region_objectness": replace(good, objectness=-good.objectness),
        "owner": replace(good, mask_logits=-good.mask_logits),
    }
    for name, output in wrong.items():
        assert float(HEAD.loss(replace(right, regions=output), batch)[name]) > 0.3, name


def test_pixels_of_an_object_that_nobody_proposed_are_nobodys() -> None:
    batch = with_masks(batch_of(PLACES))
    right = perfect(batch)
    first = torch.arange(SLOTS).expand(2, -1) == 0
    only_first = replace(right.regions, exists=first, objectness=torch.where(first, 30.0, -30.0))
    missing = replace(right, regions=only_first)
    assert float(HEAD.loss(missing, batch)["owner"]) == pytest.approx(0, abs=1e-3)
    assert float(HEAD.loss(missing, replace(batch, instance_mask=2 * (batch.instance_mask == 1).byte()))["owner"]) > 0.3


def test_what_the_head_says_of_an_object_comes_from_its_proposals_or_else_its_tokens() -> None:
    batch = batch_of(PLACES)
    output = perfect(batch)
    second = output.regions.class_logits.roll(1, 2)
    seen = HEAD.object_logits(replace(output, regions=replace(output.regions, class_logits=second)), batch)
    torch.testing.assert_close(seen[0, :2], second[0, :2])
    nowhere = replace(output.regions, exists=torch.zeros_like(output.regions.exists), class_logits=second)
    of_tokens = HEAD.object_logits(replace(output, regions=nowhere), batch)
    assert of_tokens[0, :2].argmax(1).tolist() == batch.object_labels[0, :2].tolist()


def test_objectness_learns_the_overlap_of_the_tokens_own_box() -> None:
    batch = batch_of(torch.tensor([[8.0, 8.0, 24.0, 24.0]]))
    slot = HEAD.match(batch)
    objectness = torch.zeros(2, 96, requires_grad=True)
    half = torch.tensor([8.0, 8.0, 24.0, 16.0]).expand(2, 96, 4)
    HEAD.loss(replace(perfect(batch), objectness=objectness, boxes_xyxy_px=half), batch)["objectness"].backward()
    pull = torch.where(slot >= 0, 0.5 - 0.5, 0.5)
    torch.testing.assert_close(objectness.grad * (slot >= 0).sum(), pull)


def test_boxes_reach_out_from_the_token() -> None:
    from genrep.types import Features

    output = HEAD(Features((torch.randn(2, 4, 8, 12, generator=torch.Generator().manual_seed(0)),), (torch.zeros(2, 4, 32, 48),)))
    inside = (output.boxes_xyxy_px[..., :2] < HEAD.centres_px) & (HEAD.centres_px < output.boxes_xyxy_px[..., 2:])
    assert inside.all() and output.class_logits.shape == (2, 96, 3)

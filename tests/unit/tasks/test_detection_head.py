"""Matching of tokens and objects, and what becomes of a detector's raw output."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rectangles import SLOTS, rectangles
from torch import Tensor

from genrep.boxes import to_cxcywh, to_xyxy_px
from genrep.tasks import Detection
from genrep.tasks.detection import DetectionOutput
from genrep.types import UNLABELLED, Batch, FeatureSpec

SPEC = FeatureSpec(image_size=(32, 48), taps=(4,), tap_stride=4, stem=(4,), stem_strides=(1,))
HEAD = Detection(SPEC, 3, width=8)


def batch_of(boxes_xyxy_px: Tensor) -> Batch:
    """One image of 32 x 48 px with these boxes, and a second without objects."""
    num = len(boxes_xyxy_px)
    boxes, labels = torch.zeros(2, SLOTS, 4), torch.full((2, SLOTS), UNLABELLED)
    boxes[0, :num], labels[0, :num] = to_cxcywh(boxes_xyxy_px, (32, 48)), torch.arange(num) % 3
    blank = rectangles(2).batch(torch.arange(2))
    image, masks = torch.zeros(2, 3, 32, 48), torch.zeros(2, 32, 48, dtype=torch.uint8)
    return replace(blank, image=image, boxes_cxcywh=boxes, object_labels=labels, semantic_mask=masks, instance_mask=masks)


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


def raw(boxes_xyxy_px: list[list[float]], scores: list[float], labels: list[int]) -> DetectionOutput:
    logits = torch.full((1, len(labels), 3), -20.0)
    logits[0, torch.arange(len(labels)), torch.tensor(labels)] = 20.0
    return DetectionOutput(logits, torch.tensor([scores]).logit(), torch.tensor([boxes_xyxy_px]))


def test_duplicates_of_a_class_are_suppressed_and_boxes_stay_in_the_image() -> None:
    output = raw([[1, 1, 9, 9], [1, 1, 9, 9.5], [1, 1, 9, 9], [-5, 20, 60, 40], [2, 2, 4, 4]], [0.5, 0.9, 0.8, 0.7, 0.01], [0, 0, 1, 2, 2])
    (found,) = HEAD.results(output)
    assert found.labels.tolist() == [0, 1, 2]
    torch.testing.assert_close(found.scores, torch.tensor([0.9, 0.8, 0.7]))
    assert found.boxes_xyxy_px.tolist() == [[1, 1, 9, 9.5], [1, 1, 9, 9], [0, 20, 48, 32]]


def test_best_come_first_up_to_a_number() -> None:
    places = [[4.0 * i, 0.0, 4.0 * i + 3, 3.0] for i in range(10)]
    (found,) = HEAD.results(raw(places, [0.1 + 0.05 * i for i in range(10)], [0] * 10), max_objects=4)
    torch.testing.assert_close(found.scores, torch.tensor([0.55, 0.5, 0.45, 0.4]))


def test_perfect_output_costs_next_to_nothing() -> None:
    batch = batch_of(torch.tensor([[2.0, 2.0, 14.0, 10.0], [20.0, 12.0, 44.0, 30.0]]))
    slot = HEAD.match(batch)
    truth = to_xyxy_px(batch.boxes_cxcywh, (32, 48))
    logits = torch.zeros(2, 96, 3)
    boxes_px = torch.tensor([0.0, 0.0, 4.0, 4.0]).repeat(2, 96, 1)
    row, token = torch.nonzero(slot >= 0, as_tuple=True)
    logits[row, token, batch.object_labels[row, slot[row, token]]] = 30.0
    boxes_px[row, token] = truth[row, slot[row, token]]
    terms = HEAD.loss(DetectionOutput(logits, torch.where(slot >= 0, 30.0, -30.0), boxes_px), batch)
    assert {name: float(value) for name, value in terms.items()} == pytest.approx({"objectness": 0, "object_class": 0, "box": 0}, abs=1e-5)


def test_objectness_learns_the_overlap_of_the_tokens_own_box() -> None:
    batch = batch_of(torch.tensor([[8.0, 8.0, 24.0, 24.0]]))
    slot = HEAD.match(batch)
    objectness = torch.zeros(2, 96, requires_grad=True)
    half = torch.tensor([8.0, 8.0, 24.0, 16.0]).expand(2, 96, 4)
    HEAD.loss(DetectionOutput(torch.zeros(2, 96, 3), objectness, half), batch)["objectness"].backward()
    pull = torch.where(slot >= 0, 0.5 - 0.5, 0.5)
    torch.testing.assert_close(objectness.grad * (slot >= 0).sum(), pull)


def test_boxes_reach_out_from_the_token() -> None:
    from genrep.types import Features

    output = HEAD(Features((torch.randn(2, 4, 8, 12, generator=torch.Generator().manual_seed(0)),), ()))
    inside = (output.boxes_xyxy_px[..., :2] < HEAD.centres_px) & (HEAD.centres_px < output.boxes_xyxy_px[..., 2:])
    assert inside.all() and output.class_logits.shape == (2, 96, 3)

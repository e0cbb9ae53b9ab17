"""Pictures of an evaluation: scenes in the order in which they are scored, by what they are scored, and samples that nothing judges."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rectangles import rectangles
from small_models import small_model
from torch import Tensor

from genrep.boxes import to_xyxy_px
from genrep.datasets import ArrayDataset
from genrep.evaluation.perception import Seen, box_agreement
from genrep.evaluation.pictures import MIN_SCORE, draw_scenes, said
from genrep.evaluation.unjudged import draw_unjudged, wanted
from genrep.samplers import Euler
from genrep.types import IGNORE, UNLABELLED, Detections, Perception

DATA = rectangles(6, num_objects=2, size=16)


def without_masks(data: ArrayDataset) -> ArrayDataset:
    return replace(data, semantic_mask=torch.full_like(data.semantic_mask, IGNORE))


def boxes_seen(data: ArrayDataset, scores: dict[int, float]) -> Seen:
    """All true boxes, with a score by image, else 1."""
    truth = data.batch(torch.arange(len(data)))
    found = []
    for i in range(len(truth)):
        used = truth.object_labels[i] != UNLABELLED
        boxes, labels = to_xyxy_px(truth.boxes_cxcywh[i][used], (16, 16)), truth.object_labels[i][used]
        found.append(Detections(boxes, torch.full((len(labels),), scores.get(i, 1.0)), labels))
    return Seen("rectangles", truth, Perception(None, found, None, None, None))


def test_boxes_agree_as_far_as_they_are_right_and_drawn() -> None:
    seen = boxes_seen(DATA, {2: MIN_SCORE / 2})
    one = seen.perception.detections
    assert one is not None
    one[4] = Detections(one[4].boxes_xyxy_px[:1], one[4].scores[:1], one[4].labels[:1])
    found = box_agreement(seen, min_score=MIN_SCORE)
    assert found.tolist() == pytest.approx([1, 1, 0, 1, 2 / 3, 1]), "twice one of two that are right, over one and two"
    unknown = replace(DATA, has_objects=torch.arange(6) != 1)
    assert box_agreement(boxes_seen(unknown, {}), min_score=MIN_SCORE).isnan().tolist() == [False, True, *[False] * 4]


def test_scenes_without_masks_are_scored_by_their_boxes(tmp_path: Path) -> None:
    table = draw_scenes(boxes_seen(without_masks(DATA), {2: MIN_SCORE / 2}), DATA.class_names, tmp_path)
    assert (table["scored_by"], table["tinted"]) == ("boxes", False)
    for group in ("worst", "first"):
        drawn = [(entry["index"], entry["agreement"]) for entry in table["pictures"] if entry["group"] == group]
        assert drawn[0] == (2, 0.0) and drawn[1][1] == 1.0


def test_scenes_that_nothing_scores_are_in_their_own_order(tmp_path: Path) -> None:
    unknown = replace(without_masks(DATA), has_objects=torch.zeros(6, dtype=torch.bool))
    table = draw_scenes(boxes_seen(unknown, {2: 0.1}), DATA.class_names, tmp_path)
    assert table["scored_by"] is None and [entry["index"] for entry in table["pictures"]] == list(range(6))


def seen_of(data: ArrayDataset) -> Seen:
    return Seen(data.name, data.batch(torch.arange(len(data))), Perception(None, None, None, None, None))


def test_what_is_drawn_is_what_pictures_of_several_objects_hold_or_one_of_each_class() -> None:
    classes: Tensor = DATA.batch(torch.arange(6)).classes
    rows = wanted([seen_of(rectangles(4, size=16)), seen_of(DATA)], 4)
    assert 0 < len(rows) <= 6 and all((classes == row).all(1).any() for row in rows) and bool((rows.sum(1) == 2).all())
    assert torch.equal(wanted([seen_of(rectangles(4, size=16))], 4), torch.eye(4))
    assert said(torch.tensor([1.0, 0.0, 3.0]), ("bag", "boot", "coat")) == "bag, 3 x coat"


def test_samples_that_nothing_judges_are_drawn(tmp_path: Path) -> None:
    found = draw_unjudged(small_model(), [seen_of(rectangles(4, size=16))], tmp_path, guidance=None, options={"sampler": Euler(num_steps=2)})
    assert found["guidance"] == 2.0 and len(found["samples"]) == 4 and len(found["film"]) == 3
    assert {strip["file"] for strip in (*found["samples"], *found["film"])} | {"generated.png", "denoising.png"} == {path.name for path in tmp_path.iterdir()}

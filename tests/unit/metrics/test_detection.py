"""COCO average precision: perfect, shifted, mislabelled and missing boxes."""

from __future__ import annotations

import contextlib
import io
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from genrep.metrics.detection import average_precision, judged, score_calibration_error
from genrep.types import Batch, Detections

BOXES = torch.tensor([[[0.25, 0.25, 0.5, 0.5], [0.75, 0.75, 0.25, 0.5]], [[0.5, 0.5, 0.5, 0.5], [0, 0, 0, 0]]])
LABELS = torch.tensor([[0, 2], [0, -1]])


def _batch(has_objects: tuple[bool, bool] = (True, True)) -> Batch:
    blank = torch.zeros(2, 32, 32, dtype=torch.uint8)
    return Batch(
        image=torch.zeros(2, 3, 32, 32),
        index=torch.arange(2),
        label=torch.full((2,), -1),
        classes=torch.zeros(2, 3),
        object_labels=LABELS,
        ignored_labels=torch.full_like(LABELS, -1),
        boxes_cxcywh=BOXES,
        has_objects=torch.tensor(has_objects),
        has_classes=torch.zeros(2, dtype=torch.bool),
        semantic_mask=blank,
        instance_mask=blank,
        inv_depth=torch.full(blank.shape, float("nan")),
    )


def _found(boxes: list[list[float]], labels: list[int], scores: list[float] | None = None) -> Detections:
    return Detections(
        torch.tensor(boxes, dtype=torch.float32).view(-1, 4), torch.tensor(scores or [0.9] * len(labels)), torch.tensor(labels, dtype=torch.int64)
    )


PERFECT = [_found([[0, 0, 16, 16], [20, 16, 28, 32]], [0, 2]), _found([[8, 8, 24, 24]], [0])]


def test_perfect_output() -> None:
    found = average_precision(PERFECT, [_batch()])
    assert found.ap == found.ap50 == pytest.approx(1)
    assert found.per_class_ap == {0: pytest.approx(1), 2: pytest.approx(1)}
    assert len(found.precision50[0]) == 101


def test_a_box_of_iou_two_thirds_counts_at_four_of_ten_thresholds() -> None:
    shifted = [_found([[0, 3.2, 16, 19.2], [20, 16, 28, 32]], [0, 2]), PERFECT[1]]  # 12.8 / 19.2
    found = average_precision(shifted, [_batch()])
    assert found.ap50 == pytest.approx(1)
    # class 0 beyond .65: scores tie, the miss comes first, so one hit of two at precision 1/2 up to recall 1/2
    assert found.per_class_ap[0] == pytest.approx((4 + 6 * 0.5 * 51 / 101) / 10, abs=1e-3)


def test_wrong_class_is_a_miss() -> None:
    found = average_precision([_found([[0, 0, 16, 16], [20, 16, 28, 32]], [0, 1]), PERFECT[1]], [_batch()])
    assert found.per_class_ap50 == {0: pytest.approx(1), 2: 0}


def test_images_without_annotations_do_not_count() -> None:
    noise = _found([[0, 0, 4, 4]], [1])
    found = average_precision([PERFECT[0], noise], [_batch((True, False))])
    assert found.ap == pytest.approx(1)


def test_of_no_object_there_is_no_precision() -> None:
    """Images may be annotated and empty."""
    found = average_precision(PERFECT, [replace(_batch(), object_labels=torch.full_like(LABELS, -1))])
    assert math.isnan(found.ap) and math.isnan(found.ap50) and not found.per_class_ap


def test_nothing_found_is_zero() -> None:
    assert average_precision([_found([], []), _found([], [])], [_batch()]).ap50 == 0


def test_counts_must_match() -> None:
    with pytest.raises(ValueError, match="one entry per image"):
        average_precision(PERFECT[:1], [_batch()])


def test_what_is_found_in_a_crowd_is_neither_right_nor_wrong() -> None:
    """An apple, and a crowd of apples below it: seven of these are found before the one that counts."""
    labels, ignored = torch.tensor([[0, -1]]), torch.tensor([[-1, 0]])
    boxes = torch.tensor([[[0.25, 0.25, 0.25, 0.25], [0.5, 0.75, 1.0, 0.5]]])
    batch = replace(_batch().rows(slice(1)), object_labels=labels, ignored_labels=ignored, boxes_cxcywh=boxes)
    inside = [[4.0 * i, 18, 4.0 * i + 4, 30] for i in range(7)]
    found = [_found([*inside, [4, 4, 12, 12]], [0] * 8, [0.9] * 7 + [0.5])]
    assert average_precision(found, [batch]).ap == pytest.approx(1)
    assert average_precision(found, [replace(batch, ignored_labels=torch.full_like(labels, -1))]).ap < 0.2
    assert average_precision([_found([*inside, [4, 4, 12, 12]], [1] * 7 + [0])], [batch]).ap == pytest.approx(1), "of another class nothing is to be found"
    scores, right = judged(found, batch)
    assert scores.tolist() == [0.5] and right.tolist() == [True]


@pytest.mark.parametrize("num_crowds", [0, 2])
@pytest.mark.parametrize("seed", range(20))
def test_what_is_right_is_what_coco_says(seed: int, num_crowds: int) -> None:
    """Boxes of two classes on top of each other, the last of them crowds, scores far apart, by pycocotools' own matching."""
    generator = torch.Generator().manual_seed(seed)

    def boxes(num: int) -> Tensor:
        low = 12 * torch.rand(num, 2, generator=generator)
        return torch.cat([low, low + 8 + 8 * torch.rand(num, 2, generator=generator)], 1)

    true, found, size = boxes(5), boxes(12), torch.tensor([32.0, 32, 32, 32])
    true_labels, labels = (torch.randint(2, (num,), generator=generator) for num in (5, 12))
    scores = (torch.randperm(12, generator=generator) + 0.5) / 12
    cxcywh = torch.cat([true[:, :2] + true[:, 2:], 2 * (true[:, 2:] - true[:, :2])], 1) / 2 / size
    crowd = torch.arange(5) >= 5 - num_crowds
    object_labels, ignored_labels = (torch.where(where, true_labels, -1)[None] for where in (~crowd, crowd))
    batch = replace(_batch().rows(slice(1)), boxes_cxcywh=cxcywh[None], object_labels=object_labels, ignored_labels=ignored_labels)
    got, right = judged([Detections(found, scores, labels)], batch)
    matched, ignored = _coco_matches(true, true_labels, found, labels, scores, crowd)
    kept = [i for i in range(12) if i not in ignored]
    assert torch.equal(got, scores[kept]) and {i for i, hit in zip(kept, right.tolist(), strict=True) if hit} == matched - ignored


def _coco_matches(true: Tensor, true_labels: Tensor, found: Tensor, labels: Tensor, scores: Tensor, crowd: Tensor) -> tuple[set[int], set[int]]:
    """Which detections pycocotools matches at IoU .5, and which of them it ignores."""

    def entry(i: int, box: Tensor, label: Tensor, crowd: bool = False) -> dict[str, Any]:
        x0, y0, x1, y1 = box.double().tolist()
        w, h = x1 - x0, y1 - y0
        return {"id": i + 1, "image_id": 1, "category_id": int(label), "bbox": [x0, y0, w, h], "area": w * h, "iscrowd": int(crowd)}

    truth, answers = COCO(), COCO()
    heading = {"images": [{"id": 1}], "categories": [{"id": 0}, {"id": 1}]}
    truth.dataset = heading | {"annotations": [entry(i, *each) for i, each in enumerate(zip(true, true_labels, crowd.tolist(), strict=True))]}
    rows = zip(found, labels, strict=True)
    answers.dataset = heading | {"annotations": [entry(i, *pair) | {"score": float(scores[i])} for i, pair in enumerate(rows)]}
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        answers.createIndex()
        judge = COCOeval(truth, answers, "bbox")
        judge.evaluate()
    of_all_sizes = [each for each in judge.evalImgs if each and each["aRng"] == [0, 1e10]]
    matched, ignored = (
        {int(i) - 1 for each in of_all_sizes for i, found in zip(each["dtIds"], each[what][0], strict=True) if found} for what in ("dtMatches", "dtIgnore")
    )
    return matched, ignored


def test_score_calibration_error() -> None:
    """Of two bins: .9 where half is right, .3 where none is."""
    scores, right = torch.tensor([0.9, 0.9, 0.3, 0.3]), torch.tensor([True, False, False, False])
    assert score_calibration_error(scores, right) == pytest.approx((0.4 + 0.3) / 2)
    assert score_calibration_error(torch.tensor([1.0, 0.0]), torch.tensor([True, False])) == 0
    assert math.isnan(score_calibration_error(scores[:0], right[:0]))

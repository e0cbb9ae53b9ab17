"""COCO average precision: perfect, shifted, mislabelled and missing boxes."""

from __future__ import annotations

import pytest
import torch

from genrep.metrics.detection import average_precision
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
        boxes_cxcywh=BOXES,
        has_objects=torch.tensor(has_objects),
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


def test_nothing_found_is_zero() -> None:
    assert average_precision([_found([], []), _found([], [])], [_batch()]).ap50 == 0


def test_counts_must_match() -> None:
    with pytest.raises(ValueError, match="one entry per image"):
        average_precision(PERFECT[:1], [_batch()])

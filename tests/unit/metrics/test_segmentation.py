"""Mean IoU: hand counts, ignored pixels, torchmetrics."""

from __future__ import annotations

import pytest
import torch
from torchmetrics.functional.classification import multiclass_jaccard_index

from genrep.metrics.segmentation import pixel_confusion, segmentation
from genrep.types import IGNORE


def _random() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    predicted, truth = torch.randint(4, (2, 6, 8, 8), generator=generator, dtype=torch.uint8)
    truth[:, 0] = IGNORE
    return predicted, truth


def test_hand_count() -> None:
    truth = torch.tensor([[[0, 0, 1, 1], [0, 0, 1, IGNORE]]], dtype=torch.uint8)
    predicted = torch.tensor([[[0, 0, 1, 0], [0, 1, 1, 1]]], dtype=torch.uint8)
    found = segmentation(pixel_confusion(predicted, truth, num_values=3))
    assert found.per_value == [pytest.approx(3 / 5), pytest.approx(2 / 4), None]
    assert found.miou == pytest.approx((3 / 5 + 2 / 4) / 2)
    assert found.miou_foreground == pytest.approx(2 / 4)


def test_perfect_output() -> None:
    _, truth = _random()
    predicted = truth.masked_fill(truth == IGNORE, 0)
    assert segmentation(pixel_confusion(predicted, truth, num_values=4)).miou == 1


def test_is_torchmetrics() -> None:
    predicted, truth = _random()
    expected = multiclass_jaccard_index(predicted.long(), truth.long(), num_classes=4, ignore_index=IGNORE, average="none")
    found = segmentation(pixel_confusion(predicted, truth, num_values=4))
    assert found.per_value == pytest.approx(expected.tolist())
    assert found.miou_foreground == pytest.approx(float(expected[1:].mean()))


def test_batches_add_up() -> None:
    predicted, truth = _random()
    parts = sum(pixel_confusion(p, t, num_values=4) for p, t in zip(predicted.split(2), truth.split(2), strict=True))
    assert torch.equal(parts, pixel_confusion(predicted, truth, num_values=4))  # type: ignore[arg-type]

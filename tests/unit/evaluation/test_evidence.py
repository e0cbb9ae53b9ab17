"""The deletion test: pixels that a classifier rests on cost more than others, and what is deleted is what was named."""

from __future__ import annotations

import pytest
import torch
from rectangles import rectangles
from small_models import small_model
from torch import Tensor

from genrep.evaluation import evidence
from genrep.evaluation.evidence import deletion
from genrep.evaluation.judge import Judge, _Network
from genrep.model import GenRep
from genrep.posteriors.calibration import Calibration


class LeftAgainstRight(_Network):
    """Class 0 is brightness on the left, class 1 on the right."""

    def forward(self, pixels: Tensor) -> Tensor:
        left, right = pixels.chunk(2, dim=-1)
        return torch.stack([left.mean((1, 2, 3)), right.mean((1, 2, 3)), left.new_zeros(len(pixels)), left.new_zeros(len(pixels))], 1)


JUDGE = Judge("left against right", LeftAgainstRight(1, 4), 1)


@pytest.fixture
def model() -> GenRep:
    made = small_model()
    made.calibration = Calibration(tau=0.1, bias=(0.0,) * 4)
    return made


def test_evidence_is_as_good_as_the_pixels_it_names(model: GenRep, monkeypatch: pytest.MonkeyPatch) -> None:
    image = (torch.rand(6, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1).expand(-1, 3, -1, -1)
    label, rival = torch.zeros(6, dtype=torch.int64), torch.ones(6, dtype=torch.int64)
    monkeypatch.setattr(evidence, "_rivals", lambda *_: rival)
    of_judge = (image - image.mean(0)).mean(1) * torch.cat([torch.ones(8), -torch.ones(8)])
    asked: list[Tensor] = []
    monkeypatch.setattr(model, "evidence", lambda _, of, against, *, budget: asked.extend((of, against)) or of_judge)
    found = deletion(model, JUDGE, image, label)
    assert torch.equal(asked[0], label) and torch.equal(asked[1], rival) and list(found.lost) == ["evidence", "input gradients", "random"]
    assert found.more_than["random"].low > 0 and found.more_than["input gradients"].low > 0
    monkeypatch.setattr(model, "evidence", lambda *_, budget: -of_judge)
    assert deletion(model, JUDGE, image, label).more_than["random"].high < 0


def test_a_tenth_of_the_pixels_is_deleted_the_highest_first() -> None:
    image, named = torch.ones(2, 3, 16, 16), torch.arange(512.0).view(2, 16, 16)
    left = evidence._without(image, torch.zeros(1, 3, 16, 16), named)
    assert torch.equal(left[0, 0].flatten() == 0, torch.arange(256) >= 256 - 26) and torch.equal(left[0], left[1])


def test_the_rival_is_the_heads_favourite_but_never_the_label(model: GenRep) -> None:
    image = rectangles(8, size=16).batch(torch.arange(8)).image
    log_probs = model.perceive(image).class_log_probs
    best, second = log_probs.topk(2, dim=1).indices.unbind(1)
    assert torch.equal(evidence._rivals(model, image, best), second)
    assert torch.equal(evidence._rivals(model, image, second), best)


def test_gradients_are_those_of_the_heads_odds(model: GenRep) -> None:
    """On one image, moving all pixels a little towards the blank costs the sum of what is named."""
    image = rectangles(1, size=16).batch(torch.arange(1)).image * 0.9
    blank, label, rival = torch.zeros(1, 3, 16, 16), torch.tensor([0]), torch.tensor([2])

    def odds(pixels: Tensor) -> Tensor:
        log_probs = model.perceive(pixels).class_log_probs
        return log_probs[:, 0] - log_probs[:, 2]

    named = evidence._first_order(model, image, blank, label, rival)
    step = 1e-2
    torch.testing.assert_close(named.sum((1, 2)), (odds(image) - odds(image + step * (blank - image))) / step, rtol=0.05, atol=0.02)

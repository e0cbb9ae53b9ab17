"""What an evaluation says of the head, of the generative side, and of both together."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from rectangles import rectangles
from small_models import small_model
from torch import Tensor

from genrep.evaluation.perception import Seen, see
from genrep.evaluation.sides import measure_sides
from genrep.model import GenRep
from genrep.posteriors.calibration import Calibration
from genrep.posteriors.gate import Gate
from genrep.types import UNLABELLED

GATE = Gate(weight=0.9, standard_error=0.1, head=0.6)


def model_and_seen(gate: Gate | None = GATE) -> tuple[GenRep, Seen]:
    model = small_model()
    model.calibration, model.gate = Calibration(tau=0.1, bias=(0.0, 0.1, 0.2, 0.3)), gate
    return model, see(model, rectangles(12, size=16))


def test_the_three_are_measured_on_the_same_labelled_images() -> None:
    model, seen = model_and_seen()
    truth = replace(seen.truth, label=seen.truth.label.index_fill(0, torch.tensor([1, 4]), UNLABELLED))
    found = measure_sides(model, replace(seen, truth=truth), 5)
    rows, label = torch.tensor([0, 2, 3, 5, 6]), seen.truth.label[[0, 2, 3, 5, 6]]
    assert found.tables == {"n": 5, "set": seen.name}
    image, index = seen.truth.image[rows], seen.truth.index[rows]
    sides = {"": model.posterior(image, index=index), "head_": model.perceive(image).class_log_probs, "combined_": model.combined(image, index=index)}
    for prefix, log_probs in sides.items():
        assert found.figures[f"{prefix}top1"] == pytest.approx(float((log_probs.argmax(1) == label).double().mean()))
        assert found.figures[f"{prefix}nll"] == pytest.approx(float(-log_probs[torch.arange(5), label].double().mean()), rel=1e-3)
        assert 0 <= found.figures[f"{prefix}ece"] <= 1 and found.figures[f"{prefix}top1_low"] < found.figures[f"{prefix}top1_high"]


def test_the_gain_is_paired(monkeypatch: pytest.MonkeyPatch) -> None:
    """A posterior that knows the truth, beside a head that is always wrong: the product gains on all images, without doubt."""
    model, seen = model_and_seen(Gate(weight=1.0, standard_error=0.1, head=0.1))

    def sure(right: Tensor) -> Tensor:
        return (20.0 * torch.nn.functional.one_hot(right, 4)).log_softmax(1)

    wrong = replace(seen, perception=replace(seen.perception, class_log_probs=sure((seen.truth.label + 1) % 4)))
    monkeypatch.setattr(GenRep, "posterior", lambda self, image, *, index: sure(seen.truth.label))
    figures = measure_sides(model, wrong, 500).figures
    assert (figures["top1"], figures["head_top1"], figures["combined_top1"]) == (1.0, 0.0, 1.0)
    assert figures["combined_gain"] == figures["combined_gain_low"] == 1.0


def test_a_model_that_does_not_know_what_they_weigh_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = model_and_seen(gate=None)
    monkeypatch.setattr(GenRep, "log_likelihood", lambda *_, **__: pytest.fail("the network was asked"))
    assert not measure_sides(model, seen, 5).figures

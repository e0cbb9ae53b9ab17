"""Another mix of classes, and images of no class: what the bench says of them."""

from __future__ import annotations

import pytest
import torch
from rectangles import rectangles
from small_models import normal, small_model
from torch import Tensor

from genrep.evaluation import posterior_uses
from genrep.evaluation.figures import Figure
from genrep.evaluation.posterior_uses import prior_figures, stranger_figures, strangers
from genrep.model import GenRep
from genrep.types import Perception


def by_name(figures: list[Figure]) -> dict[str, Figure]:
    return {figure.name: figure for figure in figures}


def test_frequencies_are_found_where_probabilities_are_calibrated(monkeypatch: pytest.MonkeyPatch) -> None:
    """log q = 2 onehot + N(0, 2): the exact posterior of what it is made of, as is log p; the other way round there is nothing to find."""
    test = rectangles(800, size=16)
    batch = test.batch(posterior_uses.imbalanced(test.label, 4, most=150))
    evidence = (2 * torch.nn.functional.one_hot(batch.label, 4) + 2**0.5 * normal(len(batch.label), 4)).log_softmax(1)
    monkeypatch.setattr(GenRep, "perceive", lambda self, image: Perception(evidence, None, None))
    monkeypatch.setattr(GenRep, "posterior", lambda self, image, **options: torch.zeros(len(image), 4).log_softmax(1))
    found = by_name(prior_figures(small_model(), test, most=150, progress=lambda line: None))
    assert found["50 to 1, head: error of the frequencies found"].value < 0.1 < 0.4 < found["50 to 1, head: error of equal frequencies"].value
    assert found["50 to 1, head: accuracy gained by the frequencies found"].interval[0] > 0
    assert found["50 to 1, posterior: error of the frequencies found"].value == found["50 to 1, posterior: error of equal frequencies"].value


def test_strangers_are_told_by_what_tells_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def suspicions(model: GenRep, image: Tensor) -> dict[str, Tensor]:
        strange = image.flatten(1)[:, 0]
        return {"density": 9 * strange, "head": torch.zeros(len(image)), "divergence": -9 * strange}

    monkeypatch.setattr(posterior_uses, "_suspicions", suspicions)
    test = rectangles(30, size=16)
    found = by_name(stranger_figures(small_model(), test, {"ones": torch.ones(30, 3, 16, 16)}, num=30, progress=lambda line: None))
    assert [found[f"AUROC against ones: {kind}"].value for kind in ("density", "head", "divergence")] == [1.0, 0.5, 0.0]


def test_strangers_are_images_as_large_as_garments() -> None:
    others = strangers(5, (32, 32))
    assert all(images.shape == (5, 3, 32, 32) and images.abs().max() <= 1 for images in others.values())
    inside = others["digits"][:, 0, 2:-2, 2:-2]
    assert inside.amax((1, 2)).min() > 0.5 and (others["digits"][:, 0, :2] == -1).all()

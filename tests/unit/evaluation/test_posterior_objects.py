"""Objects of images, as their posterior and the head know them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from rectangles import rectangles
from small_models import small_model

from genrep.evaluation import posterior_objects
from genrep.evaluation.posterior_objects import object_figures
from genrep.posteriors import DenoisingGap


@pytest.mark.parametrize("batch", [3, 10])
def test_maps_that_favour_the_truth_name_every_object(monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    """Maps that are highest where the condition counts what there is, whatever batch an image comes in; a head that has learnt nothing."""
    test = rectangles(40, num_objects=3, size=16)
    labels = test.object_labels.clone()
    labels[::2, 1] = labels[::2, 0]
    test = replace(test, object_labels=labels)
    true = test.batch(torch.arange(len(test)))

    def maps(self: DenoisingGap, denoise: object, x0: torch.Tensor, held: torch.Tensor, **_: object) -> torch.Tensor:
        rows = [int((true.image[:, : x0.shape[1]] == image).flatten(1).all(1).nonzero()[0, 0]) for image in x0]
        wrong = (held - true.classes[rows][:, None]).abs().sum(-1)
        return -wrong[..., None, None].expand(*wrong.shape, *x0.shape[-2:])

    monkeypatch.setattr(posterior_objects, "BATCH", batch)
    monkeypatch.setattr(DenoisingGap, "maps", maps)
    figures = {figure.name: figure for figure in object_figures(small_model(), test, num=40, progress=lambda line: None)}
    assert figures["objects: accuracy of the posterior"].value == 1.0
    alike = figures["objects alike to another of their image: accuracy of the posterior"]
    assert alike.value == 1.0 and "; 40 of them" in alike.how
    low, high = figures["objects: accuracy of the head"].interval
    assert 0 <= low < figures["objects: accuracy of the head"].value < high < 0.7

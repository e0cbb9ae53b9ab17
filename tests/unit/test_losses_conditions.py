"""Perception -> generation where labels are few: what an image that nobody annotated is generated from."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from rectangles import rectangles
from small_models import small_model

from genrep.losses import conditions
from genrep.model import GenRep
from genrep.objective import ObjectiveConfig
from genrep.types import Features, Seen


def test_generation_asks_perception_what_an_unannotated_image_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    model, known = small_model(), rectangles(6, size=16).batch(torch.arange(6))
    unknown = torch.tensor([True, False, True, False, False, True])
    batch = replace(known, label=known.label.masked_fill(unknown, -1), has_objects=~unknown, classes=known.classes.masked_fill(unknown[:, None], 0.0))
    sure = torch.tensor([[0.0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 1]])
    asked = []

    def seen(self: GenRep, features: Features, confidence: float) -> Seen:
        asked.append((features.taps[0], confidence))
        return Seen(sure, torch.ones(3, dtype=torch.long))

    monkeypatch.setattr(GenRep, "seen", seen)
    taught = model.clean_features(model.encode(batch.image))
    y = conditions(model, batch, taught, config=ObjectiveConfig())
    assert torch.equal(y[unknown], sure) and torch.equal(y[~unknown], known.classes[~unknown])
    assert torch.equal(asked[0][0], taught.taps[0][unknown]) and asked[0][1] == ObjectiveConfig().pseudo_confidence
    for other in (replace(ObjectiveConfig(), pseudo_confidence=None), replace(ObjectiveConfig(), jobs=("generation",))):
        assert torch.equal(conditions(model, batch, taught, config=other), batch.classes)
    conditions(model, known, taught, config=ObjectiveConfig())
    assert len(asked) == 1
    other = small_model(seed=1)
    alone = replace(ObjectiveConfig(), jobs=("generation",))
    assert torch.equal(conditions(model, batch, taught, config=alone, labeller=other), y)
    assert torch.equal(asked[1][0], other.clean_features(other.encode(batch.image[unknown])).taps[0]) and not torch.equal(asked[1][0], asked[0][0])

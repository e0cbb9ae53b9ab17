"""Which classes are in a picture: learnt alone and beside detection, whose objects count, and taught class by class."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from rectangles import rectangles
from small_models import TRUNK, normal, small_config

from genrep.model import GenRep
from genrep.tasks import MultiLabel, run_tasks
from genrep.tasks.multilabel import LEAST, classes_by_any
from genrep.types import IGNORE, Batch, Features, FeatureSpec, Objects

SPEC = FeatureSpec(image_size=(32, 32), taps=(6,), tap_stride=4, stem=(4, 8), stem_strides=(1, 2))


@pytest.mark.parametrize("tasks", [("multilabel",), ("multilabel", "detection")], ids="+".join)
def test_class_sets_are_learnt_from_a_batch(tasks: tuple[str, ...]) -> None:
    single, several = rectangles(6, colour=True), rectangles(6, num_objects=3, colour=True, seed=1)
    batch = Batch.cat([single.batch(torch.arange(6)), several.batch(torch.arange(6))])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        trunk = replace(TRUNK, width=32, depth=2, stem_width=8, taps=(1, 2))
        model = GenRep(small_config(image_size=(32, 32), codec="pixels", trunk=trunk, tasks=tasks, proposals=8 if "detection" in tasks else 0))
    x0, optimizer = model.encode(batch.image), torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(40):
        outputs = run_tasks(model.tasks(), model.clean_features(x0))
        loss = torch.stack([term for _, head, output in outputs for term in head.loss(output, batch).values()]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    presence, present = model.perceive(batch.image).presence, batch.classes > 0
    assert torch.equal(presence > 0.5, present) and torch.where(present, presence, 1 - presence).min() > 0.8
    _, head, output = list(run_tasks(model.tasks(), model.clean_features(x0)))[-1]
    seen = head.seen(output, 0.8)
    assert torch.equal(seen.classes, present.float()) and torch.equal(seen.num_objects, present.sum(1))
    assert not head.seen(output, 1.0).classes.any()


def test_a_class_is_there_where_any_object_is_of_it() -> None:
    """Two objects, there by .8 and .5 at their surest pixel and of classes by chance; and an image without objects."""
    owner = torch.full((2, 3, 8, 8), -40.0)
    owner[0, 0, 1, 2], owner[0, 1, 5, 5] = torch.tensor([0.8, 0.5]).logit()
    logits = normal(2, 3, 4)
    of_first, of_second = logits[0, :2].softmax(-1)
    expected = 1 - (1 - 0.8 * of_first) * (1 - 0.5 * of_second)
    found = classes_by_any(Objects(logits, owner, torch.zeros(2, 3, 0)))
    torch.testing.assert_close(found[0].sigmoid(), expected)
    torch.testing.assert_close(found[1].sigmoid(), torch.full((4,), LEAST))
    spec = FeatureSpec(image_size=(32, 32), taps=(6,), tap_stride=4, stem=(4, 8), stem_strides=(1, 2))
    features = Features(taps=(normal(2, 6, 8, 8),), stem=(normal(2, 4, 32, 32), normal(2, 8, 16, 16)))
    head = MultiLabel(spec, 4)
    torch.testing.assert_close(head(replace(features, objects=Objects(logits, owner, torch.zeros(2, 3, 0)))), head(features) + found)


def test_that_a_class_is_there_is_taught_by_kl() -> None:
    """Class by class, to the posterior of the image's one class."""
    head, logits = MultiLabel(SPEC, 4, width=16), normal(5, 4).double().requires_grad_()
    probs = normal(5, 4, seed=1).double().softmax(1)
    divergence = head.distil_image(logits.float(), torch.arange(5), probs.float())
    q = logits.sigmoid()
    expected = (probs * (probs / q).log() + (1 - probs) * ((1 - probs) / (1 - q)).log()).sum(1)
    torch.testing.assert_close(divergence.double(), expected, rtol=1e-4, atol=1e-6)
    divergence.sum().backward()
    torch.testing.assert_close(logits.grad, q - probs, rtol=1e-4, atol=1e-6)
    assert head.distil_image(torch.zeros(1, 4), torch.arange(1), torch.eye(4)[:1]).isfinite().all()
    rounded = torch.tensor([[1.0000001, 0.0, 0.0, 0.0]])
    assert head.distil_image(torch.zeros(1, 4), torch.arange(1), rounded).isfinite().all()


def test_a_mask_without_gaps_says_what_is_there_where_nothing_else_does() -> None:
    scenes = rectangles(4, num_objects=2, size=16).batch(torch.arange(4))
    truth = scenes.classes > 0
    masks = replace(scenes.without(torch.ones(4, dtype=torch.bool)), semantic_mask=scenes.semantic_mask.clone())
    masks.semantic_mask[3, 0, 0] = IGNORE
    present, known = masks.class_sets
    assert known.tolist() == [True, True, True, False] and torch.equal(present[:3], truth[:3])
    present, known = scenes.class_sets
    assert known.all() and torch.equal(present, truth)
    assert not scenes.without(torch.ones(4, dtype=torch.bool)).class_sets[1].any()
    with_masks, with_objects = (MultiLabel(SPEC, 4).loss(normal(3, 4), batch.rows(slice(3)))["multilabel"] for batch in (masks, scenes))
    torch.testing.assert_close(with_masks, with_objects)

"""What one task finds and the next ones see."""

from __future__ import annotations

from dataclasses import replace

import torch
from rectangles import rectangles
from small_models import normal, small_config

from genrep.model import GenRep
from genrep.tasks import Classification, run_tasks
from genrep.tasks.classification import classes_by_share
from genrep.tasks.segmentation import classes_by_owner
from genrep.types import Features, FeatureSpec, Objects


def test_a_pixel_is_what_its_owner_is() -> None:
    owner = torch.full((1, 2, 1, 3), -40.0)
    owner[0, 0, 0, 0], owner[0, 1, 0, 1] = 40.0, 40.0
    classes = torch.tensor([[[1.0, -2.0, 0.5], [3.0, 4.0, 5.0]]])
    found = classes_by_owner(Objects(classes, owner, torch.zeros(1, 2, 0)))
    torch.testing.assert_close(found[0, :, 0].T, torch.tensor([[1.0, -2.0, 0.5], [3.0, 4.0, 5.0], [0.0, 0.0, 0.0]]))


def test_segmentation_sees_what_detection_found_in_whatever_order_they_are_named() -> None:
    names = ("segmentation", "detection")
    model = GenRep(small_config(image_size=(32, 32), codec="pixels", tasks=names, proposals=8))
    features = model.clean_features(torch.zeros(1, 3, 32, 32))
    outputs = {name: output for name, _, output in run_tasks(model.tasks(), features)}
    assert list(outputs) == ["detection", "segmentation"]
    offered = model.heads["detection"].offer(outputs["detection"])
    difference = outputs["segmentation"] - model.heads["segmentation"](features)
    torch.testing.assert_close(difference[:, 1:], classes_by_owner(offered))
    assert not difference[:, 0].any() and difference.abs().max() > 1e-3


def test_what_other_tasks_make_of_the_objects_does_not_teach_detection() -> None:
    model = GenRep(small_config(image_size=(32, 32), codec="pixels", proposals=8))
    batch = rectangles(4, num_objects=2, colour=True).batch(torch.arange(4))
    outputs = list(run_tasks(model.tasks(), model.clean_features(model.encode(batch.image))))
    sum(sum(task.loss(output, batch).values()) for name, task, output in outputs if name != "detection").backward()
    reached = {name.split(".")[1] for name, p in model.named_parameters() if p.grad is not None and name.startswith("heads.")}
    assert reached == {"classification", "segmentation"}


def test_an_image_is_what_its_objects_are_by_their_share_of_it() -> None:
    owner = torch.full((2, 3, 8, 8), -40.0)
    owner[0, 0, :, :6] = owner[0, 1, :, 6:] = 40.0
    logits = normal(2, 3, 4)
    found = classes_by_share(Objects(logits, owner, torch.zeros(2, 3, 0)))
    torch.testing.assert_close(found, torch.stack([0.75 * logits[0, 0] + 0.25 * logits[0, 1], torch.zeros(4)]))
    spec = FeatureSpec(image_size=(32, 32), taps=(6,), tap_stride=4, stem=(4, 8), stem_strides=(1, 2))
    features = Features(taps=(normal(2, 6, 8, 8),), stem=(normal(2, 4, 32, 32), normal(2, 8, 16, 16)))
    head = Classification(spec, 4)
    torch.testing.assert_close(head(replace(features, objects=Objects(logits, owner, torch.zeros(2, 3, 0)))), head(features) + found)

"""What the heads promise together: they learn, they ignore what is not labelled, and they are taught by KL(p || q)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from rectangles import rectangles
from small_models import TRUNK, normal, small_config
from torch import Tensor, nn
from torchvision.ops import box_iou

from genrep.boxes import to_xyxy_px
from genrep.losses import glimpse_loss
from genrep.model import GenRep
from genrep.objective import ObjectiveConfig
from genrep.tasks import TASKS, Classification, Detection, ObjectTargets, Segmentation, run_tasks
from genrep.tasks.base import Fuse, mean_where, shortlist_kl
from genrep.tasks.regions import RegionOutput
from genrep.types import IGNORE, UNLABELLED, Batch, Features, FeatureSpec

NUM_STEPS = 240
SPEC = FeatureSpec(image_size=(32, 32), taps=(6, 6), tap_stride=4, stem=(4, 8), stem_strides=(1, 2))
FEATURES = Features(taps=(normal(6, 6, 8, 8), normal(6, 6, 8, 8, seed=1)), stem=(normal(6, 4, 32, 32), normal(6, 8, 16, 16)))


def heads() -> dict[str, nn.Module]:
    """Each as if it were the only one; with this seed some of the detector's first proposals hit an object."""
    return {name: seeded(task, **({"num_proposals": 8} if name == "detection" else {})) for name, task in TASKS.items()}


def seeded(task: type[nn.Module], **options: Any) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return task(SPEC, 4, width=16, **options)


def unlabelled(batch: Batch) -> Batch:
    return replace(
        batch,
        label=torch.full_like(batch.label, UNLABELLED),
        classes=torch.zeros_like(batch.classes),
        object_labels=torch.full_like(batch.object_labels, UNLABELLED),
        boxes_cxcywh=torch.zeros_like(batch.boxes_cxcywh),
        has_objects=torch.zeros_like(batch.has_objects),
        semantic_mask=torch.full_like(batch.semantic_mask, IGNORE),
        instance_mask=torch.full_like(batch.instance_mask, IGNORE),
        inv_depth=torch.full_like(batch.inv_depth, float("nan")),
    )


def leaves(output: object, rows: slice) -> tuple[object, list[Tensor]]:
    """A head's output for some rows, cut from the network, and those of its tensors that learn."""
    if isinstance(output, Tensor):
        leaf = output[rows].detach()
        learns = leaf.is_floating_point()
        return leaf.requires_grad_(learns), [leaf] if learns else []
    parts = {name: leaves(value, rows) for name, value in vars(output).items()}
    if isinstance(output, RegionOutput):
        parts |= {name: (parts[name][0].requires_grad_(False), []) for name in ("proposals_xyxy_px", "looked_at_xyxy_px", "seen")}
    return type(output)(**{name: part for name, (part, _) in parts.items()}), [leaf for _, found in parts.values() for leaf in found]


@dataclass(frozen=True)
class Learnt:
    model: GenRep
    batch: Batch


@pytest.fixture(scope="module", params=[0, 8], ids=["one look", "two looks"])
def learnt(request: pytest.FixtureRequest) -> Iterator[Learnt]:
    """A small trunk with all three heads, after `NUM_STEPS` on one batch of single and of several objects."""
    single, several = rectangles(6, colour=True), rectangles(6, num_objects=3, colour=True, seed=1)
    batch = Batch.cat([single.batch(torch.arange(6)), several.batch(torch.arange(6))])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        trunk = replace(TRUNK, width=32, depth=2, stem_width=8, taps=(1, 2))
        model = GenRep(small_config(image_size=(32, 32), codec="pixels", trunk=trunk, proposals=request.param))
    x0 = model.encode(batch.image)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    fading = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, NUM_STEPS)
    for _ in range(NUM_STEPS):
        features = model.clean_features(x0)
        loss = torch.stack([term for _, head, output in run_tasks(model.tasks(), features) for term in head.loss(output, batch).values()]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        fading.step()
    yield Learnt(model, batch)


def test_classification_overfits_a_batch(learnt: Learnt) -> None:
    log_probs = learnt.model.perceive(learnt.batch.image).class_log_probs
    assert log_probs is not None
    torch.testing.assert_close(log_probs.exp().sum(1), torch.ones(12))
    assert torch.equal(log_probs[:6].argmax(1), learnt.batch.label[:6]) and log_probs[:6].amax(1).exp().min() > 0.9


def test_detection_overfits_a_batch(learnt: Learnt) -> None:
    """Every object is found once, in its place, as what it is, and nothing else is."""
    found = learnt.model.perceive(learnt.batch.image).detections
    assert found is not None
    truth = to_xyxy_px(learnt.batch.boxes_cxcywh, (32, 32))
    for detections, labels, boxes in zip(found, learnt.batch.object_labels, truth, strict=True):
        sure = detections.scores > 0.4
        overlap = _iou(boxes[labels >= 0], detections.boxes_xyxy_px[sure])
        assert overlap.shape[0] == overlap.shape[1]
        best, which = overlap.max(1)
        assert best.min() > 0.85 and torch.equal(detections.labels[sure][which], labels[labels >= 0])
        assert detections.scores.diff().le(0).all()


def _iou(a: Tensor, b: Tensor) -> Tensor:
    low, high = torch.maximum(a[:, None, :2], b[None, :, :2]), torch.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    area_a, area_b = ((box[:, 2:] - box[:, :2]).prod(-1) for box in (a, b))
    return shared / (area_a[:, None] + area_b - shared)


def test_a_learnt_batch_is_seen_as_it_is(learnt: Learnt) -> None:
    """By detection, which is asked first: the classes of all objects and how many they are; and by classification alone."""
    batch, features = learnt.batch, learnt.model.clean_features(learnt.model.encode(learnt.batch.image))
    seen = learnt.model.seen(features, 0.8)
    assert torch.equal(seen.classes, batch.classes) and torch.equal(seen.num_objects, (batch.object_labels >= 0).sum(1))
    assert not learnt.model.seen(features, 1.0).classes.any()
    found = seen.objects
    for image, labels in enumerate(batch.object_labels):
        there = found.labels[image] >= 0
        best, which = _iou(*(to_xyxy_px(boxes, (32, 32)) for boxes in (batch.boxes_cxcywh[image][labels >= 0], found.boxes_cxcywh[image][there]))).max(1)
        assert best.min() > 0.85 and torch.equal(found.labels[image][there][which], labels[labels >= 0])
        slots = torch.cat([torch.zeros(1, dtype=torch.uint8), which.to(torch.uint8) + 1])
        right = slots[batch.instance_mask[image].long()] == found.instance_mask[image]
        assert right.float().mean() > 0.95 if learnt.model.heads["detection"].regions else (found.instance_mask[image] == IGNORE).all()
    outputs = {name: (head, output) for name, head, output in run_tasks(learnt.model.tasks(), features)}
    head, output = outputs["classification"]
    assert torch.equal(head.seen(output, 0.8).classes[:6], batch.classes[:6])
    assert outputs["segmentation"][0].seen(outputs["segmentation"][1], 0.8) is None


def test_objects_of_one_class_are_counted(learnt: Learnt) -> None:
    head = learnt.model.heads["detection"]
    output = head(learnt.model.clean_features(learnt.model.encode(learnt.batch.image)))
    look = output.regions or output
    alike = replace(look, class_logits=torch.zeros_like(look.class_logits).index_fill(-1, torch.tensor([2]), 20.0))
    seen = head.seen(replace(output, regions=alike) if output.regions else alike, 0.8)
    assert seen.num_objects.max() == 3 and torch.equal(seen.classes, seen.num_objects[:, None] * torch.eye(4)[2])


def test_segmentation_overfits_a_batch(learnt: Learnt) -> None:
    mask = learnt.model.perceive(learnt.batch.image).semantic_mask
    assert mask is not None
    for value in range(5):
        found, truth = mask == value, learnt.batch.semantic_mask == value
        assert (found & truth).sum() / (found | truth).sum() > 0.9


@pytest.mark.parametrize("name", TASKS)
def test_unlabelled_images_change_neither_loss_nor_gradient(name: str) -> None:
    head, data = heads()[name], rectangles(6, num_objects=1)
    batch = data.batch(torch.arange(6))
    partly = Batch.cat([batch.rows(slice(4)), unlabelled(batch.rows(slice(4, 6)))])
    few, few_leaves = leaves(head(FEATURES), slice(4))
    many, many_leaves = leaves(head(FEATURES), slice(6))
    alone, together = head.loss(few, batch.rows(slice(4))), head.loss(many, partly)
    assert list(alone) == list(together)
    for term in alone:
        torch.testing.assert_close(together[term], alone[term])
    sum(alone.values()).backward()
    sum(together.values()).backward()
    for some, all_of_them in zip(few_leaves, many_leaves, strict=True):
        torch.testing.assert_close(all_of_them.grad[:4], some.grad)
        assert some.grad.abs().max() > 0 and not all_of_them.grad[4:].any()


@pytest.mark.parametrize("name", TASKS)
def test_a_batch_without_labels_costs_nothing_and_teaches_nothing(name: str) -> None:
    head, batch = heads()[name], unlabelled(rectangles(6).batch(torch.arange(6)))
    total = sum(head.loss(head(FEATURES), batch).values())
    total.backward()
    assert total == 0 and not any(parameter.grad.any() for parameter in head.parameters())


def test_ignored_pixels_teach_nothing() -> None:
    head, batch = heads()["segmentation"], rectangles(6).batch(torch.arange(6))
    mask = batch.semantic_mask.clone()
    mask[:, 5:9] = IGNORE
    output, (leaf,) = leaves(head(FEATURES), slice(6))
    head.loss(output, replace(batch, semantic_mask=mask))["segmentation"].backward()
    assert not leaf.grad[:, :, 5:9].any() and leaf.grad[:, :, 9:].any()


def test_losses_are_means_over_images() -> None:
    batch = rectangles(6).batch(torch.arange(6))
    for name in ("classification", "multilabel", "segmentation"):
        head = heads()[name]
        output = head(FEATURES)
        each = [head.loss(output[i : i + 1], batch.rows(slice(i, i + 1)))[name] for i in range(6)]
        torch.testing.assert_close(head.loss(output, batch)[name], torch.stack(each).mean())


def test_image_posteriors_are_taught_by_kl() -> None:
    head, logits = Classification(SPEC, 4, width=16), normal(5, 4).double().requires_grad_()
    probs = normal(5, 4, seed=1).double().softmax(1)
    divergence = head.distil_image(logits.float(), torch.arange(5), probs.float())
    expected = (probs * (probs.log() - logits.log_softmax(1))).sum(1)
    torch.testing.assert_close(divergence.double(), expected, rtol=1e-4, atol=1e-6)
    divergence.sum().backward()
    torch.testing.assert_close(logits.grad, logits.softmax(1) - probs, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(head.distil_image(probs.log().float(), torch.arange(5), probs.float()), torch.zeros(5), rtol=0, atol=1e-6)
    certain = torch.eye(4)[:1]
    assert head.distil_image(torch.zeros(1, 4), torch.arange(1), certain).isfinite().all()


def test_shortlists_are_taught_among_themselves() -> None:
    logits = normal(3, 6).requires_grad_()
    candidates = torch.tensor([[0, 1], [5, 2], [3, 4]])
    probs = torch.tensor([[0.9, 0.1], [0.5, 0.5], [1.0, 0.0]])
    found = shortlist_kl(logits, ObjectTargets(torch.zeros(3), torch.zeros(3), candidates, probs))
    for r in range(3):
        q = logits[r, candidates[r]].exp() / logits[r, candidates[r]].exp().sum()
        naive = sum(float(p) * (float(p.log()) - float(q_k.log())) for p, q_k in zip(probs[r], q.detach(), strict=True) if p > 0)
        assert float(found[r].detach()) == pytest.approx(naive, abs=1e-5)
    found.sum().backward()
    outside = torch.ones(3, 6).scatter(1, candidates, 0.0).bool()
    assert not logits.grad[outside].any() and logits.grad[~outside].abs().min() > 0


def test_object_posteriors_are_taught_where_the_objects_are() -> None:
    """Detection: at the tokens matched to the object. Segmentation: on the pixels of its mask. Both as means over those places."""
    batch = rectangles(6, num_objects=2).batch(torch.arange(6))
    targets = ObjectTargets(
        row=torch.tensor([0, 0, 3]), slot=torch.tensor([0, 1, 1]), candidates=torch.tensor([[0, 1], [3, 1], [2, 0]]), probs=torch.tensor([[0.7, 0.3]] * 3)
    )
    detection, segmentation = heads()["detection"], heads()["segmentation"]
    assert isinstance(detection, Detection) and isinstance(segmentation, Segmentation)
    boxes, found_leaves = leaves(detection(FEATURES), slice(6))
    pixels, (mask_logits,) = leaves(segmentation(FEATURES), slice(6))
    of_boxes, of_pixels = detection.distil_objects(boxes, batch, targets), segmentation.distil_objects(pixels, batch, targets)
    said = detection.object_logits(boxes, batch)
    for r, (row, which) in enumerate(zip(targets.row, targets.slot, strict=True)):
        inside = mask_logits[row, 1:, batch.instance_mask[row] == which + 1].T
        for found, places in ((of_boxes, said[row, which][None]), (of_pixels, inside)):
            log_q = places[:, targets.candidates[r]].log_softmax(1)
            naive = (targets.probs[r] * (targets.probs[r].log() - log_q)).sum(1).mean()
            torch.testing.assert_close(found[r], naive)
    (of_boxes.sum() + of_pixels.sum()).backward()
    taught = [leaf for leaf in found_leaves if leaf.grad is not None and leaf.grad.any()]
    assert taught and all(any(leaf is logits for logits in (boxes.class_logits, boxes.regions.class_logits)) for leaf in taught)
    assert not mask_logits.grad[:, 0].any() and not mask_logits.grad[1:3].any() and not any(leaf.grad[1:3].any() for leaf in taught)


def test_glimpses_teach_detection_and_segmentation_without_the_blocks() -> None:
    batch = rectangles(16, num_objects=2, colour=True).batch(torch.arange(16))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = GenRep(small_config(image_size=(32, 32), codec="pixels", proposals=8))
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    first = glimpse_loss(model, batch, config=ObjectiveConfig())
    for _ in range(40):
        optimizer.zero_grad()
        glimpse_loss(model, batch, config=ObjectiveConfig()).backward()
        optimizer.step()
    reached = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    stem = {name for name, _ in model.named_parameters() if name.startswith("denoiser.trunk.stem.")}
    of_heads = {
        name for name, _ in model.named_parameters() if name.startswith(("scan.", "heads.detection.", "heads.segmentation.")) and ".fuse.mix." not in name
    }
    assert reached - stem == of_heads and reached & stem
    assert glimpse_loss(model, batch, config=ObjectiveConfig()) < 0.5 * first
    assert glimpse_loss(model, unlabelled(batch), config=ObjectiveConfig()) == 0
    seen = model.heads["detection"](model.glimpse(model.encode(batch.image)))
    boxes = to_xyxy_px(batch.boxes_cxcywh, (32, 32))
    found = [box_iou(d.boxes_xyxy_px, boxes[i, :2]).amax(0) for i, d in enumerate(model.heads["detection"].results(seen))]
    assert torch.cat(found).median() > 0.5


def test_means_over_labelled_rows() -> None:
    value = torch.tensor([1.0, 2.0, 6.0], requires_grad=True)
    assert mean_where(value, torch.tensor([True, False, True])) == 3.5
    nobody = mean_where(value, torch.zeros(3, dtype=torch.bool))
    nobody.backward()
    assert nobody == 0 and not value.grad.any()


def test_fuse_mixes_every_position_alone() -> None:
    fuse = Fuse(SPEC, 5)
    moved = Features(tuple(tap.roll((3, 2), (2, 3)) for tap in FEATURES.taps), FEATURES.stem)
    torch.testing.assert_close(fuse(moved), fuse(FEATURES).roll((3, 2), (2, 3)))

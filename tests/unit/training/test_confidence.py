"""How sure heads may be: what made the labels is found again, nothing else of the answers changes, and any data leave it finite."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from rectangles import rectangles
from small_models import small_model

from genrep.metrics.classification import expected_calibration_error, negative_log_likelihood
from genrep.metrics.detection import average_precision, judged, score_calibration_error
from genrep.tasks import run_tasks
from genrep.tasks.confidence import Confidence
from genrep.training.confidence import fit_classes, fit_confidence, fit_scores, objects_told
from genrep.types import UNLABELLED, Detections

VAL = rectangles(40, num_objects=1, size=16).batch(torch.arange(40))


def labelled(slope: float, num: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """log-probabilities of a head that is 1 / slope times too sure, and labels."""
    generator = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(num, 5, generator=generator)
    label = torch.multinomial((slope * logits).softmax(1), 1, generator=generator).squeeze(1)
    return logits.log_softmax(1), label


@pytest.mark.parametrize("slope", [0.3, 1.0, 2.0])
def test_the_slope_that_made_the_labels_is_found(slope: float) -> None:
    found = fit_classes(*labelled(slope, 20_000, 0))
    assert found.slope == pytest.approx(slope, rel=0.05) and found.offset == 0


def test_what_a_few_images_say_holds_for_others() -> None:
    """256 images, as a run fits on: the error of others falls by half or more, and their log-loss."""
    found, (log_probs, label) = fit_classes(*labelled(0.3, 256, 0)), labelled(0.3, 5_000, 1)
    after = found.of_classes(log_probs)
    assert torch.equal(after.argmax(1), log_probs.argmax(1))
    assert expected_calibration_error(after, label) < expected_calibration_error(log_probs, label) / 2
    assert negative_log_likelihood(after, label) < negative_log_likelihood(log_probs, label)


def test_slope_and_offset_that_made_scores_right_are_found() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(20_000, generator=generator)
    right = torch.rand(len(scores), generator=generator) < (0.6 * torch.logit(scores) - 1).sigmoid()
    found = fit_scores(scores, right)
    assert found.slope == pytest.approx(0.6, abs=0.05) and found.offset == pytest.approx(-1, abs=0.05)
    assert score_calibration_error(found.of_scores(scores), right) < 0.02 < 0.15 < score_calibration_error(scores, right)


@pytest.mark.parametrize("right", [True, False])
def test_heads_that_are_never_or_always_right_stay_finite(right: bool) -> None:
    log_probs = torch.tensor([[0.0, -30.0, -40.0]]).repeat(8, 1)
    slopes = [fit_classes(log_probs, torch.full((8,), 0 if right else 1)).slope]
    of_scores = fit_scores(torch.ones(8), torch.full((8,), right))
    assert all(0 < slope < 1e4 for slope in (*slopes, of_scores.slope)) and abs(of_scores.offset) < 1e4
    assert torch.isfinite(of_scores.of_scores(torch.tensor([0.0, 0.5, 1.0]))).all()


def test_the_order_of_scores_stays_and_with_it_average_precision() -> None:
    model = small_model(tasks=("detection",))
    before = model.perceive(VAL.image).detections
    model.heads["detection"].confidence = Confidence(slope=0.4, offset=-1.5)
    after = model.perceive(VAL.image).detections
    for one, other in zip(before, after, strict=True):
        assert torch.equal(one.boxes_xyxy_px, other.boxes_xyxy_px) and torch.equal(one.labels, other.labels)
        assert not torch.equal(one.scores, other.scores) and (other.scores.diff() <= 0).all()
    assert average_precision(after, [VAL]) == average_precision(before, [VAL])


@pytest.mark.parametrize("proposals", [0, 4])
def test_a_detected_object_s_class_is_as_sure_as_its_slope_allows(proposals: int) -> None:
    """A score is objectness times the probability of a class: of few labels sharp, so that a second guess is hardly ranked at all."""
    model = small_model(tasks=("detection",), proposals=proposals)
    head = model.heads["detection"]
    *_, (_, _, output) = run_tasks(model.tasks(), model.clean_features(model.encode(VAL.image)))
    softer = replace(output, class_logits=output.class_logits / 4)
    if output.regions:
        softer = replace(softer, regions=replace(output.regions, class_logits=output.regions.class_logits / 4))
    asked, sharp = head.results(softer, floor=0.0), head.results(output, floor=0.0)
    head.confidence = Confidence(of_object=0.25)
    for got, one, other in zip(head.results(output, floor=0.0), asked, sharp, strict=True):
        assert torch.equal(got.scores, one.scores) and torch.equal(got.labels, one.labels) and torch.equal(got.boxes_xyxy_px, one.boxes_xyxy_px)
        assert not torch.equal(got.scores, other.scores)
    told, labels = objects_told(model, VAL)
    assert float(told.exp().sum(1).sub(1).abs().max()) < 1e-5 and torch.equal(labels, VAL.object_labels[VAL.object_labels != UNLABELLED])


def test_a_fitted_model_says_what_validation_allows_however_often_it_is_fitted() -> None:
    model = small_model(tasks=("detection", "classification", "segmentation"))
    truth = rectangles(40, num_objects=1, size=16).batch(torch.arange(40))
    raw = model.perceive(truth.image)
    events = fit_confidence(model, truth)
    seen = model.perceive(truth.image)
    assert [(event["task"], event["num"]) for event in events] == [("classification", 40), ("detection", sum(len(found.scores) for found in seen.detections))]
    fitted = {name: head.confidence for name, head in model.tasks()}
    torch.testing.assert_close(seen.class_log_probs, (fitted["classification"].slope * raw.class_log_probs).log_softmax(1))
    assert negative_log_likelihood(seen.class_log_probs, truth.label) < negative_log_likelihood(raw.class_log_probs, truth.label)
    told, labels = objects_told(model, truth)
    assert len(labels) == int((truth.object_labels != UNLABELLED).sum()) and fitted["detection"].of_object == fit_classes(told, labels).slope != 1
    scores, right = judged(seen.detections, truth)
    assert float(scores.mean()) == pytest.approx(float(right.float().mean()), abs=0.01)
    assert fit_confidence(model, truth) == events and {name: head.confidence for name, head in model.tasks()} == fitted
    assert fitted["segmentation"] == Confidence()


def test_what_is_not_annotated_leaves_heads_as_sure_as_they_are() -> None:
    model = small_model(tasks=("detection", "classification"))
    model.heads["classification"].confidence = Confidence(slope=0.5)
    unknown = torch.full_like(VAL.label, UNLABELLED)
    nothing = replace(VAL, label=unknown, has_objects=torch.zeros_like(VAL.has_objects))
    assert fit_confidence(model, nothing) == []
    assert all(head.confidence == Confidence() for _, head in model.tasks())


def test_a_wrong_overlap_or_class_is_not_right_and_an_object_is_found_once() -> None:
    batch = rectangles(2, num_objects=1, size=16).batch(torch.arange(2))
    size = torch.tensor([16.0, 16, 16, 16])
    centre, extent = (batch.boxes_cxcywh[0, 0] * size).split(2)
    box, label = torch.cat([centre - extent / 2, centre + extent / 2]), int(batch.object_labels[0, 0])
    beside = box + torch.tensor([extent[0], 0, extent[0], 0]) * 0.4  # IoU .6 / 1.4
    found = Detections(torch.stack([box, box, box, beside]), torch.tensor([0.6, 0.9, 0.8, 0.95]), torch.tensor([label, label, (label + 1) % 4, label]))
    none = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    scores, right = judged([found, none], batch)
    assert right.tolist() == [False, True, False, False] and torch.equal(scores, found.scores)
    unknown = replace(batch, has_objects=torch.tensor([False, True]))
    assert not len(judged([found, none], unknown)[0])

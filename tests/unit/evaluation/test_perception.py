"""A model that sees exactly what is there has every figure at its best, and what is missing is said."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from rectangles import rectangles
from torch.nn.functional import one_hot

from genrep.boxes import to_xyxy_px
from genrep.datasets import ArrayDataset
from genrep.evaluation.evaluate import homes_of
from genrep.evaluation.perception import Seen, agreement, measure_classification, measure_depth, measure_detection, measure_multilabel, measure_segmentation
from genrep.types import IGNORE, UNLABELLED, Detections, Perception

NAMES = ("a", "b", "c", "d")


def perfect(data: ArrayDataset) -> Seen:
    truth = data.batch(torch.arange(len(data)))
    found = []
    for boxes, labels in zip(to_xyxy_px(truth.boxes_cxcywh, data.image_size), truth.object_labels, strict=True):
        used = labels >= 0
        found.append(Detections(boxes[used], torch.ones(int(used.sum())), labels[used]))
    log_probs = one_hot(truth.label.clamp(min=0), 4).float().mul(50).log_softmax(1)
    return Seen(data.name, truth, Perception(log_probs, found, truth.semantic_mask, truth.inv_depth, (truth.classes > 0).float()))


SINGLE, SCENES = perfect(rectangles(12, name="single")), perfect(rectangles(12, num_objects=3, name="scenes"))


def test_perfect_output() -> None:
    found = measure_classification(SINGLE, NAMES)
    assert (found.figures["top1"], found.figures["top1_high"]) == (1, 1)
    assert found.figures["ece"] == pytest.approx(0, abs=1e-6) and "auroc" not in found.figures
    assert found.tables["confusion"] == (3 * torch.eye(4, dtype=torch.int64)).tolist()
    assert measure_detection(SCENES, NAMES).figures == {"ap": pytest.approx(1), "ap50": pytest.approx(1), "ece": pytest.approx(0, abs=1e-6)}
    sets = measure_multilabel(SCENES, NAMES)
    assert {name: sets.figures[name] for name in ("map", "map_low", "f1", "ece")} == {"map": 1, "map_low": 1, "f1": 1, "ece": 0}
    assert sets.tables["per_class"] == {name: {"ap": 1} for name in NAMES}
    assert measure_segmentation(SCENES, NAMES).figures == {"miou": 1, "miou_foreground": 1}
    depth = measure_depth(SCENES, NAMES).figures
    assert (depth["abs_rel"], depth["rmse_m"], depth["delta1"], depth["delta1_low"]) == (0, 0, 1, 1)
    assert agreement(SCENES).tolist() == [1.0] * 12


def test_agreement_counts_missed_invented_and_confused_pixels() -> None:
    truth = torch.zeros(3, 32, 32, dtype=torch.uint8)
    truth[:, 0, :4] = 2
    found = truth.clone()
    found[0, 0, :2] = 0  # missed
    found[1, 1, :4] = 2  # invented
    found[2, 0, :3] = 1  # confused
    few = SCENES.truth.rows(slice(3))
    seen = Seen("scenes", replace(few, semantic_mask=truth), Perception(None, None, found))
    assert agreement(seen).tolist() == [0.5, 0.5, 0.25]
    bare = replace(seen, truth=replace(seen.truth, semantic_mask=torch.full_like(truth, IGNORE)))
    assert agreement(bare).isnan().all(), "of a mask that nobody knows"


@pytest.mark.parametrize("measure", [measure_classification, measure_multilabel, measure_detection, measure_segmentation, measure_depth])
def test_a_missing_head_is_said(measure: object) -> None:
    blind = Seen("single", SINGLE.truth, Perception(None, None, None))
    found = measure(blind, NAMES)  # type: ignore[operator]
    assert not found.figures and "no such head" in found.notes[0]


def test_missing_annotations_are_said() -> None:
    assert "no labels of single images" in measure_classification(SCENES, NAMES).notes[0]
    unknown = rectangles(4).with_labels_for(torch.zeros(4, dtype=torch.bool))
    seen = Seen("unknown", unknown.batch(torch.arange(4)), SINGLE.perception)
    assert "no images of several classes" in measure_multilabel(SINGLE, NAMES).notes[0]
    assert "no annotated objects" in measure_detection(seen, NAMES).notes[0]
    assert "no masks" in measure_segmentation(seen, NAMES).notes[0]
    assert "no depth" in measure_depth(seen, NAMES).notes[0]


def test_relative_depth_is_measured_once_a_line_was_laid_through_the_truth() -> None:
    """From 0, the farthest, as such models say it."""
    truth = SCENES.truth.inv_depth
    nearness = 5 * (truth - truth[truth.isfinite()].amin()).nan_to_num()
    assert bool((nearness[truth.isfinite()] == 0).any())
    found = measure_depth(replace(SCENES, relative=True, perception=Perception(None, None, None, nearness)), NAMES).figures
    assert found["abs_rel"] == pytest.approx(0, abs=1e-5) and found["delta1"] == 1 and all(map(math.isfinite, found.values()))


def test_annotated_images_without_an_object_have_no_figure_of_detection() -> None:
    empty = replace(SCENES, truth=replace(SCENES.truth, object_labels=torch.full_like(SCENES.truth.object_labels, UNLABELLED)))
    assert measure_detection(empty, NAMES).figures.keys() == {"ece"}


def test_of_layered_objects_the_order_counts() -> None:
    """Two that touch, the second before the first; a third by itself."""
    mask = torch.zeros(2, 32, 32, dtype=torch.uint8)
    mask[:, 4:12, 4:12], mask[:, 8:16, 8:16], mask[:, 20:24, 20:24] = 1, 2, 3
    truth = replace(SCENES.truth.rows(slice(2)), instance_mask=mask)
    nearness = torch.stack([mask[0].float(), 3.0 - mask[0]])
    found = measure_depth(Seen("layers", truth, Perception(None, None, None, nearness), layered=True), NAMES)
    assert found.figures["order"] == 0.5 and found.tables["pairs"] == 2
    apart = Seen("layers", replace(truth, instance_mask=mask * (mask != 2)), Perception(None, None, None, nearness), layered=True)
    assert "no two objects touch" in measure_depth(apart, NAMES).notes[0]


def test_figures_without_prefix_come_from_single_images_and_from_scenes() -> None:
    of_scenes = dict.fromkeys(("multilabel", "detection", "segmentation", "depth"), "scenes")
    assert homes_of([SINGLE, SCENES]) == {"classification": "single", **of_scenes}
    assert set(homes_of([SINGLE]).values()) == {"single"}
    assert homes_of([SCENES])["classification"] is None

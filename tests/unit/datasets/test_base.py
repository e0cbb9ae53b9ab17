from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from rectangles import rectangles

from genrep.datasets.base import MOST_CLASSES, ArrayDataset, boxes_of, class_counts, labelled_rows, of_class_sets, painted
from genrep.types import IGNORE, UNLABELLED, Batch


def test_boxes_of_masks() -> None:
    mask = torch.zeros(2, 4, 8, dtype=torch.uint8)
    mask[0, 1:3, 2:8] = 1
    mask[1, 3, 0] = 2
    boxes = boxes_of(mask, 2)
    assert boxes[0].tolist() == [[5 / 8, 0.5, 6 / 8, 0.5], [0, 0, 0, 0]]
    assert boxes[1].tolist() == [[0, 0, 0, 0], [0.5 / 8, 3.5 / 4, 1 / 8, 1 / 4]]


def test_labelled_rows_are_nested_and_fixed() -> None:
    few, many = labelled_rows(1000, 10, seed=0), labelled_rows(1000, 100, seed=0)
    assert few.sum() == 10 and many.sum() == 100
    assert not (few & ~many).any()
    assert torch.equal(few, labelled_rows(1000, 10, seed=0))
    assert not torch.equal(few, labelled_rows(1000, 10, seed=1))
    with pytest.raises(ValueError, match="from 0 to 1000"):
        labelled_rows(1000, 1001, seed=0)


def test_rows_are_samples_by_index_by_truth_value_and_by_slice() -> None:
    data = rectangles(6, num_objects=2)
    where = torch.tensor([4, 1])
    picked = data.rows(where).batch(torch.arange(2))
    assert torch.equal(picked.image, data.batch(where).image) and torch.equal(picked.boxes_cxcywh, data.batch(where).boxes_cxcywh)
    assert torch.equal(data.rows(slice(3)).pixels, data.first(3).pixels)
    assert len(data.rows(torch.tensor([True, False] * 3))) == 3


def test_objects_are_counted_and_a_label_is_one_at_least() -> None:
    objects = torch.tensor([[1, 1, 2], [1, -1, -1], [-1, -1, -1], [-1, -1, -1]])
    counts = class_counts(torch.tensor([-1, 1, 0, -1]), objects, 3)
    assert counts.tolist() == [[0, 2, 1], [0, 1, 0], [1, 0, 0], [0, 0, 0]]


def test_class_sets_are_known_without_objects_until_they_are_removed() -> None:
    """None is not the same as unknown, and one alone is a label; beside sets of objects they make one batch."""
    pixels = rectangles(4).pixels
    data = of_class_sets("sets", rectangles(4).class_names, pixels, [{0, 2}, {1}, set(), None], 4)
    batch = data.batch(torch.arange(4))
    present, known = batch.class_sets
    assert present.int().tolist() == [[1, 0, 1, 0], [0, 1, 0, 0], [0] * 4, [0] * 4] and known.tolist() == [True, True, True, False]
    assert batch.label.tolist() == [UNLABELLED, 1, UNLABELLED, UNLABELLED] and batch.single.tolist() == [False, True, False, False]
    assert batch.unannotated.tolist() == [False, False, False, True] == (~data.annotated).tolist() and not batch.has_objects.any()
    few = data.with_labels_for(torch.tensor([False, True, True, True]))
    assert few.annotated.tolist() == [False, True, True, False] and not few.batch(torch.arange(1)).classes.any()
    assert batch.without(torch.tensor([True] * 4)).unannotated.all()
    both = Batch.cat([batch, rectangles(2).with_slots(4).batch(torch.arange(2))])
    assert both.class_sets[1].tolist() == [True, True, True, False, True, True]


def test_classes_may_be_numbered_in_another_order() -> None:
    """What is known of each picture stays what it is, by name."""
    data = rectangles(12, num_objects=2)
    other = data.in_order(data.class_names[::-1])
    assert other.class_names == data.class_names[::-1] and data.in_order(data.class_names) is data and data.in_order(("x", *data.class_names[1:])) is data
    assert other.in_order(data.class_names).class_names == data.class_names

    def named(each: ArrayDataset) -> list[object]:
        name = {UNLABELLED: "", **dict(enumerate(each.class_names))}
        pixels = {0: "nothing", IGNORE: "", **{i + 1: name[i] for i in range(len(each.class_names))}}
        known = ([name[int(label)] for label in each.label], [[name[int(label)] for label in row] for row in each.object_labels])
        return [*known, [pixels[int(value)] for value in each.semantic_mask.flatten()]]

    ignored = replace(data, semantic_mask=data.semantic_mask.clone())
    ignored.semantic_mask[0, 0] = IGNORE
    assert named(ignored.in_order(other.class_names)) == named(ignored) and named(other) == named(data) != named(replace(other, class_names=data.class_names))
    crowded = replace(data, ignored_labels=data.object_labels.flip(0)).in_order(other.class_names)
    assert torch.equal(crowded.ignored_labels, other.object_labels.flip(0))
    sets = of_class_sets("sets", data.class_names, data.pixels[:2], [{0, 2}, {1}], 2)
    assert sets.in_order(other.class_names).classes.tolist() == [[0, 1, 0, 1], [0, 0, 1, 0]] and sets.in_order(other.class_names).label.tolist() == [-1, 2]
    more = ("x", *other.class_names, "y")
    bare = replace(of_class_sets("bare", (), data.pixels[:2], [None, None], 2), classes=torch.zeros(2, 0, dtype=torch.uint8))
    assert bare.among(more).label.tolist() == [-1, -1] and bare.among(more).classes.shape == (2, 6)
    wide = data.among(more)
    assert wide.class_names == more and named(wide) == named(data) and data.in_order(more) is data and data.among(more[2:]) is data
    assert sets.among(more).classes.tolist() == [[0, 0, 1, 0, 1, 0], [0, 0, 0, 1, 0, 0]] and data.among(other.class_names).label.equal(other.label)


def test_slots_are_added_and_cut_where_they_are_empty() -> None:
    data = rectangles(6, num_objects=2)
    wide, narrow = data.with_slots(7), data.with_slots(2)
    crowded = replace(data, ignored_labels=torch.full_like(data.object_labels, UNLABELLED))
    crowded.ignored_labels[0, 2] = 1
    assert crowded.with_slots(7).occupied.sum() == data.occupied.sum() + 1 and crowded.with_slots(7).batch(torch.arange(6)).ignored_labels[0, 2] == 1
    assert (crowded.with_labels_for(torch.zeros(6, dtype=torch.bool)).ignored_labels == UNLABELLED).all()
    with pytest.raises(AssertionError):
        crowded.with_slots(2)
    assert wide.object_labels.shape == (6, 7) and narrow.boxes_cxcywh.shape == (6, 2, 4)
    assert torch.equal(narrow.with_slots(4).object_labels, data.object_labels)
    assert torch.equal(wide.batch(torch.arange(6)).classes, data.batch(torch.arange(6)).classes)
    with pytest.raises(AssertionError):
        data.with_slots(1)


def test_pixels_are_of_their_owners_class() -> None:
    """Nobody's are the ground's, and what is unlabelled stays so; of too many classes for a byte nothing is said."""
    mask = torch.tensor([[[0, 1, 2, 255]]], dtype=torch.uint8)
    assert painted(mask, torch.tensor([[253, 0, UNLABELLED]]), MOST_CLASSES).tolist() == [[[0, 254, 1, 255]]]
    assert painted(mask, torch.tensor([[253, 0, UNLABELLED]]), MOST_CLASSES + 1).tolist() == [[[255] * 4]]

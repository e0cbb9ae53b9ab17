"""Where a teacher finds objects in images of which nothing is known, and what it teaches of them."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from rectangles import rectangles
from teachers import OPEN, SELF, teacher, teaching
from torch import Tensor

from genrep.model import GenRep
from genrep.training.lessons import give_lessons
from genrep.training.locating import locate
from genrep.types import IGNORE, UNLABELLED, Batch, Seen, SeenObjects

SCENES = rectangles(6, num_objects=3, size=16).batch(torch.arange(6))


def seen_in(batch: Batch, slots: int = 5) -> SeenObjects:
    """All that there is, in a task's own number of slots, by a task that is unsure of the second object."""
    more = slots - batch.object_labels.shape[1]
    labels = torch.nn.functional.pad(batch.object_labels, (0, more), value=UNLABELLED)
    sure = (labels >= 0) & (torch.arange(slots) != 1)
    return SeenObjects(labels, sure, torch.nn.functional.pad(batch.boxes_cxcywh, (0, 0, 0, more)), batch.instance_mask)


def same(a: Tensor, b: Tensor) -> bool:
    return torch.equal(a.nan_to_num(-7.0), b.nan_to_num(-7.0))


def test_nothing_is_known_of_a_batch_without() -> None:
    """As of a set of which these images were never annotated."""
    hidden = torch.tensor([True, False, True, True, False, True])
    data = rectangles(6, num_objects=3, size=16)
    expected, found = data.with_labels_for(~hidden).batch(torch.arange(6)), SCENES.without(hidden)
    assert all(same(getattr(found, field.name), getattr(expected, field.name)) for field in fields(Batch))


def test_who_sees_all_finds_all_as_it_is() -> None:
    """Depth alone stays unknown, and the images that were not looked at stay what they were."""
    own = torch.tensor([False, True, True, False, True, False])
    rows = torch.nonzero(own).squeeze(1)
    found, sure = locate(SCENES.without(own), rows, seen_in(SCENES.rows(rows)))
    expected = replace(SCENES, inv_depth=SCENES.inv_depth.masked_fill(own[:, None, None], torch.nan))
    assert all(same(getattr(found.batch, field.name), getattr(expected, field.name)) for field in fields(Batch))
    assert torch.equal(found.rows, own)
    assert sure.row.tolist() == [1, 1, 2, 2, 4, 4] and sure.slot.tolist() == [0, 2] * 3
    assert torch.equal(sure.candidates[torch.arange(6), sure.probs.argmax(1)], SCENES.object_labels[sure.row, sure.slot])
    assert sure.candidates.tolist() == [[0, 1, 2, 3]] * 6 and torch.equal(sure.probs, sure.probs.round()) and (sure.probs.sum(1) == 1).all()


@pytest.mark.parametrize("kind", ["object_labels", "ignored_labels"])
def test_what_is_known_of_an_image_in_part_stays(kind: str) -> None:
    """As of one that lost an annotation, where a crowd may be, too."""
    blank, every = SCENES.without(torch.ones(6, dtype=torch.bool)), torch.arange(6)
    getattr(blank, kind)[2, 0], blank.boxes_cxcywh[2, 0] = 3, 0.5
    found, sure = locate(blank, every, seen_in(SCENES))
    assert found.rows.tolist() == [True, True, False, True, True, True] and 2 not in sure.row
    assert all(same(getattr(found.batch, field.name)[2], getattr(blank, field.name)[2]) for field in fields(Batch))


def test_without_masks_there_are_none_and_without_slots_nothing_is_told() -> None:
    blank, every = SCENES.without(torch.ones(6, dtype=torch.bool)), torch.arange(6)
    blind = replace(seen_in(SCENES), instance_mask=torch.full_like(SCENES.instance_mask, IGNORE))
    blind.labels[0, 3:], blind.labels[1] = 2, UNLABELLED  # five objects for four slots, and none
    found, sure = locate(blank, every, blind)
    assert found.rows.tolist() == [False, False, True, True, True, True] and sure.row.tolist() == [2, 2, 3, 3, 4, 4, 5, 5]
    assert (found.batch.semantic_mask == IGNORE).all() and (found.batch.instance_mask == IGNORE).all()
    assert found.batch.object_labels[0].tolist() == [UNLABELLED] * 4 and found.batch.has_objects.tolist() == found.rows.tolist()


@pytest.mark.parametrize("known", ["semantic_mask", "inv_depth"])
def test_of_an_image_of_which_something_is_known_nothing_is_overwritten(known: str) -> None:
    batch = replace(SCENES.without(torch.ones(6, dtype=torch.bool)), **{known: getattr(SCENES, known)})
    found, sure = locate(batch, torch.arange(6), seen_in(SCENES))
    assert not len(sure.row) and not found.rows.any() and all(same(getattr(found.batch, field.name), getattr(batch, field.name)) for field in fields(Batch))


@pytest.fixture
def opinions(monkeypatch: pytest.MonkeyPatch) -> None:
    """The teacher sees what there is in the last four of six scenes, and is sure of all of it in two of them, of most in the others."""
    seen = seen_in(SCENES.rows(slice(2, 6)))
    seen.sure[[1, 3], :3] = True
    monkeypatch.setattr(GenRep, "seen", lambda self, features, confidence: Seen(torch.zeros(4, 4), torch.full((4,), 3), seen))


HALF = SCENES.without(torch.arange(6) >= 2)


@pytest.mark.usefixtures("opinions")
@pytest.mark.parametrize("self_training", [True, False])
def test_posteriors_are_for_objects_that_the_heads_are_unsure_of(self_training: bool) -> None:
    """Without self-training for all objects, wherever the teacher finds them."""
    config = replace(SELF, self_training=self_training, distil_images=4)
    lessons = give_lessons(teacher(teaching(objects=OPEN), config), HALF, torch.arange(6))
    assert lessons is not None and lessons.located is not None and lessons.located.rows.tolist() == [False, False, True, True, True, True]
    rows = set(lessons.objects[-1].row.tolist())
    assert rows and rows <= ({2, 4} if self_training else {0, 1, 2, 3})
    assert len(lessons.objects) == (3 if self_training else 1)


@pytest.mark.usefixtures("opinions")
def test_the_heads_teach_themselves_the_objects_that_they_are_sure_of_gate_or_no_gate() -> None:
    alone = teacher(config=replace(SELF, posterior=None))
    lessons = give_lessons(alone, HALF, torch.arange(6))
    assert lessons is not None and [int(num) for num in lessons.num] == [0, 0, 10]
    assert lessons.objects[1].row.tolist() == [2, 2, 3, 3, 3, 4, 4, 5, 5, 5]
    assert give_lessons(alone, SCENES, torch.arange(6)) is None
    assert give_lessons(teacher(), HALF, torch.arange(6)) is None


def test_the_only_object_of_an_image_is_taught_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the image is, where that is taught; of the others as an object that is found."""
    single = rectangles(6, size=16).batch(torch.arange(6))
    objects, rows = seen_in(single.rows(slice(2, 6))), torch.tensor([2, 5])
    monkeypatch.setattr(GenRep, "seen", lambda self, features, confidence: Seen(torch.zeros(4, 4), torch.ones(4, dtype=torch.int64), objects))
    monkeypatch.setattr("genrep.training.lessons._images", lambda *_: (rows, torch.eye(4)[:2]))
    lessons = give_lessons(teacher(config=replace(SELF, posterior=None)), single.without(torch.arange(6) >= 2), torch.arange(6))
    assert lessons is not None and [of.row.tolist() for of in lessons.objects] == [[2, 5], [3, 4]]
    assert torch.equal(lessons.objects[0].probs, torch.eye(4)[:2])

"""The training stream: a position's sample depends on the seed and the position alone."""

from __future__ import annotations

import threading
from dataclasses import fields, replace

import pytest
import torch
from rectangles import rectangles

from genrep.datasets import ArrayDataset
from genrep.training import stream as stream_module
from genrep.training.stream import Ahead, Stream, annotated, by_objects, with_annotated
from genrep.types import UNLABELLED, Batch


def sets() -> list[ArrayDataset]:
    return [rectangles(7, size=16, name="one"), rectangles(5, num_objects=2, size=16, name="two")]


def visited(stream: Stream, start: int, num: int) -> dict[int, int]:
    """Sample number by position."""
    batch, positions = stream.batch(start, num)
    return dict(zip(positions.tolist(), batch.index.tolist(), strict=True))


def test_what_stands_where_does_not_depend_on_batches() -> None:
    whole = visited(Stream(sets(), seed=3), 0, 60)
    assert sorted(whole) == list(range(60))
    for size in (1, 4, 9):
        pieces: dict[int, int] = {}
        for start in range(0, 60, size):
            pieces |= visited(Stream(sets(), seed=3), start, min(size, 60 - start))
        assert pieces == whole
    stream = Stream(sets(), seed=3)
    assert visited(stream, 40, 20) | visited(stream, 0, 40) == whole


def test_sets_are_dealt_in_turn_and_each_epoch_visits_every_sample_once() -> None:
    batch, positions = Stream(sets(), seed=0).batch(0, 2 * 35)
    of_first = positions % 2 == 0
    assert torch.equal((batch.object_labels >= 0).sum(1), torch.where(of_first, 1, 2))
    for which, size in ((of_first, 7), (~of_first, 5)):
        epochs = batch.index[which].view(-1, size)
        assert torch.equal(epochs.sort(1).values, torch.arange(size).expand_as(epochs))
        assert len(epochs.unique(dim=0)) == len(epochs)


def test_a_set_counts_as_often_as_its_images_have_objects() -> None:
    one, three, none = rectangles(4), rectangles(4, num_objects=3), rectangles(4)
    none = replace(none, object_labels=torch.full_like(none.object_labels, UNLABELLED))
    assert by_objects([one, three, none], (1, 2, 1)) == (1, 6, 1)


def test_shares_are_kept_in_every_round() -> None:
    batch, positions = Stream(sets(), seed=0, shares=(1, 2)).batch(0, 3 * 35)
    of_first = positions % 3 == 0
    assert torch.equal((batch.object_labels >= 0).sum(1), torch.where(of_first, 1, 2))
    for which, size in ((of_first, 7), (~of_first, 5)):
        assert torch.equal(batch.index[which].view(-1, size).sort(1).values, torch.arange(size).expand(which.sum() // size, -1))
    whole = visited(Stream(sets(), seed=3, shares=(1, 2)), 0, 60)
    assert visited(Stream(sets(), seed=3, shares=(1, 2)), 7, 20) == {p: whole[p] for p in range(7, 27)}
    assert visited(Stream(sets(), seed=3, shares=(1, 1)), 0, 60) == visited(Stream(sets(), seed=3), 0, 60)


def test_batches_hold_the_samples_they_name() -> None:
    first = sets()[0]
    batch, positions = Stream([first], seed=1).batch(10, 6)
    assert positions.tolist() == list(range(10, 16))
    assert torch.equal(batch.image, first.batch(batch.index).image) and torch.equal(batch.label, first.label[batch.index])


def test_seeds_shuffle_differently() -> None:
    assert visited(Stream(sets(), seed=0), 0, 24) != visited(Stream(sets(), seed=1), 0, 24)


def test_orders_are_kept_while_they_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a small set is epochs ahead of a large one."""
    drawn: list[tuple[int, int, int]] = []
    permutation = stream_module.permutation

    def counted(num: int, seed: int, epoch: int) -> torch.Tensor:
        drawn.append((num, seed, epoch))
        return permutation(num, seed, epoch)

    monkeypatch.setattr(stream_module, "permutation", counted)
    stream = Stream([rectangles(40, size=16), rectangles(3, size=16)], seed=0)
    for start in range(0, 120, 4):
        stream.batch(start, 4)
    assert len(drawn) == len(set(drawn))


def test_sets_that_cannot_share_a_model_are_refused() -> None:
    with pytest.raises(ValueError, match="data sets `one` and `big` differ in classes or image size"):
        Stream([rectangles(2, size=16, name="one"), rectangles(2, size=32, name="big")], seed=0)


def test_where_few_images_are_annotated_they_fill_half_of_the_stream() -> None:
    one, two = sets()
    few = one.with_labels_for(torch.arange(7) < 2)
    known, shares = annotated([few, two], (1, 2))
    assert [len(data) for data in known] == [2, 5] and shares == (1, 2)
    dealt, shares = with_annotated([few, two], (1, 2))
    assert [len(data) for data in dealt] == [7, 5, 2, 5] and shares == (1, 2, 1, 2)
    batch, _ = Stream(dealt, seed=0, shares=shares).batch(0, 60)
    assert 30 < int((~batch.unannotated).sum()) < 60
    nothing = one.with_labels_for(torch.zeros(7, dtype=torch.bool))
    for found, parts in (annotated([nothing, two], (1, 2)), annotated([two], (2,))):
        assert [data.name for data in found] == ["two"] and parts == (2,)
    for whole in ([one, two], [nothing, nothing]):
        for find in (annotated, with_annotated):
            found, parts = find(whole, (1, 2))
            assert all(a is b for a, b in zip(found, whole, strict=True)) and parts == (1, 2)


def test_every_image_has_a_number_of_its_own() -> None:
    stream = Stream(sets(), seed=1, shares=(2, 1))
    batch, positions = stream.batch(3, 50)
    numbers = stream.which(positions)
    assert len(stream) == 12 and sorted(set(numbers.tolist())) == list(range(12))
    several = (batch.object_labels >= 0).sum(1) > 1
    assert torch.equal(numbers, batch.index + 7 * several)


def test_more_processes_than_samples_leave_some_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "part", lambda num: slice(num, num))
    batch, positions = Stream(sets(), seed=3).batch(7, 1)
    assert len(batch) == len(positions) == 0 and batch.image.shape[1:] == (3, 16, 16)


def test_what_is_prepared_ahead_is_what_is_asked_for() -> None:
    """In order, over the end of epochs, after a jump, and with another number."""
    ahead, plain = Ahead(sets(), seed=3, shares=(1, 2)), Stream(sets(), seed=3, shares=(1, 2))
    for start, num in ((0, 4), (4, 4), (8, 4), (40, 4), (44, 6), (50, 6), (0, 4), (4, 4)):
        (batch, positions), (same, where) = ahead.batch(start, num), plain.batch(start, num)
        assert torch.equal(positions, where) and torch.equal(ahead.which(positions), plain.which(positions))
        assert all(torch.equal(getattr(batch, f.name), getattr(same, f.name)) for f in fields(Batch))


def test_the_next_batch_is_prepared_in_another_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """What follows is never cut where it is asked for; what does not follow is."""
    cut: list[tuple[int, str]] = []
    batch = Stream.batch

    def noted(self: Stream, start: int, num: int) -> object:
        cut.append((start, threading.current_thread().name))
        return batch(self, start, num)

    monkeypatch.setattr(Stream, "batch", noted)
    ahead, here = Ahead(sets(), seed=3), threading.current_thread().name
    for start in (0, 4, 8, 30):
        ahead.batch(start, 4)
    assert [start for start, where in cut if where == here] == [0, 30]
    assert {start for start, where in cut if where != here} >= {4, 8}

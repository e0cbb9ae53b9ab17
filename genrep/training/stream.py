"""The training stream: which image stands at which position, for as long as anyone trains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from genrep.datasets import ArrayDataset, Dataset
from genrep.processes import part
from genrep.randomness import permutation
from genrep.types import UNLABELLED, Batch


def by_objects(sets: Sequence[ArrayDataset], shares: Sequence[int]) -> tuple[int, ...]:
    """Shares times objects per image: where objects are what is looked at, a picture of three is worth three of one."""
    return tuple(share * max(1, round(float((data.object_labels != UNLABELLED).sum(1).float().mean()))) for data, share in zip(sets, shares, strict=True))


def annotated(sets: Sequence[ArrayDataset], shares: Sequence[int]) -> tuple[list[ArrayDataset], tuple[int, ...]]:
    """What is annotated of the sets, and the shares of those of which anything is; the sets themselves where all of it is, or nothing."""
    if len({bool(known) for data in sets for known in (data.annotated.all(), data.annotated.any())}) == 1:
        return list(sets), tuple(shares)
    few = [(data.rows(data.annotated), share) for data, share in zip(sets, shares, strict=True) if data.annotated.any()]
    return [data for data, _ in few], tuple(share for _, share in few)


def with_annotated(sets: Sequence[ArrayDataset], shares: Sequence[int]) -> tuple[list[ArrayDataset], tuple[int, ...]]:
    """All images and, where few of them are annotated, these once more in as many places, so that perception is not starved."""
    few, shares_of_few = annotated(sets, shares)
    if sum(map(len, few)) == sum(map(len, sets)):
        return few, shares_of_few
    return [*sets, *few], (*shares, *shares_of_few)


class Stream:
    """Data sets side by side, dealt in turn: with shares (1, 2) the positions belong to sets 0 1 1 0 1 1 ...; each set is shuffled anew every epoch.

    A position's sample depends on (seed, position) alone, so neither batch size nor a resume changes what is seen.

    Args:
        sets: of one image size and one list of classes.
        seed: of the shuffles.
        shares: how many positions in a row belong to each set, at least 1; default 1.
    Raises:
        ValueError: the sets do not fit together.
    """

    def __init__(self, sets: Sequence[Dataset], *, seed: int, shares: Sequence[int] = ()) -> None:
        first = sets[0]
        for other in sets[1:]:
            if other.class_names != first.class_names or other.image_size != first.image_size:
                raise ValueError(f"data sets `{first.name}` and `{other.name}` differ in classes or image size; they cannot train one model together.")
        self._sets, self._seed = sets, seed
        self._shares = tuple(shares) or (1,) * len(sets)
        assert len(self._shares) == len(sets)
        self._order: dict[tuple[int, int], Tensor] = {}

    def __len__(self) -> int:
        return sum(map(len, self._sets))

    def batch(self, start: int, num: int) -> tuple[Batch, Int[Tensor, " b"]]:
        """The samples at positions start .. start + num - 1, grouped by set, and their positions; of several processes, this one's part of them."""
        positions = torch.arange(start, start + num)
        positions = torch.cat([positions[where] for _, where, _ in self._dealt(positions)])[part(num)]
        dealt = list(self._dealt(positions))
        if not dealt:  # more processes than samples
            return self._sets[0].batch(positions), positions
        parts = [self._sets[i].batch(samples) for i, _, samples in dealt]
        return parts[0] if len(parts) == 1 else Batch.cat(parts), torch.cat([positions[where] for _, where, _ in dealt])

    def which(self, positions: Int[Tensor, " b"]) -> Int[Tensor, " b"]:
        """Which image stands at each position, counted through the sets from 0 to `len(self)` - 1."""
        found = torch.empty_like(positions)
        for i, where, samples in self._dealt(positions):
            found[where] = samples + sum(map(len, self._sets[:i]))
        return found

    def _dealt(self, positions: Int[Tensor, " b"]) -> Iterator[tuple[int, Bool[Tensor, " b"], Int[Tensor, " m"]]]:
        """The sets that have any of the positions; at which of them, and its samples there."""
        round_of, place = positions // sum(self._shares), positions % sum(self._shares)
        first = 0
        for i, share in enumerate(self._shares):
            where = (place >= first) & (place < first + share)
            if where.any():
                yield i, where, self._samples(i, round_of[where] * share + place[where] - first)
            first += share

    def _samples(self, which: int, turns: Int[Tensor, " m"]) -> Int[Tensor, " m"]:
        size = len(self._sets[which])
        epochs = turns // size
        chosen = torch.empty_like(turns)
        for epoch in epochs.unique().tolist():
            here = epochs == epoch
            chosen[here] = self._epoch(which, epoch, size)[turns[here] % size]
        return chosen

    def _epoch(self, which: int, epoch: int, size: int) -> Int[Tensor, " n"]:
        order = self._order.get((which, epoch))
        if order is None:
            order = permutation(size, self._seed * 16 + which, epoch)
            kept = {key: known for key, known in self._order.items() if key[0] != which or key[1] >= epoch - 1}
            self._order = {**kept, (which, epoch): order}  # in one go: two threads may ask
        return order


class Ahead(Stream):
    """A stream that prepares, while a step computes, the batch that comes after the last one asked for."""

    def __init__(self, sets: Sequence[Dataset], *, seed: int, shares: Sequence[int] = ()) -> None:
        super().__init__(sets, seed=seed, shares=shares)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="ahead")
        self._next: tuple[tuple[int, int], Future[tuple[Batch, Tensor]]] | None = None

    def batch(self, start: int, num: int) -> tuple[Batch, Int[Tensor, " b"]]:
        ready = self._next[1] if self._next and self._next[0] == (start, num) else None
        found = ready.result() if ready else super().batch(start, num)
        self._next = (start + num, num), self._pool.submit(super().batch, start + num, num)
        return found

"""Gradients of several processes, added up before they are aligned: alignment is not linear, so the order matters."""

from __future__ import annotations

from collections.abc import Sequence

import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from genrep.processes import rank, speaking, together, total, world


class Exchange:
    """Adds up one gradient per loss over all processes, as long as a loss's successors are still being computed.

    What is aligned is scattered: every process adds up a part of its own, of all losses, aligns it by inner products that all know, and hands out
    the result. That moves 1.5 times what plain data parallelism moves, where two sums would move twice as much.

    Args:
        gradients: a row for each loss; the first `num_aligned` columns are aligned, those up to `num_common` are mixed by fixed weights, those up
            to the loss's own of `ends` belong to it alone. `num_aligned` is a multiple of the number of processes.
    Source: Rajbhandari et al. 2020 (ZeRO), arXiv:1910.02054, section 7, for the scattered sum.
    """

    def __init__(self, gradients: Float[Tensor, "l n"], num_aligned: int, num_common: int, ends: Sequence[int]) -> None:
        self._gradients, self._num_aligned, self._num_common, self._ends = gradients, num_aligned, num_common, ends
        self._shards = gradients.new_empty(len(gradients), num_aligned // world()) if together() else gradients[:, :num_aligned]
        self._pending: list[dist.Work] = []
        self.mine = slice(rank() * self._shards.shape[1], (rank() + 1) * self._shards.shape[1])
        """Which of the aligned columns this process aligns."""

    def send(self, i: int) -> None:
        """Loss i's gradient is here, and on its way."""
        if not together():
            return
        aligned, own = self._gradients[i, : self._num_aligned], self._gradients[i, self._num_common : self._ends[i]]
        with speaking():
            if self._num_aligned:
                self._note(dist.reduce_scatter(self._shards[i], list(aligned.chunk(world())), async_op=True))
            if len(own):
                self._note(dist.all_reduce(own, async_op=True))

    def arrived(self) -> Float[Tensor, "l m"]:
        """This process's part of the aligned columns, added up over all processes."""
        with speaking():
            for work in self._pending:
                work.wait()
        self._pending.clear()
        return self._shards

    def known_to_all(self, grams: Float[Tensor, "p l l"]) -> Float[Tensor, "p l l"]:
        """Inner products over all processes' parts."""
        return total(grams)

    def add_up_mixed(self) -> None:
        """The sum of what was mixed by fixed weights."""
        if together() and self._num_common > self._num_aligned:
            with speaking():
                dist.all_reduce(self._gradients[0, self._num_aligned : self._num_common])

    def hand_out(self) -> None:
        """The first row of all aligned parts, gradients or weights, to all processes."""
        if together() and self._num_aligned:
            with speaking():
                dist.all_gather(list(self._gradients[0, : self._num_aligned].chunk(world())), self._shards[0])

    def _note(self, work: dist.Work | None) -> None:
        assert work is not None
        self._pending.append(work)

"""Where gradients lie in the buffer of a joint step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, groupby

import torch
from jaxtyping import Float
from torch import Tensor

from genrep.training.step_report import part_of


class Layout:
    """The columns of a row per loss: first the aligned set, then what several losses reach, then what this one alone reaches.

    The aligned columns are as many for each process. Where weights are sharded each of their parameters lies within one process's columns, the
    largest first to the process that has least; the padding is what one has less than another.

    Args:
        shapes: of the trainable parameters.
        reached: the parameters that each loss reaches.
        aligned: whether a parameter may belong to the aligned set.
        num: how many processes.
        sharded: whether one process alone updates an aligned parameter.
    """

    def __init__(
        self, shapes: Mapping[str, torch.Size], reached: Sequence[set[str]], aligned: Callable[[str], bool], num: int, *, sharded: bool = False
    ) -> None:
        self._shapes, self._sizes = shapes, {name: shape.numel() for name, shape in shapes.items()}
        count = {name: sum(name in names for names in reached) for name in shapes}
        everywhere = [n for n in shapes if count[n] == len(reached) > 1 and aligned(n)]
        several = [n for n in shapes if count[n] > 1 and n not in set(everywhere)]
        own = [[n for n in shapes if count[n] == 1 and n in names] for names in reached]
        sections = self._packed(everywhere, num) if sharded else [everywhere]
        self.owners = {name: i for i, names in enumerate(sections) for name in names} if sharded else {}
        """Which process updates a parameter, of those that one alone does."""
        self._width = width = max(sum(self._sizes[n] for n in names) for names in sections)
        self.num_aligned = -(-len(sections) * width // num) * num
        self._aligned = {name: start for i, names in enumerate(sections) for name, start in self._in_a_row(names, i * width).items()}
        self.common = slice(self.num_aligned, self.num_aligned + sum(self._sizes[n] for n in several))
        """Of what several losses reach, and is not aligned."""
        self._others = [self._in_a_row([*several, *names], self.num_aligned) for names in own]
        self.ends = [self.common.stop + sum(self._sizes[n] for n in names) for names in own]
        """Of what each loss alone reaches."""

    def views(self, row: Float[Tensor, " n"], i: int) -> dict[str, Tensor]:
        """Loss i's gradients by name, within its row."""
        return self._within(row, {**self._aligned, **self._others[i]})

    def views_of(self, process: int, columns: Float[Tensor, " m"]) -> dict[str, Tensor]:
        """The parameters that a process alone updates, within its columns."""
        first = process * self._width
        return self._within(columns, {name: self._aligned[name] - first for name, owner in self.owners.items() if owner == process})

    @property
    def parts(self) -> list[tuple[str, slice]]:
        """The parts of the model that the aligned columns belong to, from left to right; a part may be in several places."""
        found = []
        for (part, _), some in groupby(sorted(self._aligned, key=self._aligned.__getitem__), lambda name: (part_of(name), self.owners.get(name))):
            names = list(some)
            found.append((part, slice(self._aligned[names[0]], self._aligned[names[-1]] + self._sizes[names[-1]])))
        return found

    def _packed(self, names: Sequence[str], num: int) -> list[list[str]]:
        """Spread over so many sections, of nearly one size; in each of them in order."""
        sections: list[set[str]] = [set() for _ in range(num)]
        loads = [0] * num
        for name in sorted(names, key=self._sizes.__getitem__, reverse=True):
            least = loads.index(min(loads))
            sections[least].add(name)
            loads[least] += self._sizes[name]
        return [[name for name in names if name in section] for section in sections]

    def _in_a_row(self, names: Sequence[str], start: int) -> dict[str, int]:
        return dict(zip(names, accumulate((self._sizes[n] for n in names), initial=start), strict=False))

    def _within(self, row: Tensor, starts: Mapping[str, int]) -> dict[str, Tensor]:
        return {name: row[start : start + self._sizes[name]].view(self._shapes[name]) for name, start in starts.items()}

"""What alignment did to the gradients of a step, for the record."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from genrep.aligners.base import cosines, share_kept


@dataclass(frozen=True)
class StepReport:
    """What happened to the gradients of a step over the aligned set, and, over all parameters, to the update; numbers on the CPU.

    Of several losses there are two sides: the last of them, and the sum of the others.
    """

    cosine: float
    """Of the two sides."""
    kept: tuple[float, ...]
    """Which share of a side's gradient's part along the other's is left after alignment."""
    norms: tuple[float, ...]
    """Of the two sides."""
    update: float
    """The norm of the whole update before it was shortened."""
    of_parts: Mapping[str, float] = field(default_factory=dict)
    """The cosine in each part of the trunk."""
    of_pairs: Mapping[tuple[int, int], float] = field(default_factory=dict)
    """The cosine of each two losses, where there are more."""
    harmful: bool = False
    """Whether the aligner's direction would raise one of the losses, to first order."""

    def columns(self, jobs: Sequence[str]) -> dict[str, float]:
        """Of metrics.csv; none of one loss.

        Args:
            jobs: names of the losses.
        """
        if len(self.norms) < 2:
            return {}
        row = {"align/harmful": float(self.harmful)} | {pair_column(jobs[i], jobs[j]): round(cosine, 6) for (i, j), cosine in self.of_pairs.items()}
        if jobs[-1] != "generation":
            return row
        row |= {"align/cosine": round(self.cosine, 6), "align/norm_ratio": float(f"{self.norms[0] / max(self.norms[1], 1e-12):.6g}")}
        row |= {f"align/kept_{side}": round(kept, 6) for side, kept in zip(("perception", "generation"), self.kept, strict=True)}
        return row | {f"{PART_COLUMN}{part}": round(cosine, 6) for part, cosine in self.of_parts.items()}


PART_COLUMN, PAIR_COLUMN = "align/cosine/", "align/pair/"
"""What a column with the cosine of a part, or of two losses, begins with."""


def pair_column(one: str, other: str) -> str:
    """With the cosine of two losses."""
    return f"{PAIR_COLUMN}{one}-{other}"


def part_of(name: str) -> str:
    """The part of the trunk that a parameter belongs to.

    >>> part_of("denoiser.trunk.blocks.2.qkv.weight"), part_of("denoiser.trunk.stem.embed.bias"), part_of("x")
    ('block_3', 'stem', 'x')
    """
    words = name.removeprefix("denoiser.trunk.").split(".")
    return f"block_{int(words[1]) + 1}" if words[0] == "blocks" else words[0]


def parts_of(model: nn.Module, aligned: Callable[[str], bool]) -> tuple[str, ...]:
    """The parts that may be aligned, in the order of their parameters."""
    return tuple(dict.fromkeys(part_of(name) for name, _ in model.named_parameters() if aligned(name)))


def report_of(gram: Float[Tensor, "l l"], coefficients: Float[Tensor, "l l"], grams: Mapping[str, Tensor], *, update: float, harmful: bool) -> StepReport:
    """What inner products, of the whole and of its parts, and the aligner's coefficients say."""
    num = len(gram)
    if num < 2:
        return StepReport(1.0, (1.0,), tuple(gram.diagonal().sqrt().tolist()), update, harmful=harmful)
    last = torch.arange(num, device=gram.device) == num - 1
    sides = torch.stack([~last, last]).to(gram)
    between, kept = sides @ gram @ sides.T, share_kept(coefficients, gram, sides)
    of_parts = {part: float(cosines(sides @ of_part @ sides.T)[0, 1]) for part, of_part in grams.items()}
    of_pairs = {(i, j): float(cosines(gram)[i, j]) for i, j in combinations(range(num), 2)} if num > 2 else {}
    norms = tuple(between.diagonal().clamp(min=0).sqrt().tolist())
    return StepReport(float(cosines(between)[0, 1]), (float(kept[0, 1]), float(kept[1, 0])), norms, update, of_parts, of_pairs, harmful)

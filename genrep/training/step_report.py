"""What alignment did to the gradients of a step, for the record."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor, nn

from genrep.aligners.base import cosines, share_kept


@dataclass(frozen=True)
class StepReport:
    """What happened to the gradients of a step over the aligned set, and, over all parameters, to the update; numbers on the CPU."""

    cosine: float
    """Of the first two losses."""
    kept: tuple[float, ...]
    """Which share of a loss's gradient's part along the other's is left after alignment."""
    norms: tuple[float, ...]
    update: float
    """The norm of the whole update before it was shortened."""
    of_parts: Mapping[str, float] = field(default_factory=dict)
    """The cosine in each part of the trunk."""
    harmful: bool = False
    """Whether the aligner's direction would raise one of the losses, to first order."""

    def columns(self, jobs: Sequence[str]) -> dict[str, float]:
        """Of metrics.csv; none of one loss."""
        if len(self.norms) < 2:
            return {}
        row = {"align/cosine": round(self.cosine, 6), "align/norm_ratio": float(f"{self.norms[0] / max(self.norms[1], 1e-12):.6g}")}
        row["align/harmful"] = float(self.harmful)
        row |= {f"align/kept_{job}": round(kept, 6) for job, kept in zip(jobs, self.kept, strict=False)}
        return row | {f"{PART_COLUMN}{part}": round(cosine, 6) for part, cosine in self.of_parts.items()}


PART_COLUMN = "align/cosine/"
"""What a column with the cosine of a part begins with."""


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
    norms = tuple(gram.diagonal().sqrt().tolist())
    if len(gram) < 2:
        return StepReport(1.0, (1.0,), norms, update, harmful=harmful)
    kept = share_kept(coefficients, gram)
    of_parts = {part: float(cosines(of_part)[0, 1]) for part, of_part in grams.items()}
    return StepReport(float(cosines(gram)[0, 1]), (float(kept[0, 1]), float(kept[1, 0])), norms, update, of_parts, harmful)

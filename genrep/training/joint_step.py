"""The joint step: one gradient per loss, aligned where they share weights, in flat buffers that `.grad` looks into."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import groupby, islice

import torch
from jaxtyping import Float
from torch import Tensor, nn

from genrep.aligners import Aligner, UPGrad
from genrep.aligners.base import State, cosines, share_kept
from genrep.processes import total, world
from genrep.training.exchange import Exchange

Loss = Callable[[], Tensor]
Found = tuple[Tensor, tuple[Tensor | None, ...]]
"""Value of a loss, and its gradient for each parameter asked for, None where it does not reach."""

CHUNK = 256
HARM = 1e-9
"""By which share of its squared gradient a loss may seem to rise by rounding alone."""


def gramian(rows: Float[Tensor, "l n"]) -> Float[Tensor, "l l"]:
    """Inner products of the rows as float64: in float32 over `CHUNK` numbers, summed in double. A float32 sum is wrong in the fourth digit at 1e7 numbers."""
    whole = rows.shape[1] // CHUNK * CHUNK
    chunks, rest = rows[:, :whole].unflatten(1, (-1, CHUNK)).transpose(0, 1), rows[:, whole:].double()
    return torch.bmm(chunks, chunks.transpose(1, 2)).sum(0, dtype=torch.float64) + rest @ rest.T


@dataclass(frozen=True)
class StepReport:
    """What happened to the gradients of a step over the aligned set, as numbers on the CPU."""

    cosine: float
    """Of the first two losses."""
    kept: tuple[float, ...]
    """Which share of a loss's gradient's part along the other's is left after alignment."""
    norms: tuple[float, ...]
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


class JointGradient:
    """Fills `.grad` with the aligned update direction of several losses.

        update = w^T C g      over the aligned set: trunk parameters that every loss reaches
        update = sum_i w_i g_i over other parameters that several losses reach
        update = g_i           over parameters that only loss i reaches, unweighted

    One loss after the other: the least memory, as each graph is freed before the next is built. Or several graphs side by side in
    threads of their own: losses, and parts of a loss; on a CPU that uses its cores better than threads inside small matrix
    products. Gradients of parts are added up in order before alignment, which is not linear.

    Args:
        model: its trainable parameters.
        aligner: coefficients from the Gramian.
        weights: w, one per loss.
        aligned: whether a parameter of this name may belong to the aligned set.
        side_by_side: how many graphs at once.
        guard: where the aligner's direction would raise a loss, to first order over the aligned set, take UPGrad's.
        exchange: how gradients of several processes become one.
    Source: equations (11) to (16).
    """

    def __init__(
        self,
        model: nn.Module,
        aligner: Aligner,
        *,
        weights: Mapping[str, float],
        aligned: Callable[[str], bool],
        side_by_side: int = 1,
        guard: bool = False,
        exchange: type[Exchange] = Exchange,
    ) -> None:
        self._named = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._aligner, self._weights, self._aligned, self._side_by_side = aligner, weights, aligned, side_by_side
        self._guard, self._through = guard, exchange
        self.state: State = aligner.init(len(weights))
        self.views: list[dict[str, Tensor]] = []
        """Each loss's gradients by the names of the parameters it reaches, after the first step; looking into its row of the buffer."""

    @property
    def jobs(self) -> tuple[str, ...]:
        """Names of the losses, in the order of the Gramian."""
        return tuple(self._weights)

    def __call__(self, losses: Mapping[str, Loss | Sequence[Loss]]) -> StepReport:
        """Evaluate each loss, run it backward, and leave the update direction in `.grad`.

        Args:
            losses: for each name in `weights`, a function that computes the loss (called once, twice in the first step), or several,
                parts whose sum is the loss.
        Raises:
            ValueError: other losses than there are weights for, or one that reaches no parameter.
        """
        if list(losses) != list(self._weights):
            raise ValueError(f"`losses` must be {list(self._weights)}; found {list(losses)}.")
        parts = {name: (loss,) if callable(loss) else tuple(loss) for name, loss in losses.items()}
        if not self.views:
            self._lay_out({name: self._reached(losses) for name, losses in parts.items()})
        found = self._gradients([(views, loss) for views, losses in zip(self.views, parts.values(), strict=True) for loss in losses])
        values = []
        for i, (views, some) in enumerate(zip(self.views, parts.values(), strict=True)):
            values.append(self._fill(views, islice(found, len(some))))
            self._exchange.send(i)
        return self._combine(total(torch.stack(values).double()))

    def _gradients(self, graphs: Sequence[tuple[Iterable[str], Loss]]) -> Iterator[Found]:
        """Of every graph in order, computed one by one or side by side."""
        if self._side_by_side == 1:
            yield from (self._gradient(loss, names) for names, loss in graphs)
            return
        with ThreadPoolExecutor(self._side_by_side) as pool:
            yield from pool.map(lambda graph: self._gradient(graph[1], graph[0]), graphs)

    def _gradient(self, loss: Loss, names: Iterable[str]) -> Found:
        value = loss()
        if not value.requires_grad:
            return value, tuple(None for _ in names)
        return value.detach(), torch.autograd.grad(value, [self._named[name] for name in names], allow_unused=True)

    def _fill(self, views: Mapping[str, Tensor], found: Iterable[Found]) -> Float[Tensor, ""]:
        """The sum of the parts' gradients into the views; returns the whole loss."""
        values, fresh = [], set(views)
        for value, gradients in found:
            values.append(value)
            for (name, view), gradient in zip(views.items(), gradients, strict=True):
                if gradient is None:
                    continue
                if name in fresh:
                    fresh.remove(name)
                    view.copy_(gradient)
                else:
                    view.add_(gradient)
        for name in fresh:
            views[name].zero_()
        return torch.stack(values).sum()

    def _reached(self, losses: Sequence[Loss]) -> set[str]:
        """Parameters that some part of a loss reaches, in any process."""
        found = [self._gradient(loss, self._named)[1] for loss in losses]
        here = torch.tensor([any(g is not None for g in gradients) for gradients in zip(*found, strict=True)], dtype=torch.int, device=self._device)
        return {name for name, there in zip(self._named, total(here).tolist(), strict=True) if there}

    def _lay_out(self, reached: Mapping[str, set[str]]) -> None:
        """One row per loss: first the aligned set, then what several losses reach, then what this one alone reaches."""
        for name, names in reached.items():
            if not names:
                raise ValueError(f"loss `{name}` reaches no trainable parameter; nothing can be learnt from it.")
        count = {name: sum(name in names for names in reached.values()) for name in self._named}
        everywhere = [n for n in self._named if count[n] == len(reached) > 1 and self._aligned(n)]
        several = [n for n in self._named if count[n] > 1 and n not in set(everywhere)]
        sizes = {n: p.numel() for n, p in self._named.items()}
        num_aligned = -(-sum(sizes[n] for n in everywhere) // world()) * world()
        self._common = slice(num_aligned, num_aligned + sum(sizes[n] for n in several))
        self._parts = {part: sum(sizes[n] for n in names) for part, names in groupby(everywhere, part_of)}
        own = [[n for n in self._named if count[n] == 1 and n in names] for names in reached.values()]
        ends = [self._common.stop + sum(sizes[n] for n in alone) for alone in own]
        self._buffers = torch.zeros(len(reached), max(ends), dtype=next(iter(self._named.values())).dtype, device=self._device)
        self._exchange = self._through(self._buffers, num_aligned, self._common.stop, ends)
        for buffer, alone in zip(self._buffers, own, strict=True):
            views: dict[str, Tensor] = {}
            for start, some in ((0, everywhere), (num_aligned, several + alone)):
                offsets = torch.tensor([start] + [sizes[n] for n in some]).cumsum(0).tolist()
                views |= {n: buffer[o : o + sizes[n]].view_as(self._named[n]) for n, o in zip(some, offsets[:-1], strict=True)}
            self.views.append(views)

    def _combine(self, losses: Float[Tensor, " l"]) -> StepReport:
        shards = self._exchange.arrived()
        grams = self._grams(shards)
        gram = sum(grams.values(), losses.new_zeros(len(losses), len(losses)))
        weights = torch.tensor(list(self._weights.values()), dtype=torch.float64, device=gram.device)
        coefficients, self.state = self._aligner(gram, losses, self.state)
        harmful = bool((weights @ coefficients @ gram < -HARM * gram.diagonal()).any())
        if harmful and self._guard:
            coefficients = UPGrad().coefficients(gram, losses)
        _mix(shards, weights @ coefficients)
        _mix(self._buffers[:, self._common], weights)
        self._exchange.hand_out()
        for parameter in self._named.values():
            parameter.grad = None
        for views in reversed(self.views):
            for name, view in views.items():
                self._named[name].grad = view
        return replace(_report(gram, coefficients, grams), harmful=harmful)

    def _grams(self, shards: Float[Tensor, "l m"]) -> dict[str, Float[Tensor, "l l"]]:
        """The Gramian of each part of the aligned set: of what lies in this process's shards, added up over all."""
        first, found, end = self._exchange.mine.start, [], 0
        for size in self._parts.values():
            start, end = end, end + size
            found.append(gramian(shards[:, max(0, start - first) : max(0, end - first)]))
        return dict(zip(self._parts, self._exchange.known_to_all(torch.stack(found)), strict=True)) if found else {}

    @property
    def _device(self) -> torch.device:
        return next(iter(self._named.values())).device


def _mix(rows: Float[Tensor, "l n"], factors: Float[Tensor, " l"]) -> None:
    """The weighted sum of the rows, left in the first."""
    first = rows[0].mul_(float(factors[0]))
    for row, factor in zip(rows[1:], factors[1:].tolist(), strict=True):
        first.add_(row, alpha=factor)


def _report(gram: Float[Tensor, "l l"], coefficients: Float[Tensor, "l l"], grams: Mapping[str, Tensor]) -> StepReport:
    norms = tuple(gram.diagonal().sqrt().tolist())
    if len(gram) < 2:
        return StepReport(1.0, (1.0,), norms)
    kept = share_kept(coefficients, gram)
    of_parts = {part: float(cosines(of_part)[0, 1]) for part, of_part in grams.items()}
    return StepReport(float(cosines(gram)[0, 1]), (float(kept[0, 1]), float(kept[1, 0])), norms, of_parts)


ALIGNED_SETS: dict[str, Callable[[str], bool]] = {
    "trunk": lambda name: name.startswith("denoiser.trunk."),
    "blocks": lambda name: name.startswith("denoiser.trunk.blocks."),
    "attention": lambda name: name.startswith("denoiser.trunk.blocks.") and (".qkv." in name or ".proj." in name),
}
"""Which parameters are aligned, of those that both losses reach; `attention` is the paper's choice."""

"""The joint step: one gradient per loss, aligned where they share weights, in flat buffers that `.grad` looks into."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import islice
from threading import Lock
from typing import Generic

import torch
from jaxtyping import Float
from torch import Tensor

from genrep.aligners import Aligner, UPGrad
from genrep.aligners.base import State
from genrep.layers import precise, widest
from genrep.processes import rank, total, world
from genrep.training.exchange import Exchange
from genrep.training.graphs import Graph, Loss, Losses, M, Models, Own, twin
from genrep.training.layout import Layout
from genrep.training.step_report import StepReport, report_of

CHUNK = 256
HARM = 1e-9
"""By which share of its squared gradient a loss may seem to rise by rounding alone."""


def gramian(rows: Float[Tensor, "l n"]) -> Float[Tensor, "l l"]:
    """Inner products of the rows: in float32 over `CHUNK` numbers, summed in float64 where there is that. In float32 the fourth digit is off at 1e7 numbers."""
    whole = rows.shape[1] // CHUNK * CHUNK
    chunks, rest = rows[:, :whole].unflatten(1, (-1, CHUNK)).transpose(0, 1), precise(rows[:, whole:])
    return torch.bmm(chunks, chunks.transpose(1, 2)).sum(0, dtype=widest(rows.device)) + rest @ rest.T


class JointGradient(Generic[M]):
    """Fills `.grad` with the aligned update direction of several losses.

        update = w^T C g      over the aligned set: trunk parameters that every loss reaches
        update = sum_i w_i g_i over other parameters that several losses reach
        update = g_i           over parameters that only loss i reaches, unweighted

    and the whole is shortened to `clip_norm` where it is longer; how long the aligned part is follows from the Gramian.

    Each loss, and each part of one that is computed beside another, has a model of its own: the last loss the model itself, the others twins of it, which
    have the same weights. So gradients stay apart, and go into the loss's row of the buffer as soon as they are there.

    One loss, and one part of it, after the other: the least memory, as each graph is freed before the next is built. Or several graphs side by side in
    threads of their own: losses, and parts of a loss; on a CPU that uses its cores better than threads inside small matrix
    products. Or all losses in one graph. Gradients of a loss's parts are added up before alignment, which is not linear.

    Args:
        model: its trainable parameters.
        aligner: coefficients from the Gramian.
        weights: w, one per loss.
        aligned: whether a parameter of this name may belong to the aligned set.
        side_by_side: how many graphs at once.
        clip_norm: largest norm of the update.
        guard: where the aligner's direction would raise a loss, to first order over the aligned set, take UPGrad's.
        sharded: of several processes, each updates a part of the aligned weights, whose gradients alone it has then, and hands it out (`spread`): the
            optimizer's state is there once, and no more is moved. Not FSDP2: it keeps one gradient for each parameter, where here each loss
            has its own, and gathers weights when a module's `forward` is called, where heads and samplers call a model's parts.
        exchange: how gradients of several processes become one.
    Source: equations (11) to (16); sharding: Rajbhandari et al. 2020 (ZeRO), arXiv:1910.02054.
    """

    def __init__(
        self,
        model: M,
        aligner: Aligner,
        *,
        weights: Mapping[str, float],
        aligned: Callable[[str], bool],
        side_by_side: int = 1,
        clip_norm: float = float("inf"),
        guard: bool = False,
        sharded: bool = False,
        exchange: type[Exchange] = Exchange,
    ) -> None:
        self.model = model
        self._models = Models(model, len(weights), side_by_side=side_by_side)
        self._named = self._models.parameters
        self._aligner, self._weights, self._aligned, self._side_by_side = aligner, weights, aligned, side_by_side
        self._clip_norm, self._guard, self._sharded, self._through = clip_norm, guard, sharded, exchange
        self.state: State = aligner.init(len(weights))
        self.views: list[dict[str, Tensor]] = []
        """Each loss's gradients by the names of the parameters it reaches, after the first step; looking into its row of the buffer."""
        self.kept: list[dict[str, Tensor]] = []
        """The same of the last step, unaligned, where it was asked for; of several processes, this one's part."""
        self._missing: list[set[str]] = []
        self._locks = [Lock() for _ in weights]

    @property
    def jobs(self) -> tuple[str, ...]:
        """Names of the losses, in the order of the Gramian."""
        return tuple(self._weights)

    def __call__(self, losses: Mapping[str, Loss[M] | Sequence[Loss[M]]], whole: Sequence[Losses[M]] = (), *, keep: bool = False) -> StepReport:
        """Evaluate each loss, run it backward, and leave the update direction in `.grad`.

        Args:
            losses: for each name in `weights`, a function of the loss's model (called once, twice in the first step), or parts whose
                sum is the loss; side by side up to two.
            whole: further parts of every loss, each in one graph; they count among these.
            keep: leave copies of the losses' gradients in `kept`.
        Raises:
            ValueError: other losses than there are weights for, too many parts, or a loss that reaches no parameter.
        """
        if list(losses) != list(self._weights):
            raise ValueError(f"`losses` must be {list(self._weights)}; found {list(losses)}.")
        parts = [(loss,) if callable(loss) else tuple(loss) for loss in losses.values()]
        graphs = self._models.graphs(parts, whole)
        if not self.views:
            self._lay_out(self._reached(graphs))
        for parameter in self._named.values():
            parameter.grad = None
        self._missing[:] = map(set, self.views)
        values, self.kept = [], []
        with self._taking(graphs):
            found = self._values(graphs)
            first = list(islice(found, len(whole)))
            for i, some in enumerate(parts):
                values.append(torch.stack([*(each[i] for each in first), *(value for (value,) in islice(found, len(some)))]).sum())
                for name in self._missing[i]:
                    self.views[i][name].zero_()
                if keep:  # before other processes' parts are added
                    self.kept.append({name: view.clone() for name, view in self.views[i].items()})
                self._exchange.send(i)
        return self._combine(total(precise(torch.stack(values))))

    def _values(self, graphs: Sequence[Graph[M]]) -> Iterator[list[Tensor]]:
        """Of every graph in order, computed one by one or side by side; the gradients are in the buffer then."""
        if self._side_by_side == 1:
            yield from map(self._run, graphs)
            return
        with ThreadPoolExecutor(self._side_by_side) as pool:
            yield from pool.map(self._run, graphs)

    def _run(self, graph: Graph[M]) -> list[Tensor]:
        values = graph()
        if reaching := [value for value in values if value.requires_grad]:
            wanted = [own.parameters[name] for i, own in zip(graph.which, graph.own, strict=True) for name in self.views[i]]
            torch.autograd.backward(reaching, inputs=wanted)
        return [value.detach() for value in values]

    @contextmanager
    def _taking(self, graphs: Sequence[Graph[M]]) -> Iterator[None]:
        """Meanwhile gradients go into the buffer."""
        with ExitStack() as hooks:
            for i, own in {(i, own) for graph in graphs for i, own in zip(graph.which, graph.own, strict=True)}:
                for name, view in self.views[i].items():
                    hooks.enter_context(own.parameters[name].register_post_accumulate_grad_hook(self._into(i, name, view)))
            yield

    def _into(self, i: int, name: str, view: Tensor) -> Callable[[Tensor], None]:
        """What takes a parameter's gradient away as soon as it is there."""

        def take(parameter: Tensor) -> None:
            gradient, parameter.grad = parameter.grad, None
            assert gradient is not None
            with self._locks[i]:
                if name in self._missing[i]:
                    self._missing[i].remove(name)
                    view.copy_(gradient)
                else:
                    view.add_(gradient)

        return take

    def _reached(self, graphs: Sequence[Graph[M]]) -> dict[str, set[str]]:
        """Parameters that some part of each loss reaches, in any process; asked of twins, so that what a model notes of its images is noted once."""
        twins = {own: Own(twin(own.model)) for graph in graphs for own in graph.own}
        here = torch.zeros(len(self._weights), len(self._named), dtype=torch.int, device=self._device)
        for graph in graphs:
            own = [twins[own] for own in graph.own]
            wanted = [p for each in own for p in each.parameters.values()]
            reaching = [value for value in graph.losses([each.model for each in own]) if value.requires_grad]
            found = torch.autograd.grad(reaching, wanted, allow_unused=True) if reaching else [None] * len(wanted)
            here[list(graph.which)] += torch.tensor([gradient is not None for gradient in found], device=here.device).view(len(graph.which), -1)
        return {
            job: {name for name, there in zip(self._named, row, strict=True) if there} for job, row in zip(self._weights, total(here).tolist(), strict=True)
        }

    def _lay_out(self, reached: Mapping[str, set[str]]) -> None:
        for name, names in reached.items():
            if not names:
                raise ValueError(f"loss `{name}` reaches no trainable parameter; nothing can be learnt from it.")
        shapes = {name: p.shape for name, p in self._named.items()}
        self._layout = layout = Layout(shapes, list(reached.values()), self._aligned, world(), sharded=self._sharded)
        self._buffers = torch.zeros(len(reached), max(layout.ends), dtype=next(iter(self._named.values())).dtype, device=self._device)
        self._exchange = self._through(self._buffers, layout.num_aligned, layout.common.stop, layout.ends)
        self.views = [layout.views(buffer, i) for i, buffer in enumerate(self._buffers)]

    def _combine(self, losses: Float[Tensor, " l"]) -> StepReport:
        shards = self._exchange.arrived()
        grams = self._grams(shards)
        gram = sum(grams.values(), losses.new_zeros(len(losses), len(losses)))
        weights = torch.tensor(list(self._weights.values()), dtype=gram.dtype, device=gram.device)
        coefficients, harmful = self._coefficients(gram, losses, weights)
        direction = weights @ coefficients
        _mix(self._buffers[:, self._layout.common], weights)
        self._exchange.add_up_mixed()
        others = [
            self._buffers[0, self._layout.common],
            *(row[self._layout.common.stop : end] for row, end in zip(self._buffers, self._layout.ends, strict=True)),
        ]
        norm = float((direction @ gram @ direction + sum(gramian(some[None]).sum() for some in others)).clamp(min=0).sqrt())
        factor = min(1.0, self._clip_norm / max(norm, 1e-12))
        _mix(shards, factor * direction)
        if factor < 1:
            for some in others:
                some.mul_(factor)
        if not self._sharded:
            self._exchange.hand_out()
        for views in reversed(self.views):
            for name, view in views.items():
                self._named[name].grad = view
        if self._sharded:
            mine = self._layout.views_of(rank(), shards[0])
            for name in self._layout.owners:
                self._named[name].grad = mine.get(name)
        return report_of(gram, coefficients, grams, update=norm, harmful=harmful)

    def _coefficients(self, gram: Float[Tensor, "l l"], losses: Float[Tensor, " l"], weights: Float[Tensor, " l"]) -> tuple[Float[Tensor, "l l"], bool]:
        """C, and whether the aligner's would raise a loss; where the Gramian is not finite no aligner is asked, and the update is not finite either."""
        if not bool(gram.isfinite().all()):
            return torch.full_like(gram, torch.nan), False
        coefficients, self.state = self._aligner(gram, losses, self.state)
        harmful = bool((weights @ coefficients @ gram < -HARM * gram.diagonal()).any())
        return UPGrad().coefficients(gram, losses) if harmful and self._guard else coefficients, harmful

    @property
    def owners(self) -> Mapping[Tensor, int]:
        """Parameters that one process alone updates, and which; of one process, or where weights are not sharded, none."""
        return {self._named[name]: owner for name, owner in self._layout.owners.items() if world() > 1}

    @torch.no_grad()
    def spread(self) -> None:
        """Sharded weights that each process has updated, to all of them; the gradients are lost. Nothing where they are not sharded."""
        if not self._sharded or world() == 1:
            return
        for name, view in self._layout.views_of(rank(), self._exchange.arrived()[0]).items():
            view.copy_(self._named[name])
        self._exchange.hand_out()
        for name in self._layout.owners:
            self._named[name].copy_(self.views[0][name])

    def _grams(self, shards: Float[Tensor, "l m"]) -> dict[str, Float[Tensor, "l l"]]:
        """The Gramian of each part of the aligned set: of what lies in this process's shards, added up over all."""
        first, found = self._exchange.mine.start, dict[str, Tensor]()
        for part, columns in self._layout.parts:
            here = gramian(shards[:, max(0, columns.start - first) : max(0, columns.stop - first)])
            found[part] = found[part] + here if part in found else here
        return dict(zip(found, self._exchange.known_to_all(torch.stack(list(found.values()))), strict=True)) if found else {}

    @property
    def _device(self) -> torch.device:
        return next(iter(self._named.values())).device


def _mix(rows: Float[Tensor, "l n"], factors: Float[Tensor, " l"]) -> None:
    """The weighted sum of the rows, left in the first."""
    first = rows[0].mul_(float(factors[0]))
    for row, factor in zip(rows[1:], factors[1:].tolist(), strict=True):
        first.add_(row, alpha=factor)


ALIGNED_SETS: dict[str, Callable[[str], bool]] = {
    "trunk": lambda name: name.startswith("denoiser.trunk."),
    "blocks": lambda name: name.startswith("denoiser.trunk.blocks."),
    "attention": lambda name: name.startswith("denoiser.trunk.blocks.") and (".qkv." in name or ".proj." in name),
}
"""Which parameters are aligned, of those that both losses reach; `attention` is the paper's choice."""

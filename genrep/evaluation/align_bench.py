"""How exact the joint gradient is, and what aligning costs of a joint step and beside TorchJD."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from genrep.aligners import GenRepRule
from genrep.config import Config
from genrep.datasets import ArrayDataset
from genrep.evaluation.figures import Figure
from genrep.evaluation.step_bench import WEIGHTS, Rig
from genrep.evaluation.timing import ENOUGH_ROUNDS, Progress, cpu_seconds, of_rounds, silent
from genrep.model import GenRep
from genrep.training.graphs import Graph, Loss
from genrep.training.joint_step import ALIGNED_SETS, JointGradient

SIZES, SIZES_QUICK = (100_000, 5_000_000, 50_000_000), (100_000,)
COSINES = (-0.9, -0.1, 0.3, 0.9)
EXACT = 1e-6
OF_STEP = {4: 0.03, 32: 0.005}
"""What aligning may take of a joint step, by images of either loss."""
OF_PEER = 1 / 15


class _Vector(nn.Module):
    """One parameter, so that a loss <g, parameter> has the gradient g."""

    def __init__(self, num: int) -> None:
        super().__init__()
        self.denoiser = nn.ModuleDict({"trunk": nn.ParameterDict({"x": nn.Parameter(torch.zeros(num))})})


def exactness_figures(*, quick: bool = False, progress: Progress = silent) -> list[Figure]:
    """The paper's rule in float32 against explicit parallel and orthogonal parts in float64."""
    figures = []
    for num in SIZES_QUICK if quick else SIZES:
        progress(f"alignment of two gradients of {num:,} numbers")
        worst = max(_error(num, cosine) for cosine in COSINES)
        how = f"largest |update - reference| / |reference| over cosines {', '.join(f'{cosine:g}' for cosine in COSINES)}; norms 1 and 30"
        met = worst <= EXACT
        figures.append(Figure(name=f"error, {num:,} numbers", value=worst, interval=None, unit="relative", target=EXACT, at_most=True, met=met, how=how))
    return figures


def _error(num: int, cosine: float) -> float:
    generator = torch.Generator().manual_seed(0)
    first, other = (torch.randn(num, generator=generator) for _ in range(2))
    first /= first.norm()
    other -= (other @ first) * first
    pair = (first, 30 * (cosine * first + (1 - cosine**2) ** 0.5 * other / other.norm()))
    model = _Vector(num)
    (parameter,) = model.parameters()
    losses: dict[str, Loss[_Vector]] = {name: partial(_along, g) for name, g in zip(WEIGHTS, pair, strict=True)}
    JointGradient(model, GenRepRule(), weights=WEIGHTS, aligned=ALIGNED_SETS["trunk"])(losses)
    assert parameter.grad is not None
    expected = by_components(*pair)
    return float((parameter.grad.double() - expected).norm() / expected.norm())


def _along(g: Tensor, model: _Vector) -> Tensor:
    (parameter,) = model.parameters()
    return parameter @ g


def by_components(p: Tensor, g: Tensor) -> Tensor:
    """The paper's equations (11) to (16), literally, in float64."""
    p, g = p.double(), g.double()
    cosine = p @ g / (p.norm() * g.norm())
    share = ((cosine + 1) / 2) ** 2
    along_g, along_p = (p @ g) / (g @ g) * g, (p @ g) / (p @ p) * p
    return WEIGHTS["perception"] * (p - along_g + share * along_g) + WEIGHTS["generation"] * (g - along_p + share * along_p)


class _Given(JointGradient[GenRep]):
    """Everything of a joint gradient but the losses and their gradients, which were computed before: these are laid into the buffer, and aligned."""

    found: Sequence[tuple[Tensor, Sequence[Tensor]]] = ()

    def _values(self, graphs: Sequence[Graph[GenRep]]) -> Iterator[list[Tensor]]:
        if not self.found:
            yield from super()._values(graphs)
        for i, (value, gradients) in enumerate(self.found):
            for view, gradient in zip(self.views[i].values(), gradients, strict=True):
                view.copy_(gradient)
            self._missing[i].clear()
            yield [value]

    def remember(self, losses: Mapping[str, Loss[GenRep]]) -> None:
        """Compute the gradients once."""
        self(losses)
        values = [loss(self.model) for loss in losses.values()]
        wanted = [[self._named[name] for name in views] for views in self.views]
        self.found = [(value.detach(), torch.autograd.grad(value, some)) for value, some in zip(values, wanted, strict=True)]

    def common(self) -> list[Sequence[Tensor]]:
        """The gradients of what several losses reach, a row for each loss."""
        num = len(self.views[0].keys() & self.views[1].keys())
        return [gradients[:num] for _, gradients in self.found]


def cost_figures(config: Config, data: ArrayDataset, *, num_rounds: int = ENOUGH_ROUNDS, progress: Progress = silent) -> list[Figure]:
    """Aligning beside the joint step of a `SMALL_DIT` and beside TorchJD.

    Args:
        config: whose losses and optimizers are used.
        data: images of one class each.
    """
    rig = Rig(config, data)
    figures = []
    for num, bound in OF_STEP.items():
        progress(f"time of aligning, batch {num} + {num}")
        losses = rig.losses(num).separate()
        given = _Given(rig.model, GenRepRule(), weights=WEIGHTS, aligned=ALIGNED_SETS["trunk"])
        given.remember(losses)
        spent = cpu_seconds({"step": rig.step(num), "summed": rig.summed(num), "align": partial(given, losses)}, num_rounds)
        how = f"losses, gradients, clipping and optimizers, aligned and merely added up in `.grad`; {rig.what}"
        figures.append(of_rounds(f"joint step / the same without alignment, batch {num} + {num}", spent["step"] / spent["summed"], 1 + bound, num_rounds, how))
        how = f"laying into the buffer, Gramian and combination of gradients that are there, over the joint step; {rig.what}"
        figures.append(of_rounds(f"alignment / joint step, batch {num} + {num}", spent["align"] / spent["step"], bound, num_rounds, how))
    return [*figures, *_beside_torchjd(given, losses, num_rounds)]


def _beside_torchjd(given: _Given, losses: Mapping[str, Loss[GenRep]], num_rounds: int) -> list[Figure]:
    """Against its aggregators that align, on the same gradients: brought into one matrix, aggregated, and brought back."""
    try:
        from torchjd import aggregation
    except ImportError:
        raise ValueError("the peer of this figure is not installed: expected torchjd; `pip install 'genrep[bench]'` brings it.") from None
    peers: dict[str, Callable[[Tensor], Tensor]] = {"PCGrad": aggregation.PCGrad(), "MGDA": aggregation.MGDA(), "AlignedMTL": aggregation.AlignedMTL()}
    rows = given.common()

    def theirs(aggregate: Callable[[Tensor], Tensor]) -> Callable[[], object]:
        def run() -> object:
            update = aggregate(torch.stack([torch.cat([gradient.flatten() for gradient in row]) for row in rows]))
            return [part.clone() for part in update.split([gradient.numel() for gradient in rows[0]])]

        return run

    work: dict[str, Callable[[], object]] = {"ours": partial(given, losses), **{name: theirs(peer) for name, peer in peers.items()}}
    spent = cpu_seconds(work, num_rounds)
    cheapest = min(peers, key=lambda name: spent[name])
    how = f"the paper's rule, over TorchJD's {cheapest}, the cheapest of {', '.join(peers)}"
    return [of_rounds("alignment / TorchJD", spent["ours"] / spent[cheapest], OF_PEER, num_rounds, how)]

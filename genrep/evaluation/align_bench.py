"""How exact the joint gradient is, and what aligning costs of a joint step and beside TorchJD."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from genrep.aligners import GenRepRule
from genrep.config import Config
from genrep.datasets import ArrayDataset
from genrep.evaluation.figures import Figure
from genrep.evaluation.perception_bench import SMALL_DIT
from genrep.evaluation.timing import ENOUGH_ROUNDS, Progress, cpu_seconds, of_rounds, silent
from genrep.model import GenRep
from genrep.objective import JOBS, generation_losses, perception_losses
from genrep.randomness import SampleGenerator
from genrep.training.joint_step import ALIGNED_SETS, Found, JointGradient, Loss
from genrep.training.optimization import make_optimizers, make_teacher, take_step

WEIGHTS = {"perception": 0.7, "generation": 0.3}
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
    losses: dict[str, Loss] = {name: lambda g=g: parameter @ g for name, g in zip(WEIGHTS, pair, strict=True)}  # type: ignore[misc]
    JointGradient(model, GenRepRule(), weights=WEIGHTS, aligned=ALIGNED_SETS["trunk"])(losses)
    assert parameter.grad is not None
    expected = by_components(*pair)
    return float((parameter.grad.double() - expected).norm() / expected.norm())


def by_components(p: Tensor, g: Tensor) -> Tensor:
    """The paper's equations (11) to (16), literally, in float64."""
    p, g = p.double(), g.double()
    cosine = p @ g / (p.norm() * g.norm())
    share = ((cosine + 1) / 2) ** 2
    along_g, along_p = (p @ g) / (g @ g) * g, (p @ g) / (p @ p) * p
    return WEIGHTS["perception"] * (p - along_g + share * along_g) + WEIGHTS["generation"] * (g - along_p + share * along_p)


class _Given(JointGradient):
    """Everything of a joint gradient but the gradients: these were computed before."""

    found: Sequence[Found] = ()

    def _gradients(self, graphs: Sequence[tuple[Iterable[str], Loss]]) -> Iterator[Found]:
        yield from self.found or super()._gradients(graphs)

    def remember(self, losses: Mapping[str, Loss]) -> None:
        """Compute the gradients once."""
        self(losses)
        self.found = list(super()._gradients(list(zip(self.views, losses.values(), strict=True))))

    def common(self) -> list[list[Tensor]]:
        """The gradients of what several losses reach, a row for each loss."""
        num = len(self.views[0].keys() & self.views[1].keys())
        return [[gradient for gradient in gradients[:num] if gradient is not None] for _, gradients in self.found]


def cost_figures(config: Config, data: ArrayDataset, *, num_rounds: int = ENOUGH_ROUNDS, progress: Progress = silent) -> list[Figure]:
    """Aligning beside the joint step of a `SMALL_DIT` and beside TorchJD.

    Args:
        config: whose losses and optimizers are used.
        data: images of one class each.
    """
    model = GenRep(replace(config.model, trunk=SMALL_DIT, class_names=data.class_names, image_size=data.image_size))
    teacher = make_teacher(model)
    figures = []
    for num, bound in OF_STEP.items():
        progress(f"time of aligning, batch {num} + {num}")
        losses = _losses(model, teacher, config, data, num)
        joint = JointGradient(model, GenRepRule(), weights=WEIGHTS, aligned=ALIGNED_SETS["trunk"])
        given = _Given(model, GenRepRule(), weights=WEIGHTS, aligned=ALIGNED_SETS["trunk"])
        given.remember(losses)
        spent = cpu_seconds({"step": _step(model, joint, config, losses), "align": partial(given, losses)}, num_rounds)
        how = "adding up, Gramian and combination of gradients that are there, over losses, gradients, alignment and optimizers; DiT-S with 4 px tokens"
        figures.append(of_rounds(f"alignment / joint step, batch {num} + {num}", spent["align"] / spent["step"], bound, num_rounds, how))
    return [*figures, *_beside_torchjd(given, losses, num_rounds)]


def _losses(model: GenRep, teacher: GenRep, config: Config, data: ArrayDataset, num: int) -> dict[str, Loss]:
    rows = torch.arange(num)
    batch = data.batch(rows)

    def perception() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return perception_losses(model, batch, config=config.objective, generator=SampleGenerator(0, rows, "bench"))["perception"]

    def generation() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return generation_losses(model, teacher, batch, config=config.objective, generator=SampleGenerator(0, rows, "bench"))["generation"]

    return dict(zip(JOBS, (perception, generation), strict=True))


def _step(model: GenRep, joint: JointGradient, config: Config, losses: Mapping[str, Loss]) -> Callable[[], object]:
    optimizers = make_optimizers(model, replace(config.train, muon=False))

    def run() -> None:
        joint(losses)
        take_step(optimizers, 0.0)

    return run


def _beside_torchjd(given: _Given, losses: Mapping[str, Loss], num_rounds: int) -> list[Figure]:
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

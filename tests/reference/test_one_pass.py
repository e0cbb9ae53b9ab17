"""Both losses with one pass of the trunk against each with its own, in float64, and in bfloat16 as far as that goes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pytest
import torch
from rectangles import rectangles
from small_models import awake, normal, small_model
from torch import Tensor, nn

from genrep.aligners import GenRepRule
from genrep.backbones import Asking, Backbone, Pass, answer
from genrep.losses import generation_losses, glimpse_loss, perception_losses
from genrep.model import GenRep
from genrep.objective import JOBS, ObjectiveConfig
from genrep.randomness import SampleGenerator
from genrep.training.graphs import twin
from genrep.training.joint_step import ALIGNED_SETS, JointGradient
from genrep.training.optimization import make_teacher
from genrep.training.step_report import StepReport
from genrep.types import Batch

WEIGHTS = {"perception": 0.7, "generation": 0.3}
CONFIG = ObjectiveConfig(draws=2)


@pytest.fixture
def batch() -> Batch:
    return rectangles(5, num_objects=2, size=16).batch(torch.arange(5))


@pytest.fixture
def model() -> GenRep:
    return awake(small_model(proposals=3), 2).double()


def asking(model: GenRep, job: str, batch: Batch, teacher: GenRep) -> Asking[dict[str, Tensor]]:
    generator = SampleGenerator(0, batch.index, job)
    if job == "generation":
        return generation_losses(model, teacher, batch, config=CONFIG, generator=generator)
    return perception_losses(model, batch, config=CONFIG, generator=generator, glimpses=5)


def gradients(model: GenRep, batch: Batch, *, one_pass: bool, side_by_side: int = 1, bf16: bool = False) -> tuple[StepReport, dict[str, Tensor]]:
    """Two steps, the second of which counts: the first also finds out what each loss reaches."""
    teacher = make_teacher(awake(small_model(proposals=3), 5)).to(next(model.parameters()).dtype)
    joint = JointGradient(model, GenRepRule(), weights=WEIGHTS, aligned=ALIGNED_SETS["trunk"], side_by_side=side_by_side)

    def one(job: str, model: GenRep) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            return model.answer(asking(model, job, batch, teacher))[job]

    def both(models: Sequence[GenRep]) -> list[Tensor]:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            found = answer([each.denoiser.trunk for each in models], [asking(each, job, batch, teacher) for job, each in zip(JOBS, models, strict=True)])
        return [terms[job] for job, terms in zip(JOBS, found, strict=True)]

    parts = {job: [] if one_pass else [partial(one, job)] for job in JOBS}
    parts["perception"].append(lambda model: glimpse_loss(model, batch, config=CONFIG, beside=5))
    for _ in range(2):
        report = joint(parts, [both] if one_pass else [])
    return report, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("side_by_side", [1, 2])
def test_one_pass_gives_the_gradients_of_two(model: GenRep, batch: Batch, side_by_side: int) -> None:
    """Heads, modulator, second look, glimpses and all: of every parameter, and none besides."""
    report, own = gradients(model, batch, one_pass=False)
    same, found = gradients(model, batch, one_pass=True, side_by_side=side_by_side)
    assert set(found) == set(own)
    for name, gradient in own.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=2e-6 * float(gradient.abs().max()) + 1e-12, msg=name)  # float32 within the heads
    assert same.cosine == pytest.approx(report.cosine, abs=1e-6) and same.norms == pytest.approx(report.norms, rel=1e-6)


def test_under_autocast_one_pass_errs_as_two_do(model: GenRep, batch: Batch) -> None:
    model = model.float()
    (_, own), (_, found) = (gradients(model, batch, one_pass=one_pass, bf16=True) for one_pass in (False, True))
    _, exact = gradients(model.double(), batch, one_pass=False)
    flat = [torch.cat([some[name].double().flatten() for name in exact if name.startswith("denoiser.trunk.blocks.")]) for some in (own, found, exact)]
    errors = [float((each - flat[2]).norm() / flat[2].norm()) for each in flat[:2]]
    assert errors[1] < 1.5 * errors[0] < 0.5


def test_trunks_taken_together_give_each_its_own(model: GenRep) -> None:
    """Every tap, map and token of three passes of different sizes and conditions; and gradients of the weights from its own rows alone."""
    trunks = [model.denoiser.trunk, twin(model.denoiser.trunk), twin(model.denoiser.trunk)]
    sizes, sem = (2, 1, 4), torch.zeros(4, trunks[0].embedding.semantics.in_features).double()
    ys = [None, torch.eye(4)[:1].double(), torch.cat([torch.eye(4).double(), sem + 0.3], 1)]
    passes = [Pass(normal(num, 1, 16, 16, seed=i).double(), torch.rand(num).double(), y) for i, (num, y) in enumerate(zip(sizes, ys, strict=True))]
    found, alone = (kind.together(trunks, passes) for kind in (type(trunks[0]), Backbone))
    for hidden, expected in zip(found, alone, strict=True):
        torch.testing.assert_close(hidden.tokens, expected.tokens, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(hidden.conditioning, expected.conditioning)
        for mine, its in zip((*hidden.features.taps, *hidden.features.stem), (*expected.features.taps, *expected.features.stem), strict=True):
            torch.testing.assert_close(mine, its, rtol=1e-9, atol=1e-12)
    for i in range(3):
        parameters = [p for trunk in trunks for p in trunk.parameters()]
        mine, its = (torch.autograd.grad(some[i].tokens.square().sum(), parameters, allow_unused=True, retain_graph=True) for some in (found, alone))
        for gradient, expected in zip(mine, its, strict=True):
            if expected is None:
                assert gradient is None or not gradient.any()
            else:
                torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-10)


def test_a_twin_has_the_same_weights_whatever_is_done_to_them_and_gradients_of_its_own() -> None:
    layer = nn.BatchNorm1d(3)
    layer.bias.requires_grad_(False)
    other = twin(layer)
    with torch.no_grad():
        layer.weight.mul_(3)
        other.running_mean.add_(2)
    assert torch.equal(other.weight, layer.weight) and layer.weight[0] == 3 and layer.running_mean[0] == 2 and not other.bias.requires_grad
    other(normal(4, 3)).sum().backward()
    assert other.weight.grad is not None and layer.weight.grad is None


def test_who_asks_for_a_second_pass_is_refused() -> None:
    model = small_model()
    image, t = normal(1, 1, 16, 16), torch.zeros(1)

    def greedy() -> Asking[int]:
        yield Pass(image, t, None)
        yield Pass(image, t, None)
        return 0

    with pytest.raises(RuntimeError, match="one pass of its trunk; found a second"):
        model.answer(greedy())

"""The joint gradient of a whole GenRep against each loss's own gradient and the paper's equations, spelt out in float64."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from rectangles import rectangles
from small_models import normal, small_model
from torch import Tensor, nn

from genrep.aligners import Aligner, GenRepRule, WeightedSum
from genrep.losses import representation_alignment
from genrep.model import GenRep
from genrep.objective import JOBS
from genrep.parametrization import u_error
from genrep.training.joint_step import ALIGNED_SETS, JointGradient, gramian
from genrep.training.step_report import part_of, parts_of
from genrep.types import Batch

W_P, W_G = 0.7, 0.3
WEIGHTS = {"perception": W_P, "generation": W_G}
Losses = dict[str, Callable[[nn.Module], Tensor]]
Gradients = dict[str, dict[str, Tensor]]


@pytest.fixture(scope="module")
def model() -> GenRep:
    return small_model(tasks=("classification", "segmentation")).double()


@pytest.fixture(scope="module")
def batch() -> Batch:
    return rectangles(4, size=16).batch(torch.arange(4))


@pytest.fixture(scope="module")
def losses(model: GenRep, batch: Batch) -> Losses:
    """Two heads on a clean pass; denoising and representation alignment on a noised one."""
    x0, t = model.encode(batch.image.double()), torch.linspace(0.1, 0.9, 4).double()
    teacher_late = normal(4, 16, 4, 4, seed=1).double()

    def perception(model: GenRep) -> Tensor:
        features = model.clean_features(x0)
        return torch.stack([term.double() for head in model.heads.values() for term in head.loss(head(features), batch).values()]).sum()

    def generation(model: GenRep) -> Tensor:
        xt = model.schedule.noised(x0, t, normal(4, 1, 16, 16).double())
        noised = model.denoiser.noised_pass(xt, t, batch.classes.double())
        error = u_error((noised.base.double() - x0).square(), t, model.schedule).mean()
        return error + representation_alignment(model, noised.features.taps[0], teacher_late).double()

    return {"perception": perception, "generation": generation}


@pytest.fixture(scope="module")
def own(model: GenRep, losses: Losses) -> Gradients:
    """Each loss's gradient by parameter name, where it reaches."""
    names, parameters = zip(*model.named_parameters(), strict=True)
    of_loss = {job: torch.autograd.grad(loss(model), parameters, allow_unused=True) for job, loss in losses.items()}
    return {job: {name: g for name, g in zip(names, found, strict=True) if g is not None} for job, found in of_loss.items()}


def joint(model: nn.Module, aligner: Aligner, losses: Losses, *, aligned: str = "trunk") -> tuple[dict[str, Tensor], JointGradient]:
    step = JointGradient(model, aligner, weights=WEIGHTS, aligned=ALIGNED_SETS[aligned])
    step(losses)
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}, step


def spelt_out(g_p: Tensor, g_g: Tensor) -> Tensor:
    """Equations (11) to (16) with the vectors themselves."""
    cosine = (g_p @ g_g) / (g_p.norm() * g_g.norm())
    alpha = ((cosine + 1) / 2) ** 2
    parallel_p, parallel_g = (g_p @ g_g) / (g_g @ g_g) * g_g, (g_p @ g_g) / (g_p @ g_p) * g_p
    aligned_p, aligned_g = (g_p - parallel_p) + alpha * parallel_p, (g_g - parallel_g) + alpha * parallel_g
    return W_P * aligned_p + W_G * aligned_g


def flat(gradients: dict[str, Tensor], names: list[str]) -> Tensor:
    return torch.cat([gradients[name].flatten() for name in names])


@pytest.mark.parametrize("which", ALIGNED_SETS)
def test_aligned_set_follows_the_equations(model: GenRep, losses: Losses, own: Gradients, which: str) -> None:
    found, _ = joint(model, GenRepRule(), losses, aligned=which)
    names = [name for name in own["perception"] if name in own["generation"] and ALIGNED_SETS[which](name)]
    expected = spelt_out(flat(own["perception"], names), flat(own["generation"], names))
    torch.testing.assert_close(flat(found, names), expected, rtol=1e-9, atol=1e-12)
    assert any(".qkv." in name for name in names) and all(name.startswith("denoiser.trunk.") for name in names)


@pytest.mark.parametrize("which", ALIGNED_SETS)
def test_other_common_parameters_get_the_weighted_sum(model: GenRep, losses: Losses, own: Gradients, which: str) -> None:
    found, _ = joint(model, GenRepRule(), losses, aligned=which)
    names = [name for name in own["perception"] if name in own["generation"] and not ALIGNED_SETS[which](name)]
    assert bool(names) == (which != "trunk")
    for name in names:
        torch.testing.assert_close(found[name], W_P * own["perception"][name] + W_G * own["generation"][name], rtol=1e-9, atol=1e-12)


def test_parameters_of_one_loss_get_its_gradient_unweighted(model: GenRep, losses: Losses, own: Gradients) -> None:
    found, _ = joint(model, GenRepRule(), losses)
    for job, other, part in (("perception", "generation", "heads."), ("generation", "perception", "projector.")):
        names = [name for name in own[job] if name not in own[other]]
        assert any(name.startswith(part) for name in names)
        for name in names:
            torch.testing.assert_close(found[name], own[job][name], rtol=1e-9, atol=1e-12)
    assert set(found) == set(own["perception"]) | set(own["generation"])
    assert not any(name.startswith("denoiser.modulator.") for name in found)


def test_weighted_sum_is_the_gradient_of_the_weighted_sum(model: GenRep, losses: Losses, own: Gradients) -> None:
    """Up to float32: logits and x0_hat are rounded to it, and so is what flows back through them."""
    found, _ = joint(model, WeightedSum(), losses)
    total = W_P * losses["perception"](model) + W_G * losses["generation"](model)
    common = {name: p for name, p in model.named_parameters() if name in own["perception"] and name in own["generation"]}
    for name, expected in zip(common, torch.autograd.grad(total, list(common.values())), strict=True):
        torch.testing.assert_close(found[name], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("which", ALIGNED_SETS)
@pytest.mark.parametrize("share", [0.3, 1.7])
def test_the_update_is_shortened_as_torch_shortens_it(model: GenRep, losses: Losses, which: str, share: float) -> None:
    """The norm is that of all parameters, though that of the aligned ones was never measured."""
    whole, _ = joint(model, GenRepRule(), losses, aligned=which)
    norm = float(torch.stack([gradient.norm() for gradient in whole.values()]).norm())
    report = JointGradient(model, GenRepRule(), weights=WEIGHTS, aligned=ALIGNED_SETS[which], clip_norm=share * norm)(losses)
    assert report.update == pytest.approx(norm, rel=1e-12)
    for name, parameter in model.named_parameters():
        if name in whole:
            torch.testing.assert_close(parameter.grad, min(share, 1.0) * whole[name], rtol=1e-9, atol=1e-15)


def test_steps_do_not_add_up(model: GenRep, losses: Losses) -> None:
    first, step = joint(model, GenRepRule(), losses)
    step(losses)
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None and name not in first) or torch.equal(parameter.grad, first[name])


@pytest.mark.parametrize("num", [2, 4, 7])
def test_side_by_side_is_one_by_one(model: GenRep, losses: Losses, num: int) -> None:
    """Two losses of two parts each, the second part twice the first, in as many threads as one likes."""
    halves = {job: (loss, partial(lambda loss, model: 2 * loss(model), loss)) for job, loss in losses.items()}
    found = []
    for threads in (1, num):
        step = JointGradient(model, GenRepRule(), weights=WEIGHTS, aligned=ALIGNED_SETS["trunk"], side_by_side=threads)
        report = step(halves)
        found.append((report, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}))
    (one_report, one), (many_report, many) = found
    assert one_report == many_report and all(torch.equal(one[name], many[name]) for name in one) and set(one) == set(many)
    whole, _ = joint(model, GenRepRule(), losses)
    for name in whole:
        torch.testing.assert_close(one[name], 3 * whole[name], rtol=1e-9, atol=1e-12)


def test_reports_cosine_norms_and_share_kept(model: GenRep, losses: Losses, own: Gradients) -> None:
    report = JointGradient(model, GenRepRule(), weights=WEIGHTS, aligned=ALIGNED_SETS["trunk"])(losses)
    names = [name for name in own["perception"] if name in own["generation"] and ALIGNED_SETS["trunk"](name)]
    g_p, g_g = (flat(own[job], names) for job in JOBS)
    cosine = float(g_p @ g_g / g_p.norm() / g_g.norm())
    assert report.cosine == pytest.approx(cosine, rel=1e-9)
    assert report.norms == pytest.approx((float(g_p.norm()), float(g_g.norm())), rel=1e-9)
    assert report.kept == pytest.approx([((cosine + 1) / 2) ** 2] * 2, rel=1e-9)


def test_one_loss_alone_is_its_gradient(model: GenRep, losses: Losses, own: Gradients) -> None:
    step = JointGradient(model, GenRepRule(), weights={"perception": 0.5}, aligned=ALIGNED_SETS["trunk"])
    step({"perception": losses["perception"]})
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert set(found) == set(own["perception"])
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, own["perception"][name], rtol=1e-9, atol=1e-12)


class Toy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        for i, name in enumerate("abcd"):
            setattr(self, name, nn.Parameter(normal(3, seed=i).double()))
        self.frozen = nn.Parameter(torch.ones(3).double(), requires_grad=False)


def test_three_losses_share_what_they_share() -> None:
    """All reach a, which is aligned; two of them c; one each b and d."""
    toy = Toy()
    x = normal(3, seed=9).double()
    losses = {
        "one": lambda toy: (toy.a * x).sum() ** 2 + toy.b.square().sum(),
        "two": lambda toy: (toy.a - toy.c).square().sum() * toy.frozen.sum(),
        "three": lambda toy: (toy.a + toy.c.exp() + toy.d).square().sum(),
    }
    weights = {"one": 0.5, "two": 0.3, "three": 0.2}
    own = {
        name: dict(zip("abcd", torch.autograd.grad(loss(toy), [toy.a, toy.b, toy.c, toy.d], allow_unused=True), strict=True)) for name, loss in losses.items()
    }
    JointGradient(toy, WeightedSum(), weights=weights, aligned=lambda name: name == "a")(losses)
    torch.testing.assert_close(toy.a.grad, 0.5 * own["one"]["a"] + 0.3 * own["two"]["a"] + 0.2 * own["three"]["a"])
    torch.testing.assert_close(toy.c.grad, 0.3 * own["two"]["c"] + 0.2 * own["three"]["c"])
    torch.testing.assert_close(toy.b.grad, own["one"]["b"])
    torch.testing.assert_close(toy.d.grad, own["three"]["d"])
    assert toy.frozen.grad is None


def test_losses_that_teach_nothing_or_are_not_expected_are_refused() -> None:
    toy = Toy()
    step = partial(JointGradient, toy, GenRepRule(), weights=WEIGHTS, aligned=lambda name: True)
    good = lambda toy: toy.a.sum()  # noqa: E731
    for bad in (lambda _: torch.ones(()).double(), lambda _: torch.ones((), requires_grad=True).double()):
        with pytest.raises(ValueError, match="loss `generation` reaches no trainable parameter"):
            step()({"perception": good, "generation": bad})
    with pytest.raises(ValueError, match=r"`losses` must be \['perception', 'generation'\]; found \['generation', 'perception'\]"):
        step()({"generation": good, "perception": good})
    for many, whole in (([good] * 3, []), ([good] * 2, [lambda models: [good(model) for model in models]])):
        with pytest.raises(ValueError, match="two parts at the most"):
            step(side_by_side=2)({"perception": good, "generation": many}, whole)


def test_dot_products_keep_six_digits_at_twenty_million_numbers() -> None:
    generator = torch.Generator().manual_seed(0)
    a = torch.rand(20_000_000, generator=generator)
    b = torch.rand(20_000_000, generator=generator).sub_(0.4)
    exact = sum(x.double() @ y.double() for x, y in zip(a.split(1 << 20), b.split(1 << 20), strict=True))
    assert abs(float(gramian(torch.stack([a, b]))[0, 1]) / float(exact) - 1) <= 1e-6


def test_the_cosine_of_each_part_is_that_of_its_own_gradients(model: GenRep, losses: Losses, own: Gradients) -> None:
    """And the parts' inner products add up to the whole's."""
    joint = JointGradient(model, GenRepRule(), weights=WEIGHTS, aligned=ALIGNED_SETS["trunk"])
    report = joint(losses)
    shared = [name for name in own["perception"] if name in own["generation"] and ALIGNED_SETS["trunk"](name)]
    for part, found in report.of_parts.items():
        p, g = (torch.cat([own[job][name].flatten() for name in shared if part_of(name) == part]) for job in JOBS)
        assert found == pytest.approx(float(p @ g / (p.norm() * g.norm()).clamp(min=1e-30)), abs=1e-9)
    assert {"stem", "block_1", "block_2", "block_3"} <= set(report.of_parts) == {part_of(name) for name in shared}
    assert set(report.of_parts) <= set(parts_of(model, ALIGNED_SETS["trunk"]))
    columns = report.columns(JOBS)
    assert columns["align/cosine"] == pytest.approx(report.cosine, abs=1e-6)
    assert columns["align/cosine/stem"] == pytest.approx(report.of_parts["stem"], abs=1e-6)
    assert columns["align/kept_generation"] == pytest.approx(report.kept[1], abs=1e-6)


@pytest.mark.parametrize("guard", [False, True])
@pytest.mark.parametrize(("cosine", "harmful"), [(-0.35, True), (0.3, False)])
def test_a_direction_that_would_raise_a_loss_is_noticed_and_may_be_guarded_against(cosine: float, harmful: bool, guard: bool) -> None:
    """The paper's rule keeps of a strong gradient what speaks against a weak one."""
    weak, strong = torch.tensor([1.0, 0.0, 0.0]).double(), 200 * torch.tensor([cosine, (1 - cosine**2) ** 0.5, 0.0]).double()
    model = nn.Module()
    model.denoiser = nn.Module()
    model.denoiser.trunk = nn.ParameterDict({"stem": nn.Parameter(torch.zeros(3).double())})
    parameter = model.denoiser.trunk["stem"]
    along = lambda g, model: model.denoiser.trunk["stem"] @ g  # noqa: E731
    step = JointGradient(model, GenRepRule(), weights=WEIGHTS, aligned=ALIGNED_SETS["trunk"], guard=guard)
    report = step({"perception": partial(along, weak), "generation": partial(along, strong)})
    assert report.harmful is harmful and report.columns(tuple(WEIGHTS))["align/harmful"] == float(harmful)
    rises = [float(parameter.grad @ each) for each in (weak, strong)]
    assert (min(rises) < 0) == (harmful and not guard)
    if not harmful:
        torch.testing.assert_close(parameter.grad, spelt_out(weak, strong), rtol=1e-9, atol=1e-12)

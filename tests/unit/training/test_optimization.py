"""The learning rate, weight decay, and the momentum teacher."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace

import pytest
import torch
from small_models import small_model

from genrep.aligners import GenRepRule
from genrep.config import Config, TrainConfig
from genrep.objective import ObjectiveConfig
from genrep.training.muon import WideMuon
from genrep.training.optimization import lr_at, make_optimizers, make_teacher, take_step, update_teacher

CONFIG = TrainConfig(lr=2e-3, warmup_fraction=0.1, final_lr_fraction=0.05)


def test_rate_warms_up_linearly_and_falls_like_a_cosine() -> None:
    rates = [lr_at(step, 200, CONFIG) for step in range(200)]
    assert rates[:20] == pytest.approx([2e-3 * (i + 1) / 20 for i in range(20)])
    assert max(rates) == rates[19] == rates[20] == 2e-3
    assert all(a > b for a, b in itertools.pairwise(rates[20:]))
    assert rates[20 + 90] == pytest.approx(2e-3 * (0.05 + 0.95 / 2))
    assert lr_at(200, 200, CONFIG) == pytest.approx(2e-3 * 0.05) and rates[-1] < 1.01 * 2e-3 * 0.05


@pytest.mark.parametrize(
    ("name", "value", "interval"),
    [
        ("stage1_images", -1, "[0, inf)"),
        ("stage2_images", -1, "[0, inf)"),
        ("lr", 0.0, "(0, inf)"),
        ("final_lr_fraction", 1.5, "[0, 1]"),
        ("warmup_fraction", -0.1, "[0, 1]"),
        ("perception_weight", -0.5, "[0, inf)"),
        ("generation_weight", -0.5, "[0, inf)"),
        ("clip_norm", 0.0, "(0, inf)"),
        ("ema_momentum", 1.0, "[0, 1)"),
    ],
)
def test_settings_out_of_range_are_refused(name: str, value: float, interval: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"`{name}` must lie in {interval}; found {value}.")):
        TrainConfig(**{name: value})  # type: ignore[arg-type]


def test_ends_of_ranges_and_what_else_is_refused() -> None:
    TrainConfig(final_lr_fraction=1.0, warmup_fraction=0.0, ema_momentum=0.0, stage1_images=0, perception_weight=0.0)
    for fields, found in (
        ({"gate_at": (0.5, 1.0)}, "`gate_at` must lie in [0, 1); found 1.0"),
        ({"depth_weight": -1.0}, "`depth_weight` must lie in [0, inf)"),
    ):
        with pytest.raises(ValueError, match=re.escape(found)):
            ObjectiveConfig(**fields)  # type: ignore[arg-type]
    Config(aligner=GenRepRule(only=1))
    with pytest.raises(ValueError, match=r"`aligner.only` must be one of 0 \(perception\), 1 \(generation\), or none; found 2"):
        Config(aligner=GenRepRule(only=2))
    for name in ("stage1_batch_size", "batch_size"):
        with pytest.raises(ValueError, match=f"`{name}` must be at least 1; found 0"):
            TrainConfig(**{name: 0})  # type: ignore[arg-type]


@pytest.mark.parametrize("num_steps", [1, 2, 7])
def test_rate_is_positive_in_the_shortest_stage(num_steps: int) -> None:
    assert all(0 < lr_at(step, num_steps, CONFIG) <= 2e-3 for step in range(num_steps))


def test_only_matrices_are_decayed() -> None:
    model = small_model()
    model.projector[0].weight.requires_grad_(False)
    optimizers = make_optimizers(model, CONFIG)
    decay = {id(p): group["weight_decay"] for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        of_matrix = CONFIG.muon_decay if parameter.ndim == 2 and named_for_muon(name) else CONFIG.weight_decay
        assert decay.get(id(parameter)) == (None if name == "projector.0.weight" else of_matrix if parameter.ndim > 1 else 0.0)


def named_for_muon(name: str) -> bool:
    """Of the blocks, of what conditions them (time) and of what reads them (heads' mixing of taps, semantics, projector)."""
    return any(part in name for part in ("trunk.blocks.", "trunk.time.", ".fuse.", "modulator.embed.", "projector."))


def test_muon_takes_the_matrices_of_the_blocks_and_of_what_stands_around_them() -> None:
    model = small_model()
    muon, adam = make_optimizers(model, CONFIG)
    names = {id(p): name for name, p in model.named_parameters()}
    of_muon, of_adam = ({names[id(p)] for group in each.param_groups for p in group["params"]} for each in (muon, adam))
    assert of_muon == {name for name, p in model.named_parameters() if p.ndim == 2 and named_for_muon(name)}
    assert of_muon and not of_muon & of_adam and of_muon | of_adam == set(names.values())
    assert [type(each) for each in make_optimizers(model, replace(CONFIG, muon=False))] == [torch.optim.AdamW]
    assert [type(make_optimizers(model, replace(CONFIG, bf16=bf16))[0]) for bf16 in (True, False, None)] == [torch.optim.Muon, WideMuon, WideMuon]


def test_a_step_has_the_rate_and_the_size_it_is_given() -> None:
    """Root mean square of an update of AdamW is about the rate in its first step, that of Muon a fifth of it, whatever the size of the gradient."""
    model = small_model()
    optimizers = make_optimizers(model, replace(CONFIG, weight_decay=0.0))
    block, other = model.denoiser.trunk.blocks[0].fc1.weight, model.heads["classification"].classify.weight
    before = [p.detach().clone() for p in (block, other)]
    for parameter in model.parameters():
        parameter.grad = 1e-3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    take_step(optimizers, 1e-2)
    of_muon, of_adam = ((p.detach() - b).square().mean().sqrt().item() for p, b in zip((block, other), before, strict=True))
    assert of_adam == pytest.approx(1e-2, rel=0.01)
    assert of_muon == pytest.approx(0.2e-2, rel=0.25)


def test_teacher_is_a_copy_that_follows_with_growing_momentum() -> None:
    model = small_model()
    teacher = make_teacher(model)
    assert not any(p.requires_grad for p in teacher.parameters()) and not teacher.training
    model.denoiser.modulator.observe(3 * torch.ones(4, 16))
    update_teacher(make_teacher(model), model, updates=0, largest=0.9)
    assert (model.denoiser.modulator.centre == 3).all() and not teacher.denoiser.modulator.centre.any()
    expected = {name: p.detach().clone() for name, p in model.named_parameters()}
    for n in range(30):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * (n + 1))
        update_teacher(teacher, model, updates=n, largest=0.7)
        momentum = min(0.7, (1 + n) / (10 + n))
        expected = {name: momentum * expected[name] + (1 - momentum) * p.detach() for name, p in model.named_parameters()}
    for name, parameter in teacher.named_parameters():
        torch.testing.assert_close(parameter, expected[name], rtol=1e-5, atol=1e-5)

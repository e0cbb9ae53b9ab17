"""The learning rate, weight decay, and the momentum teacher."""

from __future__ import annotations

import itertools

import pytest
import torch
from small_models import small_model

from genrep.config import TrainConfig
from genrep.training.optimization import lr_at, make_optimizer, make_teacher, update_teacher

CONFIG = TrainConfig(lr=2e-3, warmup_fraction=0.1, final_lr_fraction=0.05)


def test_rate_warms_up_linearly_and_falls_like_a_cosine() -> None:
    rates = [lr_at(step, 200, CONFIG) for step in range(200)]
    assert rates[:20] == pytest.approx([2e-3 * (i + 1) / 20 for i in range(20)])
    assert max(rates) == rates[19] == rates[20] == 2e-3
    assert all(a > b for a, b in itertools.pairwise(rates[20:]))
    assert rates[20 + 90] == pytest.approx(2e-3 * (0.05 + 0.95 / 2))
    assert lr_at(200, 200, CONFIG) == pytest.approx(2e-3 * 0.05) and rates[-1] < 1.01 * 2e-3 * 0.05


@pytest.mark.parametrize("num_steps", [1, 2, 7])
def test_rate_is_positive_in_the_shortest_stage(num_steps: int) -> None:
    assert all(0 < lr_at(step, num_steps, CONFIG) <= 2e-3 for step in range(num_steps))


def test_only_matrices_are_decayed() -> None:
    model = small_model()
    model.projector[0].weight.requires_grad_(False)
    optimizer = make_optimizer(model, CONFIG)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        assert decay.get(id(parameter)) == (None if name == "projector.0.weight" else CONFIG.weight_decay if parameter.ndim > 1 else 0.0)


def test_teacher_is_a_copy_that_follows_with_growing_momentum() -> None:
    model = small_model()
    teacher = make_teacher(model)
    assert not any(p.requires_grad for p in teacher.parameters()) and not teacher.training
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

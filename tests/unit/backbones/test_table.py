"""A loop's modulations from a table: the same pass, and outside the table computed as ever."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
import torch
from small_models import TRUNK, awake, normal
from torch import Tensor

from genrep.backbones import DiT, Hidden, ModulationTable
from genrep.backbones import table as table_module

TIMES = torch.tensor([1.0, 0.6, 0.1], dtype=torch.float64)
Y = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0], [1.0, 0.0, 0.0]])


def trunk() -> DiT:
    return awake(DiT(TRUNK, channels=2, image_size=(16, 24), num_classes=3))


def assert_same(model: DiT, found: Hidden, expected: Hidden) -> None:
    torch.testing.assert_close(model.decode(found), model.decode(expected), rtol=1e-4, atol=1e-5)
    for one, other in zip(found.features.taps, expected.features.taps, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def computed(model: DiT) -> Any:
    """Counts the passes whose time was not looked up."""
    return mock.patch.object(model.time, "forward", wraps=model.time.forward)


def test_the_pass_is_the_same_and_computes_no_modulation() -> None:
    model, xt = trunk(), normal(3, 2, 16, 24)
    table = ModulationTable(model, TIMES, Y)
    for time in TIMES.float():
        t = time.expand(3)
        with computed(model) as counted:
            found = [table(xt, t, Y), table(xt, t, Y.flip(0)), table(torch.cat([xt, xt]), t.repeat(2), torch.cat([Y, torch.zeros_like(Y)]))]
            assert counted.call_count == 0
        expected = [model(xt, t, Y), model(xt, t, Y.flip(0)), model(torch.cat([xt, xt]), t.repeat(2), torch.cat([Y, torch.zeros_like(Y)]))]
        for one, other in zip(found, expected, strict=True):
            assert_same(model, one, other)


def test_a_table_that_would_be_too_large_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    model, xt = trunk(), normal(3, 2, 16, 24)
    monkeypatch.setattr(table_module, "MOST_ROWS", 3 * len(TIMES) - 1)
    with computed(model) as counted:
        found = ModulationTable(model, TIMES, Y)(xt, TIMES[:1].float().expand(3), Y)
        assert counted.call_count == 2  # of no time, and of this one
    assert_same(model, found, model(xt, TIMES[:1].float().expand(3), Y))


def test_what_is_not_in_the_table_is_computed() -> None:
    model, xt = trunk(), normal(3, 2, 16, 24)
    table = ModulationTable(model, TIMES, Y)
    strange: list[tuple[Tensor, Tensor]] = [(torch.full((3,), 0.3), Y), (torch.tensor([1.0, 0.6, 1.0]), Y), (torch.full((3,), 0.6), torch.ones(3, 3))]
    for t, y in strange:
        with computed(model) as counted:
            found = table(xt, t, y)
            assert counted.call_count == 1
        assert_same(model, found, model(xt, t, y))

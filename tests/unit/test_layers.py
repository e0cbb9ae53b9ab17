"""Layers that trunk and heads share, beside torch's."""

from __future__ import annotations

import pytest
import torch
from small_models import normal
from torch import nn

from genrep import layers
from genrep.layers import GroupNorm, precise, widest


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_norms_are_the_reference_whatever_the_layout(dtype: torch.dtype) -> None:
    x, ours = normal(2, 16, 6, 4).to(dtype), GroupNorm(8, 16).to(dtype)
    expected = nn.GroupNorm(8, 16).to(dtype)(x)
    for layout in (torch.contiguous_format, torch.channels_last):
        found = ours(x.to(memory_format=layout))
        torch.testing.assert_close(found, expected)
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_precise_is_as_the_device_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.ones(2, dtype=torch.bfloat16)
    assert precise(x).dtype == torch.float64 and widest(torch.device("mps")) == torch.float32
    monkeypatch.setattr(layers, "WITHOUT_FLOAT64", {"cpu"})
    assert precise(x).dtype == torch.float32

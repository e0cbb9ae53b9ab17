"""The threads of a CPU, and how they are shared."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def side_by_side(num: int) -> Iterator[None]:
    """Share the CPU's threads among `num` Python threads, so that each computes with its part of the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, before // num))
    try:
        yield
    finally:
        torch.set_num_threads(before)

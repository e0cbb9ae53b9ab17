"""The machine: devices and threads. Process groups will live here too; nothing else knows of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def default_device() -> torch.device:
    """cuda, mps or cpu, in this order."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


@contextmanager
def side_by_side(num: int) -> Iterator[None]:
    """Share the CPU's threads among `num` Python threads, so that each computes with its part of the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, before // num))
    try:
        yield
    finally:
        torch.set_num_threads(before)

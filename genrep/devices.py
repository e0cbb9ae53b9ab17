"""Where to compute."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

DEVICE, AUTO = "GENREP_DEVICE", "auto"
"""The environment's variable that names the device, for a program and the processes that it starts; and its value where it says nothing."""


def uses_cuda() -> bool:
    """Whether it is cuda, whichever of several."""
    import torch

    return (os.environ.get(DEVICE) or AUTO) in (AUTO, "cuda") and torch.cuda.is_available()


def default_device() -> torch.device:
    """Where `GENREP_DEVICE` says; of itself cuda (of several processes, each its own), mps or cpu, in this order.

    Raises:
        ValueError: it names a device that is not there.
    """
    import torch

    if uses_cuda():
        several = int(os.environ.get("WORLD_SIZE", "1")) > 1
        return torch.device("cuda", torch.cuda.current_device()) if several else torch.device("cuda")
    named = os.environ.get(DEVICE) or AUTO
    mps = ["mps"] if torch.backends.mps.is_available() else []
    there = ["cpu", *mps, *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if named not in (AUTO, *there):
        raise ValueError(f"there is no device `{named}` to compute on; found {', '.join(there)}. `auto` takes the first of cuda, mps and cpu that there is.")
    return torch.device(*mps or ["cpu"]) if named == AUTO else torch.device(named)

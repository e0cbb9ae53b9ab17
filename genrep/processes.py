"""The processes that train one model together. Whatever is here is the identity, and costs nothing, where there is one.

Every loss is a mean over the images of all processes: each has its own part of the sum, divided by what all of them count together. So gradients
are added up, never averaged, and images without labels, or batches that do not divide, weigh what they would weigh in one process.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from jaxtyping import Bool, Int
from torch import Tensor

from genrep.devices import uses_cuda

PATIENCE = timedelta(minutes=10)
"""How long a process waits for the others before it takes one for dead; over a broken connection it does not wait."""

Result = TypeVar("Result")

_small: dist.ProcessGroup | None = None
"""For what is counted while gradients are on their way: one does not wait for the other."""

_instead: Callable[[Tensor], Tensor] | None = None
"""What stands in for `total`."""


def rank() -> int:
    """Which of the processes this is, from 0."""
    return dist.get_rank() if together() else 0


def world() -> int:
    """How many there are."""
    return dist.get_world_size() if together() else 1


def is_first() -> bool:
    """Whether this is the one that writes files and speaks to people."""
    return rank() == 0


def together() -> bool:
    """Whether there is more than one."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


@contextmanager
def joined() -> Iterator[None]:
    """Meet the other processes that `torchrun` started, and part from them at the end. Alone, or where they have already met: nothing.

    Raises:
        ValueError: they do not find each other.
    """
    global _small
    if not dist.is_available() or dist.is_initialized() or int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield
        return
    if uses_cuda():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    try:
        dist.init_process_group("nccl" if uses_cuda() else "gloo", timeout=PATIENCE)
        group = dist.new_group(timeout=PATIENCE)
        assert isinstance(group, dist.ProcessGroup)
        _small = group
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"the processes do not find each other: {error}. Start them by `torchrun --nproc-per-node=N -m genrep train ...`.") from error
    try:
        yield
    finally:
        _small = None
        dist.destroy_process_group()


@contextmanager
def speaking() -> Iterator[None]:
    """Something is exchanged with the other processes.

    Raises:
        ConnectionError: one of them is gone.
    """
    try:
        yield
    except RuntimeError as error:
        cause = str(error).splitlines()[0].split("] ", 1)[-1].split(". ")[0]
        raise ConnectionError(
            f"process {rank()} of {world()} has lost another, the one that ended first ({cause}). "
            "The last checkpoint is untouched; the same command goes on from it."
        ) from error


def total(value: Tensor) -> Tensor:
    """The sum over all processes, without gradient."""
    if _instead:
        return _instead(value.detach())
    if not together():
        return value.detach()
    value = value.detach().clone()
    with speaking():
        dist.all_reduce(value, group=_small)
    return value


@contextmanager
def counted_by(way: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Meanwhile `total` is this: where not only other processes have a part of what is counted."""
    global _instead
    before, _instead = _instead, way
    try:
        yield
    finally:
        _instead = before


def anyone(here: bool) -> bool:
    """Whether it is so in any process."""
    return bool(total(torch.tensor(float(here), device=_device()))) if together() else here


def meet() -> None:
    """Go on when all are here."""
    anyone(False)


def in_turn(work: Callable[[], Result]) -> Result:
    """The first process does it, then the others: what it leaves in a cache is there for them."""
    if not is_first():
        meet()
    found = work()
    if is_first():
        meet()
    return found


def gathered(rows: Tensor) -> Tensor:
    """The rows of all processes, in their order; each may have its own number of them."""
    if not together():
        return rows
    device = _device()
    counts = [int(count) for count in _counts(len(rows), device)]
    padded = rows.new_zeros(max(counts), *rows.shape[1:], device=device)
    padded[: len(rows)] = rows
    found = [torch.empty_like(padded) for _ in counts]
    with speaking():
        dist.all_gather(found, padded, group=_small)
    return torch.cat([each[:count] for each, count in zip(found, counts, strict=True)]).to(rows.device)


def brought(value: Tensor, source: int) -> Tensor:
    """In the first process what process `source`, another one, has; in that one itself, in the others what they gave.

    Args:
        value: in the first process of the same shape.
    """
    with speaking():
        if rank() == source:
            dist.send(value.contiguous(), 0, group=_small)
        elif is_first():
            dist.recv(value, source, group=_small)
    return value


def agreed(value: float) -> float:
    """What the first process has: where it was computed in all of them, its last digits may differ."""
    return float(total(torch.tensor(value if is_first() else 0.0, dtype=torch.float64, device=_device()))) if together() else value


def first_rows(where: Bool[Tensor, " b"], num: int) -> Int[Tensor, " r"]:
    """Which of the rows here are among the first `num` that are true, counted through all processes.

    >>> first_rows(torch.tensor([True, False, True, True]), 2)
    tensor([0, 2])
    """
    rows = torch.nonzero(where).squeeze(1)
    before = sum(int(count) for count in _counts(len(rows), where.device)[: rank()]) if together() else 0
    return rows[: max(0, num - before)]


def part(num: int) -> slice:
    """Which of `num` things are this process's: as many as the others', give or take one."""
    return slice(num * rank() // world(), num * (rank() + 1) // world())


def _device() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")


def _counts(num: int, device: torch.device) -> list[Tensor]:
    mine = torch.tensor([num], device=device)
    counts = [torch.empty_like(mine) for _ in range(world())]
    with speaking():
        dist.all_gather(counts, mine, group=_small)
    return counts

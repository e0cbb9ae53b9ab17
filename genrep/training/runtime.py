"""The machine: devices and threads, and what is split among processes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch
from torch import nn

from genrep.config import Config
from genrep.processes import together, total, world
from genrep.training.run_folder import RunFolder


class Interrupted(Exception):
    """Training was asked to stop; the state is saved.

    Args:
        run: the folder in which the same command goes on.
    """

    def __init__(self, run: Path) -> None:
        super().__init__(f"stopped; the state is saved in {run}")
        self.run = run


def computes_in_bf16(device: torch.device) -> bool:
    """Whether a device has instructions for bfloat16, without which it takes ten to thirty times as long as float32, and a CPU's are worth it: without AMX's,
    AVX-512's took 1.4 times as long as float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported() and _is_faster_in_bf16()


@cache
def _is_faster_in_bf16() -> bool:
    """Whether a block of a small trunk, there and back, takes at most .9 of its time in float32 on this CPU; measured once, in a quarter of a second.

    By processor time on one thread: what else the machine does must not decide in what numbers a run computes.
    """
    with torch.random.fork_rng(devices=[]):
        block = nn.TransformerEncoderLayer(128, 4, 512, dropout=0.0, batch_first=True, norm_first=True)
    with side_by_side(torch.get_num_threads()):
        taken = [(_seconds(block, bf16=False), _seconds(block, bf16=True)) for _ in range(6)][1:]
    in_float32, in_bf16 = (min(each) for each in zip(*taken, strict=True))
    return in_bf16 <= 0.9 * in_float32


def _seconds(block: nn.Module, *, bf16: bool) -> float:
    start = time.process_time()
    with torch.enable_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        block(torch.ones(8, 64, 128)).sum().backward()
    return time.process_time() - start


def agreed_bf16(here: bool, device: torch.device) -> bool:
    """Whether all processes take bfloat16: each measures for itself, and several must not compute one thing in two ways."""
    return int(total(torch.tensor(float(here), device=device))) == world()


def decided(config: Config, run: RunFolder, device: torch.device) -> Config:
    """The configuration with what is left to the machine, `train.bf16`: as the run has begun with it, or as suits the devices of all processes."""
    if config.train.bf16 is not None:
        return config
    begun = run.begun()
    suits = begun["train"]["bf16"] if begun else computes_in_bf16(device)
    return replace(config, train=replace(config.train, bf16=agreed_bf16(suits, device)))


@contextmanager
def side_by_side(num: int) -> Iterator[None]:
    """Share the CPU's threads among `num` Python threads, so that each computes with its part of the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, before // num))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def where(device: torch.device, config: Config) -> str:
    """Where a run computes, and in what numbers, in words."""
    return ", ".join([str(device), *([f"{world()} processes"] if together() else []), "bfloat16" if config.train.bf16 else "float32"])


def check_steps(config: Config) -> None:
    """Whether there is something to do.

    Raises:
        ValueError: neither stage has a whole step.
    """
    if not any(config.steps):
        train = config.train
        images = (
            f"stage 1 has {train.stage1_images} images, in steps of {train.stage1_batch_size}, stage 2 {train.stage2_images}, in steps of {train.batch_size}"
        )
        raise ValueError(f"neither stage has a step: {images}; stage 1 is of perception alone. Set `train.stage2_images` to at least {train.batch_size}.")


def check_processes(config: Config) -> None:
    """Whether every micro-batch of every process has an image, in the stages that the run has, and there is something to shard.

    Micro-batches may differ by one image.

    Raises:
        ValueError: it has not, or there is not; the field is named.
    """
    if config.train.sharded and len(config.losses(config.objective.in_order)) < 2:
        (job,) = config.objective.jobs
        raise ValueError(f"`train.sharded` shards what two losses are aligned in; `objective.jobs` is {job} alone. Set `train.sharded` false, or train both.")
    kinds = ("batch_size", "glimpses") if "perception" in config.objective.jobs else ("batch_size",)
    stages = [stage for stage, steps in zip(("stage1_", ""), config.steps, strict=True) if steps]
    sizes = {name: getattr(config.train, name) for kind in kinds for name in (stage + kind for stage in stages)}
    least, parts = world() * config.train.micro_batches, f"{world()} processes x {config.train.micro_batches} micro-batches (`train.micro_batches`)"
    for name, size in sizes.items():
        if size < least and (size or not name.endswith("glimpses")):
            raise ValueError(f"`train.{name}` is {size}; of {parts} each needs an image. Set it to at least {least}, or start fewer processes.")

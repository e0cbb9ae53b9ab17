"""What is left to the machine is decided once, when a run begins."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
import torch
from small_models import small_model
from torch import Tensor, nn
from toy_runs import config

from genrep.cli.arguments import on_device
from genrep.config import Config
from genrep.devices import DEVICE, default_device
from genrep.storage import read_json
from genrep.training import RunFolder, computes_in_bf16, runtime, train
from genrep.training.data import RunData
from genrep.training.records import Silent

evaluate = import_module("genrep.evaluation.evaluate")
CPU = torch.device("cpu")


def with_bf16(value: bool | None) -> Config:
    return replace(config(), train=replace(config().train, bf16=value))


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("faster", [True, False])
def test_bfloat16_is_taken_where_the_device_computes_in_it_and_it_is_worth_it(
    native: bool, faster: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native)
    monkeypatch.setattr(runtime, "_is_faster_in_bf16", lambda: faster)
    assert computes_in_bf16(CPU) is (native and faster)
    for given, expected in ((None, native and faster), (True, True), (False, False)):
        assert runtime.decided(with_bf16(given), RunFolder(tmp_path / "new"), CPU).train.bf16 is expected


@pytest.mark.parametrize(("in_bf16", "expected"), [(0.8, True), (0.95, False), (1.4, False)])
def test_worth_it_is_what_is_clearly_faster(in_bf16: float, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_seconds", lambda block, *, bf16: in_bf16 if bf16 else 1.0)
    assert runtime._is_faster_in_bf16.__wrapped__() is expected


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Also where tests have one each."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_to_measure_that_leaves_random_numbers_and_threads_alone(two_threads: None) -> None:
    before = torch.get_rng_state()
    runtime._is_faster_in_bf16.__wrapped__()
    assert torch.equal(torch.get_rng_state(), before) and torch.get_num_threads() == 2


def test_what_else_the_machine_does_does_not_decide_it(two_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(nn.Identity):
        """As where others have the processor in half precision's turn, and every other core besides."""

        def forward(self, x: Tensor) -> Tensor:
            assert torch.get_num_threads() == 1
            if torch.is_autocast_enabled("cpu"):
                time.sleep(0.05)
            return (x * torch.ones((), requires_grad=True)).exp()

    taken: list[float] = []
    block, measured = Interrupted(), runtime._seconds

    def recorded(_: nn.Module, *, bf16: bool) -> float:
        taken.append(measured(block, bf16=bf16))
        return taken[-1]

    monkeypatch.setattr(runtime, "_seconds", recorded)
    runtime._is_faster_in_bf16.__wrapped__()
    assert min(taken[3::2]) < 0.025, "the fastest of half precision's, the first apart"


def test_processes_that_disagree_about_it_take_float32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each measures for itself."""
    monkeypatch.setattr(runtime, "world", lambda: 2)
    monkeypatch.setattr(runtime, "computes_in_bf16", lambda device: True)
    for others, expected in ((1.0, True), (0.0, False)):
        monkeypatch.setattr(runtime, "total", lambda mine, others=others: mine + others)
        assert runtime.decided(with_bf16(None), RunFolder(tmp_path / "new"), CPU).train.bf16 is expected


def test_an_evaluation_takes_bfloat16_where_all_processes_do_and_asks_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "world", lambda: 2)
    monkeypatch.setattr(evaluate, "computes_in_bf16", lambda device: True)
    for others, given, expected in ((1.0, True, True), (0.0, True, False), (1.0, False, False)):
        monkeypatch.setattr(runtime, "total", lambda mine, others=others: mine + others)
        work = evaluate.Evaluation(with_bf16(given), small_model(), tmp_path, RunData(with_bf16(given)), Silent())
        assert work.bf16 is expected
        monkeypatch.setattr(runtime, "total", lambda mine, others=1 - others: mine + others)
        assert work.bf16 is expected


@pytest.mark.usefixtures("toy_world")
def test_a_run_goes_on_as_it_has_begun_on_a_machine_of_another_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the same command on a finished run changes nothing."""
    monkeypatch.setattr(runtime, "computes_in_bf16", lambda device: False)
    turns = iter([False, True])
    with pytest.raises(runtime.Interrupted):
        train(with_bf16(None), tmp_path / "run", stop=lambda: next(turns))
    monkeypatch.setattr(runtime, "computes_in_bf16", lambda device: True)
    for _ in range(2):
        run = RunFolder(train(with_bf16(None), tmp_path / "run"))
        assert read_json(run.config)["train"]["bf16"] is False
    with pytest.raises(ValueError, match=r"another configuration: `train\.bf16`"):
        train(with_bf16(True), tmp_path / "run")


def test_the_device_is_the_one_that_is_named_or_the_first_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DEVICE, raising=False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert default_device() == CPU
    with on_device("cuda:1"), pytest.raises(ValueError, match=r"there is no device `cuda:1` to compute on; found cpu\. `auto` takes the first of"):
        default_device()
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert default_device() == torch.device("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name, expected in {"auto": "cuda", "cuda": "cuda", "cuda:1": "cuda:1", "mps": "mps", "cpu": "cpu"}.items():
        with on_device(name):
            assert default_device() == torch.device(expected) and os.environ[DEVICE] == name
    assert DEVICE not in os.environ and default_device() == torch.device("cuda")
    monkeypatch.setenv(DEVICE, "cpu")
    with on_device(None):
        assert default_device() == CPU
    with on_device("cuda:0"):
        assert default_device() == torch.device("cuda:0")
    assert os.environ[DEVICE] == "cpu"

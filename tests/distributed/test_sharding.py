"""Weights of which each process updates a part: the run is that of one process, and a checkpoint knows nothing of who wrote it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_runs import STEPS1, STEPS2, after, assert_same_state, config, load_rectangles, newest

from genrep.evaluation import scaling_bench
from genrep.evaluation.scaling_bench import difference, start
from genrep.model import GenRep
from genrep.storage import load_tensors
from genrep.training import Interrupted, data, loop, train

GLIMPSES = {"stage1_glimpses": 6, "glimpses": 6}
EXACT: dict[str, Any] = {"bf16": False, "muon": False, "side_by_side": 1}


def taken_so_far(folder: Path, stops: int, changes: dict[str, Any]) -> None:
    """A run on rectangles, in float64 where no step rounds otherwise; stopped after so many steps of this sitting, or at its end."""
    vars(data)["load_dataset"] = load_rectangles
    if changes.items() >= EXACT.items():
        vars(loop)["GenRep"] = lambda model: GenRep(model).double()
    base = config()
    objective = replace(base.objective, posterior=None, prior_steps=0)
    try:
        train(replace(base, objective=objective, train=replace(base.train, **GLIMPSES, **changes)), folder, stop=after(stops))
    except Interrupted:
        assert stops < 10_000


def state(run: Path) -> dict[str, torch.Tensor]:
    return load_tensors(newest(run) / "state.safetensors")


def test_a_checkpoint_goes_on_with_other_processes_sharded_or_not(tmp_path: Path) -> None:
    """Two sharded ones, three in two micro-batches, two sharded ones in three; a checkpoint of sharded ones is whole."""
    alone, together, steps = tmp_path / "alone", tmp_path / "together", STEPS1 + STEPS2
    start(1, taken_so_far, alone, steps - 1, EXACT)
    for num, stops, changes in ((2, STEPS1 + 2, {"sharded": True}), (3, 1, {"micro_batches": 2}), (2, 2, {"sharded": True, "micro_batches": 3})):
        start(num, taken_so_far, together, stops, EXACT | changes)
    one, several = state(alone), state(together)
    assert one.keys() == several.keys() and any(name.startswith("optimizer.") for name in one)
    assert difference(one, several) < 1e-10


@pytest.mark.parametrize("changes", [{"sharded": True}, {"sharded": True, "micro_batches": 2}, {"micro_batches": 2}])
def test_several_processes_resume_to_the_bit(tmp_path: Path, changes: dict[str, Any]) -> None:
    """With Muon, which needs whole matrices, in bfloat16."""
    whole, parts, steps = tmp_path / "whole", tmp_path / "parts", STEPS1 + STEPS2
    changes = {"bf16": True, **changes}  # whatever suits this machine
    start(2, taken_so_far, whole, steps, changes)
    for stops in (STEPS1 + 2, STEPS2 - 2):
        start(2, taken_so_far, parts, stops, changes)
    assert_same_state(newest(whole), newest(parts))


def test_what_sharding_needs_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(data, "load_dataset", load_rectangles)
    base = scaling_bench.exact(config())
    alone = replace(base, objective=replace(base.objective, jobs=("generation",)), train=replace(base.train, sharded=True))
    with pytest.raises(ValueError, match=r"`train.sharded` shards what two losses are aligned in; `objective.jobs` is generation alone. Set"):
        train(alone, tmp_path / "run")

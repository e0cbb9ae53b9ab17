"""Finished runs with untrained models, in a world of rectangles."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rectangles import rectangles
from small_models import small_model
from toy_runs import config, load_rectangles

from genrep.config import Config
from genrep.evaluation.judge import Judge, load_judge
from genrep.overrides import to_dict
from genrep.posteriors.calibration import Calibration
from genrep.posteriors.gate import Gate
from genrep.samplers import Euler
from genrep.training import RunFolder, data

MakeRun = Callable[..., Path]

GATES = [
    {
        "event": "gate",
        "kind": kind,
        "weight": weight,
        "standard_error": 0.03,
        "head_weight": 0.7,
        "teaches": teaches,
        "tau": 0.2,
        "posterior_accuracy": 0.6,
        "head_accuracy": 0.8,
    }
    for kind, weight, teaches in (("image", 0.18, True), ("object", 0.01, False))
]


@pytest.fixture(scope="session")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Judge:
    """Of rectangles."""
    return load_judge(rectangles(300, size=16), cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def make_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeRun]:
    """A run folder as training leaves it; arguments are fields of the configuration."""

    def make(*, tasks: tuple[str, ...] = ("classification", "detection", "segmentation"), keeps_posterior: bool = False, **changes: Any) -> Path:
        run = RunFolder(tmp_path_factory.mktemp("run") / "toy")
        run.path.mkdir()
        base: Config = config()
        changes = {**changes, "eval": replace(changes.get("eval", base.eval), sampler=Euler(num_steps=2))}
        settings = replace(base, **changes)
        model = small_model(tasks=tasks)
        if keeps_posterior:
            model.calibration, model.gate = Calibration(tau=0.1, bias=(0.0, 0.1, 0.2, 0.3)), Gate(weight=0.5, standard_error=0.1, head=0.8)
        run.config.write_text(json.dumps(to_dict(replace(settings, model=model.config))))
        run.command.write_text("genrep train toy --note '<b>&'\n")
        run.env.write_text(json.dumps({"torch": "1.2.3"}))
        run.events.write_text("".join(json.dumps(gate | {"step": 7}) + "\n" for gate in GATES))
        run.metrics.write_text("step,stage,seconds,loss/classification,align/cosine\n3,1,1.5,2.25,\n6,2,3.0,1.5,0.25\n9,2,4.5,1.25,-0.5\n")
        model.save_pretrained(run.model)
        return run.path

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "load_dataset", load_rectangles)
        patch.setenv("GENREP_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield make

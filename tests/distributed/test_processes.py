"""Several processes against one: the same weights, whatever the batch, the labels and the moment of a resume."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_runs import STEPS2, after, config, events, load_rectangles, rows, weights

from genrep import processes
from genrep.config import Config
from genrep.evaluation import evaluate, scaling_bench
from genrep.evaluation.scaling_bench import difference, start
from genrep.model import GenRep
from genrep.posteriors.gate import Gate
from genrep.storage import load_tensors, save_tensors
from genrep.training import Interrupted, data, distillation, loop, train
from genrep.training.runtime import check_processes


def exact(**train_settings: Any) -> Config:
    base = config()
    base = scaling_bench.exact(replace(base, train=replace(base.train, **train_settings)))
    return replace(base, train=replace(base.train, stage2_images=STEPS2 * 6))


def in_toy_world() -> None:
    """In a process of its own, which keeps it: rectangles, and gates that open."""
    vars(data)["load_dataset"] = load_rectangles
    vars(distillation)["fit_gate"] = lambda *_: Gate(weight=0.6, standard_error=0.1)


SAME = scaling_bench._same


def on_rectangles(folder: Path, settings: Config, ways: list[str]) -> None:
    in_toy_world()
    SAME(folder, settings, ways)


def test_what_the_bench_measures_is_as_it_should_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights and gradients of two processes are those of one, with the bytes that were promised; aligned too early they are not."""
    monkeypatch.setattr(scaling_bench, "_same", on_rectangles)
    figures = {figure.name: figure for figure in scaling_bench.exactness_figures(exact())}
    assert all(figure.met for figure in figures.values()), figures
    right, wrong = (figures[name].value for name in ("gradient of a step, replicated", "the same, aligned before added up"))
    assert right is not None and wrong is not None and wrong > 1e2 * right


def taught(folder: Path, stops: int) -> None:
    """A run in float64, half of whose images are annotated; stopped after some steps, or at its end."""
    in_toy_world()
    vars(loop)["GenRep"] = lambda model: GenRep(model).double()
    base = exact(log_every=1)
    settings = replace(base, data=replace(base.data, labelled_fraction=0.5), objective=replace(base.objective, pseudo_confidence=0.05))
    try:
        train(settings, folder, stop=after(stops))
    except Interrupted:
        assert stops < 10_000


def test_three_processes_are_taught_like_one_even_if_one_takes_over(tmp_path: Path) -> None:
    """Batches of 8 and 6 do not divide by three; lessons are given, remembered, and read back by another number of processes.

    Posteriors are estimated at noise times in float32, hence the tolerance.
    """
    alone, together = tmp_path / "alone", tmp_path / "together"
    start(1, taught, alone, 10_000)
    start(3, taught, together, 7)
    start(1, taught, together, 10_000)
    assert difference(weights(alone), weights(together)) < 2e-9
    assert len(events(together, "resume")) == 1 and len(events(together, "gate")) == len(events(alone, "gate"))
    assert [row["step"] for row in rows(together)] == [row["step"] for row in rows(alone)]
    assert any(float(row["loss/distil"]) > 0 for row in rows(together))


def probed(folder: Path) -> None:
    in_toy_world()
    vars(loop)["GenRep"] = lambda model: GenRep(model).double()
    train(exact(log_every=1, probe_every=1, sharded=True, by_task=True), folder)


def test_what_gradients_predict_is_counted_once_of_every_loss(tmp_path: Path) -> None:
    """Also of weights that one loss alone reaches, whose gradients are on their way to the other processes while the next loss is computed."""
    for num in (1, 2):
        start(num, probed, tmp_path / str(num))
    assert difference(weights(tmp_path / "1"), weights(tmp_path / "2")) < 1e-9
    for job in ("classification", "detection", "segmentation", "generation"):
        one, two = ([float(row[f"align/predicted_{job}"] or 0) for row in rows(tmp_path / str(num))] for num in (1, 2))
        assert any(one) and two == pytest.approx(one, rel=1e-5)


def trained_and_measured(folder: Path) -> None:
    """By all processes; what is made, too, in a cache of its own."""
    in_toy_world()
    os.environ["GENREP_CACHE"] = str(folder.parent / "cache")
    evaluate(train(replace(config(), eval=replace(config().eval, num_samples=21, num_guidance_samples=11)), folder))


def test_an_evaluation_that_is_shared_finds_what_one_finds(tmp_path: Path) -> None:
    """All figures, tables and pictures, though 21 samples and 16 images do not divide; objects, maps and all."""
    start(1, trained_and_measured, tmp_path / "run")
    found = {}
    for num in (1, 2):
        start(num, trained_and_measured, tmp_path / "run")
        figures, details = (json.loads((tmp_path / "run" / name).read_text()) for name in ("eval.json", "eval_details.json"))
        del details["seconds"]
        found[num] = figures, details, {path.name: path.stat().st_size > 0 for path in (tmp_path / "run" / "samples").iterdir()}
    (one, one_details, one_pictures), (two, two_details, two_pictures) = found.values()
    assert one.keys() == two.keys() and one_details.keys() == two_details.keys() and one_pictures == two_pictures
    for name, value in one.items():
        assert two[name] == pytest.approx(value, rel=1e-3, abs=1e-3), name
    assert one_details["detection"]["n"] == two_details["detection"]["n"] == 16


def one_dies(folder: Path) -> None:
    in_toy_world()

    def stop() -> bool:
        if processes.rank() == 1 and next(asked) == 4:
            os._exit(9)
        return False

    asked = iter(range(100))
    try:
        train(exact(), folder, stop=stop)
    except ConnectionError as error:
        (folder / "said").write_text(str(error))


def test_a_dead_peer_ends_the_job_with_a_line(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(RuntimeError, match="of 2 processes these failed: 1"):
        start(2, one_dies, tmp_path / "run")
    assert time.monotonic() - began < 60
    assert "process 0 of 2 has lost another" in (tmp_path / "run" / "said").read_text()


def counting(folder: Path) -> None:
    rank = processes.rank()
    rows = torch.arange(3 - rank, dtype=torch.float) + 10 * rank
    found = {"gathered": processes.gathered(rows), "total": processes.total(rows[:1])}
    found["first"] = processes.first_rows(torch.tensor([True, rank == 1, True]), 3)
    found["part"] = torch.arange(7)[processes.part(7)]
    found["anyone"] = torch.tensor([processes.anyone(rank == 1), processes.anyone(False)])
    made = folder / "first"
    found["others"] = torch.tensor(processes.in_turn(lambda: made.exists() or made.write_text("") > 0))
    save_tensors(folder / f"{rank}.st", found)


def test_processes_count_together(tmp_path: Path) -> None:
    start(2, counting, tmp_path)
    first, second = (load_tensors(tmp_path / f"{rank}.st") for rank in (0, 1))
    for found in (first, second):
        assert found["gathered"].tolist() == [0, 1, 2, 10, 11] and found["total"].tolist() == [10] and found["anyone"].tolist() == [True, False]
    assert [first["first"].tolist(), second["first"].tolist()] == [[0, 2], [0]]
    assert [first["part"].tolist(), second["part"].tolist()] == [[0, 1, 2], [3, 4, 5, 6]]
    assert [bool(first["others"]), bool(second["others"])] == [False, True]


@pytest.mark.parametrize("field", ["stage1_batch_size", "batch_size", "glimpses"])
def test_more_processes_than_images_of_a_batch(monkeypatch: pytest.MonkeyPatch, field: str, tmp_path: Path) -> None:
    monkeypatch.setattr("genrep.training.data.load_dataset", load_rectangles)
    monkeypatch.setattr("genrep.training.runtime.world", lambda: 3)
    with pytest.raises(ValueError, match=f"`train.{field}` is 2; of 3 processes x 1 micro-batches .* each needs an image. Set it to at least 3"):
        train(exact(**{field: 2}), tmp_path / "run")


def test_no_glimpses_are_not_too_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genrep.training.runtime.world", lambda: 3)
    check_processes(exact(glimpses=0, stage1_glimpses=0))


def test_what_a_run_does_not_have_is_not_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stage 1 without images, or without perception, glimpses without perception, and stage 2 without images."""
    monkeypatch.setattr("genrep.training.runtime.world", lambda: 3)
    little = exact(stage1_batch_size=2, stage1_glimpses=2, glimpses=2)
    check_processes(replace(little, objective=replace(little.objective, jobs=("generation",))))
    check_processes(exact(stage1_batch_size=2, stage1_glimpses=2, stage1_images=0))
    alone = exact(batch_size=2)
    check_processes(replace(alone, train=replace(alone.train, stage2_images=0)))

"""The page of results: it says what the runs' files say, and can be written again from what it keeps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

from genrep.evaluation import results
from genrep.evaluation.draw import grid, save_png
from genrep.evaluation.outcome import suite_figures
from genrep.evaluation.published import Effect, Published, Row
from genrep.evaluation.results import keep_runs, write_page
from genrep.evaluation.suite import Claim, Suite
from genrep.storage import read_json, write_json

SUITE = Suite(
    recipe="tiny",
    arms={"new": {}, "old": {"train.lr": "1e-3"}, "never": {"train.seed": "9"}},
    claims=(Claim(figure="kid", arm="new", against="old", less=True), Claim(figure="kid", arm="never", against="old")),
    shown=("kid", "top1"),
    num_seeds=2,
)


@pytest.fixture(autouse=True)
def only_this_suite(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(results, "SUITES", {"mine": SUITE, "other": replace(SUITE, recipe="demo")})
    yield


def runs(folder: Path, *, num_seeds: int = 2, worse: float = 0.0) -> Path:
    """Of two arms, the new one `worse` by so much than .03 below the old one, not by as much in every seed."""
    for seed in range(num_seeds):
        for arm, figures in {"new": {"kid": 0.02 + worse * (1 + 0.1 * seed) + 0.01 * seed, "top1": 0.9}, "old": {"kid": 0.05 + 0.01 * seed}}.items():
            run = folder / f"{arm}-{seed}"
            (run / "samples").mkdir(parents=True, exist_ok=True)
            write_json(run / "eval.json", figures)
            write_json(run / "eval_details.json", {"seconds": {"perception": 2.0, "samples": 3.0}, "generation": {"judge": "mine-1"}})
            write_json(run / "env.json", {"device": "cpu", "threads": 1, "commit": "abc"})
            (run / "metrics.csv").write_text(f"step,seconds,memory_gb\n1,10,0.5\n2,{61 + seed},0.{6 + seed}\n")
            for k in range(3):
                save_png(grid(torch.full((12, 3, 8, 8), k - 1.0), columns=12, scale=1, gap_px=0), run / "samples" / f"class_{k:02d}.png")
    return folder


def test_the_page_says_what_the_runs_say(tmp_path: Path) -> None:
    page = tmp_path / "docs" / "results"
    keep_runs("mine", SUITE, runs(tmp_path / "runs"), page)
    text = write_page(page).read_text()
    assert "| new | 2 | 0.0250 ± 0.0635 | 0.9000 ± 0.0000 |" in text and "| old | 2 | 0.0550 ± 0.0635 | \u2013 |" in text
    assert "| kid, new - old | \u22120.0300 | \u22120.0300 to \u22120.0300 | <= 0 | yes |" in text
    assert "never |" not in text.split("| claim |")[1] and "## Suite `other`" not in text
    assert "compare with each other alone: mine-1." in text
    assert (
        "4 runs, 1 min 1 s to 1 min 2 s of training each, peak memory 0.60 to 0.70 GB; device cpu" in text
        and "commit abc" in text
        and "Python not recorded" in text
    )
    assert "![old](results/runs/mine/old-0/samples.png)" in text and "old-1/samples.png" not in text
    assert read_json(page / "runs/mine/new-1/run.json")["seconds"] == {"training": 62.0, "evaluation": 5.0}


def test_without_samples_no_judge_is_spoken_of(tmp_path: Path) -> None:
    folder, page = runs(tmp_path / "runs"), tmp_path / "results"
    for details in folder.rglob("eval_details.json"):
        write_json(details, {"seconds": {"perception": 2.0}})
    keep_runs("mine", SUITE, folder, page)
    assert "Judges" not in write_page(page).read_text()


def test_a_papers_ablation_stands_beside_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row by row, as far as there are runs; an effect agrees only where its interval is off zero and there are seeds enough."""
    published = Published(
        source="Nobody 2026",
        rows=(Row("alone", "old", {"kid": 9.0, "top1": 0.5}), Row("+ it", "new", {"kid": 7.0, "top1": 0.6}), Row("+ more", "never", {"kid": 8.0, "top1": 0.7})),
        effects=(Effect("it", (1, 0), ("new", "old")), Effect("more", (2, 1), ("never", "new")), Effect("all", (2, 1, 1, 0), ("never", "new", "new", "old"))),
    )
    page, folder = tmp_path / "results", tmp_path / "runs"
    for num_seeds, worse, agrees in ((2, 0.0, "open"), (3, 0.0, "yes"), (3, 0.08, "no"), (3, 0.03, "open")):
        suite = replace(SUITE, published=published, num_seeds=num_seeds)
        monkeypatch.setattr(results, "SUITES", {"mine": suite})
        keep_runs("mine", suite, runs(folder, num_seeds=num_seeds, worse=worse), page)
        text = write_page(page).read_text()
        assert "beside ours. There: Nobody 2026." in text and "| + more | never | 8.0000 | \u2013 | 0.7000 | \u2013 |" in text
        (row,) = (line for line in text.splitlines() if line.startswith("| it |"))
        assert row.startswith("| it | new - old | \u22122.0000 | ") and row.split(" | ")[4] == agrees and row.endswith("| 0.1000 | \u2013 | not run |")
        assert "| all | (never - new) - (new - old) | 3.0000 | \u2013 | not run | 0.0000 | \u2013 | not run |" in text


def test_every_seed_is_a_dot(tmp_path: Path) -> None:
    """Two seeds of two arms in one panel, of one arm in the other; what was never run has no row; both seeds lie where their numbers are."""
    page = tmp_path / "results"
    keep_runs("mine", SUITE, runs(tmp_path / "runs"), page)
    assert "![every seed of every arm](results/mine.svg)" in write_page(page).read_text()
    drawn = ElementTree.parse(page / "mine.svg").getroot()
    dots = [(float(dot.get("cx", "")), float(dot.get("cy", ""))) for dot in drawn.iter("{http://www.w3.org/2000/svg}circle")]
    words = [text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert len(dots) == 6 and len({y for _, y in dots}) == 2
    assert {"new", "old", "kid", "top1"} <= set(words) and "never" not in words
    (a, b), (c, d) = (sorted(x for x, height in dots[:4] if height == y) for y in sorted({y for _, y in dots}))
    assert b - a == pytest.approx(d - c, abs=0.2) and c - a == pytest.approx(3 * (b - a), abs=0.3)


def test_what_is_kept_is_enough(tmp_path: Path) -> None:
    """The page, and the suite's figures, once the runs are gone; what lies there already is not copied onto itself."""
    page = tmp_path / "results"
    folder = runs(tmp_path / "runs")
    keep_runs("mine", SUITE, folder, page)
    text, figures = write_page(page).read_text(), suite_figures("mine", SUITE, folder)
    kept = page / "runs" / "mine"
    keep_runs("mine", SUITE, kept, page)
    assert write_page(page).read_text() == text and suite_figures("mine", SUITE, kept) == figures


def test_runs_of_before_a_suite_was_changed_are_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever kept them; of runs that were kept without a word of it nothing is said."""
    page = tmp_path / "results"
    keep_runs("mine", SUITE, runs(tmp_path / "runs"), page)
    assert "made before the suite was changed" not in write_page(page).read_text()
    monkeypatch.setattr(results, "SUITES", {"mine": replace(SUITE, arms={**SUITE.arms, "old": {"train.lr": "1e-2"}})})
    text = write_page(page).read_text()
    assert "Of what is below, old-0, old-1 were made before the suite was changed, by `train.lr 1e-3`." in text and "below, new" not in text
    monkeypatch.setattr(results, "SUITES", {"mine": replace(SUITE, settings={"train.batch_size": "4"})})
    text = write_page(page).read_text()
    assert "old-0, old-1 were made before the suite was changed, by `train.lr 1e-3`." in text
    assert "new-0, new-1 were made before the suite was changed, by the recipe as it is." in text


def test_a_suite_on_photos_says_what_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "results"
    keep_runs("mine", SUITE, runs(tmp_path / "runs"), page)
    assert "--data" not in write_page(page).read_text()
    monkeypatch.setattr(results, "SUITES", {"mine": replace(SUITE, data="photos of cups", settings={"train.lr": "1e-2", "train.seed": "3"})})
    text = write_page(page).read_text()
    assert "genrep bench evidence runs/mine --suite mine --data FOLDER --at-once 2" in text
    assert "What is below is of photos of cups. Every arm has `train.lr 1e-2`, `train.seed 3`." in text


def test_a_page_about_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"results/runs has no finished run of any suite; `genrep bench evidence RUNS --suite NAME --keep"):
        write_page(tmp_path / "results")

"""The report is one file with everything inside, says what was measured, and cannot be broken into by names."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from toy_runs import config

from genrep.evaluation import evaluate, write_report
from genrep.evaluation.headlines import headlines
from genrep.evaluation.report import verdict
from genrep.training import RunFolder

MakeRun = Callable[..., Path]
VOID = {"meta", "img", "line", "rect", "polyline"}


class Page(HTMLParser):
    """Collects what a page would load, and checks that every element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


@pytest.fixture(scope="module")
def run(make_run: MakeRun) -> Path:
    path = make_run(name="<script>alert(1)</script>")
    evaluate(path)
    return path


@pytest.fixture(scope="module")
def text(run: Path) -> str:
    return write_report(run).read_text(encoding="utf-8")


@pytest.mark.parametrize(("guidance", "note"), [(2.0, "real against real 0.010, unguided 0.080"), (1.0, "real against real 0.010")])
def test_unguided_figures_stand_beside_guided_ones(guidance: float, note: str) -> None:
    figures = {"generation/kid": 0.06, "generation/kid_real": 0.01, "generation/kid_unguided": 0.08, "generation/guidance": guidance}
    assert [(found.name, found.beside) for found in headlines(figures, {})] == [("KID", note)]


def test_it_loads_nothing(text: str) -> None:
    links = Page(text).links
    assert len(links) > 20 and all(link.startswith(("data:image/png;base64,", "#")) for link in links)
    assert "url(" not in text and "@import" not in text and len(text) < 5 * 2**20


def test_it_says_what_is_left_in_worse_images_and_how_likely_images_are(run: Path, text: str) -> None:
    figures = json.loads((run / "eval.json").read_text())
    row = "".join(f'<td class="num">{figures[f"robustness/{kind}_ap50"]:.3f}</td>' for kind in ("clean", "noise", "corruptions"))
    assert f"<tr><td>AP50</td>{row}</tr>" in text and "The first 8 test images" in text
    assert f'<dt>Bits per dimension</dt><dd class="value">{figures["likelihood/bits_per_dim"]:.3f}</dd>' in text


def test_names_are_escaped(text: str) -> None:
    assert "script" not in Page(text).tags
    assert "&lt;script&gt;alert(1)" in text and "&lt;b&gt;&amp;" in text


def test_links_inside_lead_somewhere(text: str) -> None:
    targets = {link[1:] for link in Page(text).links if link.startswith("#")}
    assert targets and targets <= set(re.findall(r'id="(\w+)"', text))


def test_it_has_both_themes_and_fits_a_phone(text: str) -> None:
    assert "prefers-color-scheme: dark" in text and "width=device-width" in text


def test_it_shows_the_figures_and_how_they_came_about(text: str, run: Path) -> None:
    figures = json.loads((run / "eval.json").read_text())
    for key in ("classification/top1", "classification/top1_low", "generation/judge_accuracy", "segmentation/miou_foreground"):
        assert f"{figures[key]:.3f}" in text
    for words in (
        "16 test images of fashion-scenes",
        "cosine of the two gradients",
        "opened at step 7",
        "stayed shut",
        "1.2.3",
        "4 s training",
        "fashion-judge-v2",
    ):
        assert words in text


def test_a_run_of_one_task_has_a_report_too(make_run: MakeRun) -> None:
    path = make_run(tasks=("detection",), data=replace(config().data, sets=("fashion-scenes",)))
    evaluate(path)
    RunFolder(path).metrics.unlink()
    RunFolder(path).env.unlink()
    found = write_report(path).read_text(encoding="utf-8")
    assert "What it sees" in found and "What it makes" in found and "These are not judged" in found and "samples: not measured" in found
    assert "Agreement is the F1 of the boxes" in found and "Is it memory?" not in found
    shown = json.loads((path / "eval_details.json").read_text())["scenes"]["pictures"]
    for group in ("worst", "first"):
        agreements = [entry["agreement"] for entry in shown if entry["group"] == group]
        assert agreements == sorted(agreements) and None not in agreements
    Page(found)


def test_a_run_on_a_folder_of_ones_own_is_called_by_its_folder_and_its_data(make_run: MakeRun) -> None:
    path = make_run(name="own", tasks=("segmentation",), data=replace(config().data, sets=("fashion-scenes",)))
    evaluate(path)
    found = write_report(path).read_text(encoding="utf-8")
    assert f"<h1>{path.name}: fashion-scenes</h1>" in found and f"<title>{path.name}: fashion-scenes - GenRep report</title>" in found


def test_it_needs_an_evaluation(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="genrep eval"):
        write_report(tmp_path)


def test_a_verdict_names_the_end() -> None:
    gate = {"kind": "image", "weight": 0.2, "standard_error": 0.01, "step": 5}
    assert "shut again" in verdict([gate | {"teaches": 0.2}, gate | {"teaches": 0.0, "step": 9}])[0]
    assert verdict([]) == ["No gate was tried in this run."]

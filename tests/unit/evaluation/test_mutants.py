"""Damaged data of every layout and format: a result or one line, and nothing vanishes unsaid. Some hundreds here; `genrep bench data` tries thousands."""

from __future__ import annotations

import json
import random
from itertools import islice
from pathlib import Path

import pytest

from genrep.datasets.folders import LAYOUTS, recognise
from genrep.datasets.problems import Problems
from genrep.evaluation.mutants import of_documents, of_pictures
from genrep.evaluation.small_folders import FOLDERS, coco_document


def test_every_layout_is_tried(tmp_path: Path) -> None:
    assert FOLDERS.keys() == LAYOUTS.keys()
    for layout, make in FOLDERS.items():
        assert recognise(make(tmp_path / layout).root) == layout


@pytest.mark.parametrize("layout", FOLDERS)
def test_damaged_folders_are_read_or_refused_and_every_drop_is_counted(tmp_path: Path, layout: str) -> None:
    num_read = 0
    for trial in islice(of_documents(layout, tmp_path, random.Random(7)), 150):
        try:
            assert trial() == 0
            num_read += 1
        except ValueError as error:
            assert "\n" not in str(error)
    assert num_read > 30, "most are no more than bent, so that it is the reader that is tried"


def test_a_silent_drop_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Problems, "drop", lambda *_: None)
    lost = 0
    for trial in islice(of_documents("cifar", tmp_path, random.Random(7)), 60):
        try:
            lost += trial()
        except ValueError:
            continue
    assert lost > 5


def test_no_two_are_alike_and_many_still_parse(tmp_path: Path) -> None:
    texts = []
    for trial in islice(of_documents("coco", tmp_path, random.Random(1)), 60):
        del trial
        texts.append((tmp_path / "coco" / "annotations" / "instances_train.json").read_bytes())
    assert len(set(texts)) > 50 and coco_document().encode() not in texts
    assert sum(parses(text) for text in texts) > 30


def parses(text: bytes) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def test_pictures_of_every_format_are_tried(tmp_path: Path) -> None:
    outcomes = set()
    for trial in islice(of_pictures(tmp_path, random.Random(1)), 80):
        try:
            trial()
            outcomes.add("read")
        except ValueError:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}
    assert {path.suffix for path in tmp_path.iterdir()} == {".jpg", ".png", ".webp", ".bmp"}

"""A made set: only what the model recognises is kept, an image comes again from its index, and what is written reads back as what was seen."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis.extra.numpy import arrays
from rectangles import rectangles
from small_models import small_model
from torch import Tensor

from genrep.boxes import to_xyxy_px
from genrep.cli.main import main
from genrep.datasets import read_folder
from genrep.datasets.coco_masks import mask_of, run_lengths
from genrep.model import GenRep
from genrep.samplers import Euler
from genrep.synthesis import Floor, Made, synthesize
from genrep.types import Batch, Detections, Perception

SOURCE = rectangles(40, size=16, num_objects=1, seed=7)
BOTH = rectangles(40, size=16, num_objects=2, seed=8)
ONE_B, A_AND_B = torch.tensor([0.0, 1.0, 0.0, 0.0]), torch.tensor([1.0, 1.0, 0.0, 0.0])
Seen = Callable[[Perception], Perception]


def painter(data: Any = SOURCE, seen: Seen = lambda truth: truth, **changes: Any) -> GenRep:
    """Copies images of a set, whatever it is asked for, and sees in them what is there, or what a test makes of that."""
    model = small_model(**changes)

    def generate(classes: Tensor, *, index: Tensor, **_: Any) -> Tensor:
        return data.batch(index % len(data)).image

    def perceive(image: Tensor) -> Perception:
        every = data.batch(torch.arange(len(data)))
        truth = every.rows(torch.stack([(every.image == one).flatten(1).all(1).nonzero()[0, 0] for one in image]))
        boxes = to_xyxy_px(truth.boxes_cxcywh, (16, 16))
        found = [Detections(b[c >= 0], torch.full((int((c >= 0).sum()),), 0.8), c[c >= 0]) for b, c in zip(boxes, truth.object_labels, strict=True)]
        log_probs = (20.0 * torch.nn.functional.one_hot(truth.label.clamp(min=0), 4)).log_softmax(1)
        return seen(Perception(log_probs, found if "detection" in model.heads else None, truth.semantic_mask if "segmentation" in model.heads else None))

    model.generate, model.perceive = generate, perceive  # type: ignore[assignment, method-assign]
    return model


def first(model: GenRep, wanted: Tensor, num: int = 40, **floor: float) -> list[Made | None]:
    return list(islice(synthesize(model, wanted, floor=Floor(**floor), batch_size=16), num))


def test_kept_is_what_shows_what_was_asked_for() -> None:
    assert [made is not None for made in first(painter(), ONE_B)] == [label == 1 for label in SOURCE.label.tolist()]
    pairs = [sorted(label for label in labels if label >= 0) == [0, 1] for labels in BOTH.object_labels.tolist()]
    assert any(pairs) and [made is not None for made in first(painter(BOTH), A_AND_B)] == pairs


def unsure(truth: Perception) -> Perception:
    assert truth.class_log_probs is not None
    return replace(truth, class_log_probs=(truth.class_log_probs * 0.05).log_softmax(1))


def faint(truth: Perception) -> Perception:
    assert truth.detections is not None
    return replace(truth, detections=[replace(each, scores=each.scores * 0.5) for each in truth.detections])


@pytest.mark.parametrize(("seen", "floor"), [(unsure, {"class_prob": 0.4}), (faint, {"score": 0.3})])
def test_what_the_model_is_not_sure_of_is_left_out_unless_the_floor_is_lower(seen: Seen, floor: dict[str, float]) -> None:
    assert not any(first(painter(seen=seen), ONE_B)) and any(first(painter(seen=seen), ONE_B, **floor))


def test_each_object_has_the_pixels_of_its_class_in_its_box() -> None:
    made = next(found for found in first(painter(BOTH), A_AND_B) if found)
    assert made.masks is not None and made.objects is not None
    truth = BOTH.batch(torch.tensor([made.index]))
    for slot in range(2):
        j = made.objects.labels.tolist().index(int(truth.object_labels[0, slot]))
        assert torch.equal(made.masks[j], truth.instance_mask[0] == slot + 1)


def test_an_image_comes_again_from_its_index_whatever_the_batch() -> None:
    model, options = small_model(tasks=("classification",)), {"floor": Floor(class_prob=0.0), "row": 3, "sampler": Euler(num_steps=2)}
    parts = [[made.image for made in islice(synthesize(model, ONE_B, batch_size=size, **options), 5) if made] for size in (5, 2)]
    torch.testing.assert_close(torch.stack(parts[0]), torch.stack(parts[1]), rtol=0, atol=1e-4)
    other = next(synthesize(model, ONE_B, batch_size=1, **(options | {"row": 4})))
    assert other and float((other.image - parts[0][0]).abs().max()) > 0.1, "another request, other images"


def test_a_model_that_cannot_tell_says_so() -> None:
    with pytest.raises(ValueError, match="several objects takes a model that detects; this one has classification"):
        synthesize(painter(tasks=("classification",)), A_AND_B, floor=Floor())
    with pytest.raises(ValueError, match="the class takes a model that classifies or detects; this one has segmentation"):
        synthesize(painter(tasks=("segmentation",)), ONE_B, floor=Floor())
    with pytest.raises(ValueError, match=r"`score` must lie in \[0, 1\]; found 2"):
        Floor(score=2.0)


@given(arrays(np.bool_, (5, 7)))
def test_run_lengths_are_what_masks_are_read_from(mask: np.ndarray) -> None:
    assert np.array_equal(mask_of(json.loads(json.dumps(run_lengths(mask))), mask.shape), mask)


def told(monkeypatch: pytest.MonkeyPatch, model: GenRep) -> None:
    monkeypatch.setattr("genrep.cli.runs.load_model", lambda path: model)


def objects_of(one: Batch) -> dict[int, tuple[list[float], list[int]]]:
    """By class the box, in pixels, and the pixels of each object of an image."""
    boxes, masks = to_xyxy_px(one.boxes_cxcywh[0], (16, 16)), one.instance_mask[0]
    found = [(int(label), slot) for slot, label in enumerate(one.object_labels[0]) if label >= 0]
    return {label: ([round(x, 3) for x in boxes[slot].tolist()], (masks.flatten() == slot + 1).nonzero().flatten().tolist()) for label, slot in found}


def test_what_is_written_reads_back_as_what_was_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    told(monkeypatch, painter(BOTH))
    assert main(["synthesize", "--classes", "a+b,c+d", "--count", "6", "--out", str(tmp_path / "made")]) == 0
    data, problems = read_folder(tmp_path / "made", "train", image_size=(16, 16), channels=1)
    others, more = read_folder(tmp_path / "made", "val", image_size=(16, 16), channels=1)
    assert not problems and not more and len(data) + len(others) == 12 and data.class_names == ("a", "b", "c", "d")
    source = BOTH.batch(torch.arange(40))
    for read in range(len(data)):
        i = int((BOTH.pixels == data.pixels[read]).flatten(1).all(1).nonzero()[0, 0])
        assert objects_of(data.batch(torch.tensor([read]))) == objects_of(source.rows(torch.tensor([i])))
        assert torch.equal(data.semantic_mask[read], source.semantic_mask[i])
    provenance = json.loads((tmp_path / "made" / "provenance.json").read_text())
    assert provenance["tally"]["a_b"]["kept"] == 6 <= provenance["tally"]["a_b"]["made"] and len(provenance["images"]) == 12
    (tmp_path / "made" / "notes.txt").write_text("mine")
    assert main(["synthesize", "--classes", "a+b", "--count", "1", "--out", str(tmp_path / "made"), "--overwrite"]) == 2
    assert "holds `notes.txt` beside a made set" in capsys.readouterr().err and (tmp_path / "made" / "notes.txt").read_text() == "mine"
    (tmp_path / "made" / "notes.txt").unlink()
    assert main(["synthesize", "--classes", "a+b", "--count", "1", "--out", str(tmp_path / "made"), "--overwrite"]) == 0
    assert provenance["command"].startswith("genrep synthesize") and len(provenance["model_sha256"]) == 64


def test_a_model_of_classes_alone_makes_a_table_that_keeps_their_names_and_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("of a", "ankle boot", "of, a", "ankle_boot")
    told(monkeypatch, painter(tasks=("classification",), class_names=names))
    assert main(["synthesize", "--classes", "1,3", "--count", "3", "--out", str(tmp_path / "made")]) == 0
    assert sorted(str(file.relative_to(tmp_path / "made")) for file in (tmp_path / "made").rglob("*.png")) == [
        f"images/{name}_{number:05d}.png" for name in ("ankle_boot", "ankle_boot_2") for number in range(3)
    ]
    labels = []
    for split in ("train", "val"):
        data, problems = read_folder(tmp_path / "made", split, image_size=(16, 16), channels=1)
        assert data.class_names == names and not problems
        for pixels, label in zip(data.pixels, data.label.tolist(), strict=True):
            assert label == int(SOURCE.label[(SOURCE.pixels == pixels).flatten(1).all(1).nonzero()[0, 0]])
            labels.append(label)
    assert sorted(labels) == [1, 1, 1, 3, 3, 3]


def test_a_class_that_a_table_would_read_as_something_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("Split", "class", " a"):
        told(monkeypatch, painter(tasks=("classification",), class_names=(name, "b", "c", "d")))
        assert main(["synthesize", "--classes", "b", "--count", "1", "--out", str(tmp_path / "made")]) == 2
        assert f"its column `{name}` would not be read as a class" in capsys.readouterr().err and not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--count", "0"], "`--count` must be at least 1; found 0"),
        (["--classes", "a,a"], "`--classes` names something twice: a, a"),
        (["--classes", "a@0:0:8:8"], "says what to make, not where"),
        (["--classes", "f"], "unknown class `f`"),
        (["--sure", "1.5"], "`class_prob` must lie in"),
        (["--classes", "a+a"], "nothing was kept"),
        (["--sampler", "eulre"], "unknown sampler `eulre`"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told(monkeypatch, painter())
    assert main(["synthesize", *arguments, "--out", str(tmp_path / "made")]) != 0
    assert message in capsys.readouterr().err and not (tmp_path / "made").exists()


def test_nothing_but_a_set_made_before_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    told(monkeypatch, painter())
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "mine.png").write_text("precious")
    command = ["synthesize", "--classes", "a", "--count", "1", "--overwrite", "--out"]
    assert main([*command, str(tmp_path / "photos")]) != 0 and (tmp_path / "photos" / "mine.png").is_file()
    assert "exists" in capsys.readouterr().err
    assert main([*command, str(tmp_path / "made")]) == 0 == main([*command, str(tmp_path / "made")])


def test_a_class_whose_name_is_a_path_leads_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for tasks in (("classification",), ("classification", "detection")):
        told(monkeypatch, painter(tasks=tasks, class_names=("a", "../../b", "c", "d")))
        assert main(["synthesize", "--classes", "1", "--count", "1", "--overwrite", "--out", str(tmp_path / "within" / "made")]) == 0
        (picture,) = (tmp_path / "within").rglob("*.png")
        assert picture.name.endswith("00000.png") and "_b" in str(picture) and not list(tmp_path.glob("*.png"))
        monkeypatch.undo()

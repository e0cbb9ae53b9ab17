"""What the command line asks of images: classes by name or number, places of objects."""

from __future__ import annotations

import pytest
import torch

from genrep.cli.wishes import Asked, asked_counts, layout, read_row, read_rows

NAMES, SIZE = ("boot", "bag", "t-shirt"), (32, 48)


def test_a_row_names_classes_by_name_or_number_and_their_places() -> None:
    assert read_row("boot", NAMES, SIZE) == [Asked(0, None)]
    assert read_row("2 + bag", NAMES, SIZE) == [Asked(2, None), Asked(1, None)]
    assert read_row("boot@0:8:16:24.5+bag@20:1:48:32", NAMES, SIZE) == [Asked(0, (0, 8, 16, 24.5)), Asked(1, (20, 1, 48, 32))]


def test_a_name_goes_before_a_number_and_may_be_called_anything() -> None:
    names = ("1", "2", "c++", "a@b", "rock, paper")
    assert [read_row(entry, names, SIZE) for entry in ("1", "4", "c++", "a@b")] == [[Asked(0, None)], [Asked(4, None)], [Asked(2, None)], [Asked(3, None)]]
    assert read_rows(None, names, SIZE) == [[Asked(i, None)] for i in range(5)]
    assert read_rows("2,1+2", names, SIZE) == [[Asked(1, None)], [Asked(0, None), Asked(1, None)]]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("boots", "unknown class `boots`; known: 0, 1, 2, bag, boot, t-shirt. Did you mean `boot`?"),
        ("3", "unknown class `3`"),
        ("boot+", "unknown class ``"),
        ("boot@1:2:3", "a place is x0:y0:x1:y1, four numbers of pixels; found `1:2:3`"),
        ("boot@1:2:3:x", "four numbers of pixels"),
        ("boot@5:2:5:9", "with x0 < x1 and y0 < y1; found `5:2:5:9`"),
        ("boot@0:0:49:9", "48 pixels wide and 32 high"),
        ("boot@nan:0:4:9", "a place must lie in the image"),
    ],
)
def test_mistakes_in_a_row_are_named(entry: str, message: str) -> None:
    with pytest.raises(ValueError) as error:
        read_row(entry, NAMES, SIZE)
    assert message in str(error.value)


def test_rows_become_numbers_of_objects() -> None:
    rows = [read_row(entry, NAMES, SIZE) for entry in ("bag", "boot+t-shirt", "bag+bag")]
    assert asked_counts(rows, 3).tolist() == [[0, 1, 0], [1, 0, 1], [0, 2, 0]]


def test_places_become_what_the_detector_should_see() -> None:
    rows = [read_row(entry, NAMES, SIZE) for entry in ("bag", "boot@0:8:24:24+t-shirt@24:0:48:32")]
    batch = layout(rows, 3, SIZE)
    assert batch is not None and batch.has_objects.tolist() == [False, True] and batch.object_labels.tolist() == [[-1, -1], [0, 2]]
    torch.testing.assert_close(batch.boxes_cxcywh[1], torch.tensor([[0.25, 0.5, 0.5, 0.5], [0.75, 0.5, 0.5, 1.0]]))
    assert batch.boxes_cxcywh[0].abs().max() == 0 and (batch.label == -1).all()
    assert batch.classes.tolist() == [[0, 1, 0], [1, 0, 1]]


def test_without_places_nothing_is_wanted_and_some_are_not_enough() -> None:
    assert layout([read_row("bag+boot", NAMES, SIZE)], 3, SIZE) is None
    with pytest.raises(ValueError, match="where one object of a row has a place, all need one"):
        layout([read_row("bag@1:1:9:9+boot", NAMES, SIZE)], 3, SIZE)

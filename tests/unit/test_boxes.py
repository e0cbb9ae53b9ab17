"""Boxes: formats round-trip, cells and areas count what they say."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from genrep.boxes import cells_inside, one_per_place, to_cxcywh, to_xyxy_px
from genrep.types import Detections

sizes = st.tuples(st.integers(1, 500), st.integers(1, 500))


@given(size=sizes, seed=st.integers(0, 1000))
def test_formats_round_trip(size: tuple[int, int], seed: int) -> None:
    boxes = torch.rand(6, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    torch.testing.assert_close(to_cxcywh(to_xyxy_px(boxes, size), size), boxes)


def test_one_of_each_place_is_shown_and_overlapping_objects_are_two() -> None:
    here, shifted, elsewhere = [0.0, 0, 10, 10], [3.0, 0, 13, 10], [20.0, 20, 30, 30]
    found = Detections(torch.tensor([here, shifted, here, elsewhere]), torch.tensor([0.9, 0.5, 0.4, 0.2]), torch.tensor([1, 2, 3, 4]))
    assert one_per_place(found, 0.3).labels.tolist() == [1, 2]
    assert one_per_place(found, 0.1).labels.tolist() == [1, 2, 4]
    assert one_per_place(found, 0.95).boxes_xyxy_px.shape == (0, 4)


def test_sizes_are_height_and_width() -> None:
    corners = to_xyxy_px(torch.tensor([[[0.5, 0.5, 0.5, 1.0]]]), (10, 40))
    assert corners.tolist() == [[[10.0, 0.0, 30.0, 10.0]]]


def test_cells_inside_are_those_whose_centre_is() -> None:
    cells = cells_inside(torch.tensor([[0.5, 0.25, 0.5, 0.5]]), (4, 4))
    assert cells.tolist() == [[[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]]


@given(place=st.tuples(st.floats(0.001, 0.999), st.floats(0.001, 0.999)))
def test_the_smallest_box_has_a_cell(place: tuple[float, float]) -> None:
    cells = cells_inside(torch.tensor([[*place, 0.0, 0.0]]), (8, 8))
    assert cells.sum() >= 1
    row, column = cells[0].nonzero()[0].tolist()
    assert abs((row + 0.5) / 8 - place[1]) <= 1 / 16 + 1e-6 and abs((column + 0.5) / 8 - place[0]) <= 1 / 16 + 1e-6

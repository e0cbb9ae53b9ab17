"""Where gradients lie: nothing twice, nothing beside, and of sharded weights each with one process."""

from __future__ import annotations

import pytest
import torch
from small_models import small_model

from genrep.training.joint_step import ALIGNED_SETS
from genrep.training.layout import Layout

SHAPES = {name: p.shape for name, p in small_model().named_parameters()}
HEADS, PROJECTOR = ({name for name in SHAPES if name.startswith(part)} for part in ("heads.", "projector."))
REACHED = [set(SHAPES) - PROJECTOR, set(SHAPES) - HEADS]


@pytest.mark.parametrize("aligned_set", ALIGNED_SETS)
@pytest.mark.parametrize(("num", "sharded"), [(1, False), (3, False), (1, True), (3, True)])
def test_every_gradient_has_a_place_of_its_own(num: int, sharded: bool, aligned_set: str) -> None:
    aligned = ALIGNED_SETS[aligned_set]
    layout = Layout(SHAPES, REACHED, aligned, num, sharded=sharded)
    everywhere = [name for name in SHAPES if name in REACHED[0] & REACHED[1] and aligned(name)]
    assert layout.num_aligned % num == 0 and set(layout.owners) == (set(everywhere) if sharded else set())
    for i, reached in enumerate(REACHED):
        row = torch.zeros(max(layout.ends))
        views = layout.views(row, i)
        assert {name: view.shape for name, view in views.items()} == {name: SHAPES[name] for name in reached}
        for view in views.values():
            view += 1
        assert row.max() == 1 and not row[layout.ends[i] :].any() and row.sum() == sum(view.numel() for view in views.values())
        assert row[: layout.num_aligned].sum() == sum(SHAPES[name].numel() for name in everywhere)
        assert sum(row[columns].sum() for _, columns in layout.parts) == row[: layout.num_aligned].sum()
    assert sorted(columns.start for _, columns in layout.parts) == [columns.start for _, columns in layout.parts]


@pytest.mark.parametrize("num", [2, 3])
def test_a_process_has_whole_weights_and_as_much_as_any_other(num: int) -> None:
    layout = Layout(SHAPES, REACHED, ALIGNED_SETS["trunk"], num, sharded=True)
    row = torch.arange(float(layout.num_aligned))
    for process, columns in enumerate(row.chunk(num)):
        mine, all_of_them = layout.views_of(process, columns), layout.views(torch.cat([row, torch.zeros(max(layout.ends))]), 0)
        assert set(mine) == {name for name, owner in layout.owners.items() if owner == process}
        assert all(torch.equal(view, all_of_them[name]) for name, view in mine.items())
        assert sum(view.numel() for view in mine.values()) > 0.99 * len(columns)

"""A world of rectangles for whole runs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from toy_runs import load_rectangles

from genrep.model import GenRep
from genrep.posteriors.gate import Gate
from genrep.training import data, distillation, loop


@pytest.fixture(scope="module")
def toy_world() -> Iterator[None]:
    """Rectangles for garments, and gates that open whatever the posterior knows, so that every mechanism is at work."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "load_dataset", load_rectangles)
        patch.setattr(distillation, "fit_gate", lambda *_: Gate(weight=0.6, standard_error=0.1))
        yield


@pytest.fixture
def in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Meanwhile runs are."""
    monkeypatch.setattr(loop, "GenRep", lambda model: GenRep(model).double())

"""Costs are ratios of the same run, and few rounds judge nothing."""

from __future__ import annotations

import time

import pytest
from rectangles import rectangles
from toy_runs import config

from genrep.evaluation.posterior_cost import cost_figures
from genrep.evaluation.timing import cpu_seconds, of_rounds


def burn(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_ratios_are_of_medians_after_a_warm_up() -> None:
    first = iter([0.2])
    found = cpu_seconds({"a": lambda: burn(next(first, 0.02)), "b": lambda: burn(0.01)}, 5)
    assert found["a"] == pytest.approx(0.02, rel=0.15) and found["b"] == pytest.approx(0.01, rel=0.15)


def test_enough_rounds_judge() -> None:
    assert of_rounds("x", 0.9, 1.0, 7, "so").met is True and of_rounds("x", 1.1, 1.0, 7, "so").met is False
    few = of_rounds("x", 0.9, 1.0, 6, "so")
    assert few.met is None and "medians of 6 rounds" in few.how and "too few to judge" in few.how


def test_a_posterior_costs_less_than_a_loop_and_lessons_are_shared_among_steps() -> None:
    """The loop asks the network 8 * 4 * 4 times for one image, ours 4 times for all; lessons come every other step."""
    late, at_once, lessons = cost_figures(config(), rectangles(64, size=16), num_rounds=2)
    assert 0 < at_once.value < 0.5 and 0 < late.value < 0.5 and (late.target, at_once.target) == (0.15, 0.10) and late.at_most and at_once.at_most
    assert lessons.value > 0 and "one in 2 has a lesson, so that 33% of the images are taught" in lessons.how
    assert late.met is None and lessons.met is None and "too few to judge" in late.how

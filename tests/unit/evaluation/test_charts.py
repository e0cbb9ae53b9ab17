"""Charts are well-formed, escaped and keep to their frame."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest

from genrep.evaluation.charts import Frame, confusion_chart, curve, nice_ticks, precision_recall_curve, reliability_diagram, smoothed, thinned
from genrep.evaluation.dots import dot_plots

SVG = "{http://www.w3.org/2000/svg}"
STEPS = [(float(i), 2 + math.sin(i)) for i in range(1, 1000)]


@pytest.mark.parametrize(
    "chart",
    [
        curve(STEPS, label="a loss", mark_x=500.0),
        curve([(1.0, 0.0)], label="one point"),
        curve([(1.0, -5.0), (2.0, 50.0)], label="clipped", y_range=(-1.0, 1.0)),
        precision_recall_curve([1.0] * 50 + [0.0] * 51, label="precision"),
        reliability_diagram([0.0, 0.4, 0.9], [0.0, 0.5, 1.0], [0, 10, 90]),
        confusion_chart([[3, 1], [0, 4]], ["<one>", "two & three"]),
    ],
)
def test_every_coordinate_is_in_the_frame(chart: str) -> None:
    root = ElementTree.fromstring(chart)
    width, height = map(float, root.attrib["viewBox"].split()[2:])
    assert root.attrib["role"] == "img" and root.attrib["aria-label"]
    points = [tuple(map(float, pair.split(","))) for line in root.iter("polyline") for pair in line.attrib["points"].split()]
    corners = [(float(r.attrib["x"]) + float(r.attrib["width"]), float(r.attrib["y"]) + float(r.attrib["height"])) for r in root.iter("rect")]
    assert all(0 <= x <= width and 0 <= y <= height for x, y in [*points, *corners])


def test_names_are_escaped() -> None:
    chart = confusion_chart([[3, 1], [0, 4]], ["<script>", "b"])
    assert "<script>" not in chart and "&lt;script&gt;" in chart


def test_a_point_lands_where_its_value_says() -> None:
    frame = Frame(width=110, height=110, left=5, right=5, top=5, bottom=5, x=(0, 10), y=(-1, 1))
    assert frame.at(0, -1) == (5, 105) and frame.at(10, 1) == (105, 5) and frame.at(5, 0) == (55, 55)


def test_long_curves_are_thinned_to_their_means() -> None:
    thin = thinned(STEPS, num=100)
    assert len(thin) <= 100
    assert sum(y for _, y in thin) / len(thin) == pytest.approx(sum(y for _, y in STEPS) / len(STEPS), abs=0.01)
    assert smoothed([(float(i), 3.0) for i in range(40)]) == [(float(i), 3.0) for i in range(40)]
    assert len(re.findall(r"[\d.]+,[\d.]+", curve(STEPS, label="a"))) <= 2 * 160


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.013), (-1.0, 1.0), (0.0, 1250.0), (3.0, 3.0)])
def test_ticks_are_few_and_inside(low: float, high: float) -> None:
    ticks = nice_ticks(low, high)
    assert 1 <= len(ticks) <= 5 and all(low - 1e-9 <= tick <= high + 1e-9 for tick in ticks)


def test_many_panels_are_set_below_each_other_each_with_its_names() -> None:
    """Seven figures of two arms: none lies outside of the picture, and every band names its rows."""
    values = {f"a/figure{i}": {"one": (0.1, 0.2, 0.3), "other": (0.2,)} for i in range(7)}
    drawn = ElementTree.fromstring(dot_plots(values, ("one", "other"), label="all"))
    words = [text.text for text in drawn.iter(f"{SVG}text")]
    assert words.count("one") == words.count("other") == 2 and {f"figure{i}" for i in range(7)} <= set(words)
    places = [tuple(map(float, panel.get("transform", "")[10:-1].split())) for panel in drawn.iter(f"{SVG}g")]
    assert len(set(places)) == 7 and {y for _, y in places} == {0.0, places[-1][1]}
    assert max(x for x, _ in places) < float(drawn.get("width", "0")) and places[-1][1] < float(drawn.get("height", "0"))

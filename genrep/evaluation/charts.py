"""Charts as inline SVG, coloured by the page's own variables so that they follow its light and dark themes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from markupsafe import Markup

Points = Sequence[tuple[float, float]]
NUM_LINES = 4
"""Kinds of lines by which runs in one chart are told apart; from the fifth on they come again."""


@dataclass(frozen=True, kw_only=True)
class Frame:
    """A plotting area inside its margins, and the data range it shows; all lengths in SVG units."""

    width: float = 300
    height: float = 150
    left: float = 38
    right: float = 10
    top: float = 8
    bottom: float = 24
    x: tuple[float, float] = (0, 1)
    y: tuple[float, float] = (0, 1)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """SVG position of a data point."""
        across = (x - self.x[0]) / ((self.x[1] - self.x[0]) or 1)
        up = (y - self.y[0]) / ((self.y[1] - self.y[0]) or 1)
        return self.left + across * (self.width - self.left - self.right), self.height - self.bottom - up * (self.height - self.top - self.bottom)

    def line(self, points: Points, kind: str) -> str:
        """A line through data points, of a CSS class."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (self.at(*point) for point in points))
        return f'<polyline class="{kind}" points="{path}"/>'

    def axes(self, *, x_ticks: Sequence[float], y_ticks: Sequence[float]) -> str:
        """Faint horizontal lines with numbers, and numbers below."""
        parts = []
        for tick in y_ticks:
            x, y = self.at(self.x[0], tick)
            parts.append(f'<line class="rule" x1="{x:.1f}" x2="{self.width - self.right}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(f'<text x="{x - 6:.1f}" y="{y + 3.5:.1f}" text-anchor="end">{short(tick)}</text>')
        for tick in x_ticks:
            x, y = self.at(tick, self.y[0])
            anchor = "end" if x > self.width - self.right - 8 else "middle"
            parts.append(f'<text x="{x:.1f}" y="{y + 15:.1f}" text-anchor="{anchor}">{short(tick)}</text>')
        return "".join(parts)

    def svg(self, content: str, label: str) -> Markup:
        """The finished element; `label` is read to those who cannot see it."""
        return Markup(f'<svg viewBox="0 0 {self.width:g} {self.height:g}" role="img" aria-label="{escape(label)}">{content}</svg>')


def short(value: float) -> str:
    """A number as an axis shows it.

    >>> short(0.25), short(12000), short(0.0), short(1.0)
    ('.25', '12k', '0', '1')
    """
    if abs(value) >= 1000:
        return f"{value / 1000:g}k"
    text = f"{value:.3g}"
    return text.replace("0.", ".", 1) if abs(value) < 1 and "e" not in text else text


def nice_ticks(low: float, high: float, *, num: int = 3) -> list[float]:
    """About `num` round numbers inside a range.

    >>> nice_ticks(0.0, 1.0)
    [0.0, 0.5, 1.0]
    """
    if not high > low:
        return [low]
    rough = (high - low) / max(1, num - 1)
    unit = 10 ** math.floor(math.log10(rough))
    step = min((unit * factor for factor in (1, 2, 2.5, 5, 10)), key=lambda candidate: abs(candidate - rough))
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def thinned(points: Points, *, num: int = 160) -> list[tuple[float, float]]:
    """Means of consecutive points, at most `num` of them."""
    size = -(-len(points) // num) or 1
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]


def smoothed(points: Points, *, span: float = 0.05) -> list[tuple[float, float]]:
    """Centred running means over a share of the points."""
    half = int(len(points) * span / 2)
    values = [y for _, y in points]
    windows = (values[max(0, i - half) : i + half + 1] for i in range(len(values)))
    return [(x, sum(window) / len(window)) for (x, _), window in zip(points, windows, strict=True)]


def curve(points: Points, *, label: str, y_range: tuple[float, float] | None = None, mark_x: float | None = None) -> Markup:
    """A quantity over training steps: faint as measured, strong smoothed; a dashed line where the second stage begins."""
    points = thinned(points)
    smooth = smoothed(points)
    low, high = y_range or _range([y for _, y in points])
    last = max(points[-1][0], mark_x or 0)
    frame = Frame(x=(0, last), y=(low, high))
    clipped = [(x, min(high, max(low, y))) for x, y in points]
    parts = [frame.axes(x_ticks=nice_ticks(0, last), y_ticks=nice_ticks(low, high)), _mark(frame, mark_x), frame.line(clipped, "faint")]
    return frame.svg("".join(parts) + frame.line([(x, min(high, max(low, y))) for x, y in smooth], "strong"), label)


def curves(several: Sequence[Points], *, label: str) -> Markup:
    """A quantity over training steps of several runs, smoothed; one without points has no line."""
    smooth = [smoothed(thinned(points)) if points else [] for points in several]
    low, high = _range([y for points in smooth for _, y in points])
    last = max(points[-1][0] for points in smooth if points)
    frame = Frame(x=(0, last), y=(low, high))
    lines = [frame.line([(x, min(high, max(low, y))) for x, y in points], f"run run{i % NUM_LINES}") for i, points in enumerate(smooth) if points]
    return frame.svg(frame.axes(x_ticks=nice_ticks(0, last), y_ticks=nice_ticks(low, high)) + "".join(lines), label)


def line_of(i: int) -> Markup:
    """How the i-th of several runs is drawn."""
    return Frame(width=44, height=12, left=2, right=2, top=6, bottom=6).svg(f'<polyline class="run run{i % NUM_LINES}" points="2,6 42,6"/>', "")


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Zero (or the least value, if negative) to just above all but the most extreme fiftieth."""
    ordered = sorted(values)
    top = ordered[min(len(ordered) - 1, int(len(ordered) * 0.98))]
    low = min(0.0, ordered[0])
    return low, top + 0.05 * (top - low) if top > low else low + 1.0


def _mark(frame: Frame, x: float | None) -> str:
    if x is None or not frame.x[0] < x < frame.x[1]:
        return ""
    (across, top), (_, bottom) = frame.at(x, frame.y[1]), frame.at(x, frame.y[0])
    return f'<line class="mark" x1="{across:.1f}" x2="{across:.1f}" y1="{top:.1f}" y2="{bottom:.1f}"/>'


def precision_recall_curve(precision: Sequence[float], *, label: str) -> Markup:
    """Precision against recall, filled: the area is the average precision."""
    frame = Frame(width=180, height=120, left=26, bottom=20)
    points = [(i / (len(precision) - 1), value) for i, value in enumerate(precision)]
    area = frame.line([(0.0, 0.0), *points, (1.0, 0.0)], "area")
    return frame.svg(frame.axes(x_ticks=(0, 1), y_ticks=(0, 1)) + area + frame.line(points, "strong"), label)


def reliability_diagram(confidence: Sequence[float], accuracy: Sequence[float], count: Sequence[int]) -> Markup:
    """Accuracy per confidence bin against the diagonal of perfect calibration; below, how many images each bin holds."""
    num, most = len(count), max(*count, 1)
    frame = Frame(width=340, height=300, bottom=80)
    ticks = (0, 0.25, 0.5, 0.75, 1)
    parts = [frame.axes(x_ticks=(), y_ticks=ticks)]
    for i in range(num):
        (x0, base), (x1, top) = frame.at(i / num, 0), frame.at((i + 1) / num, accuracy[i])
        if count[i]:
            parts.append(f'<rect class="bar" x="{x0 + 1:.1f}" y="{top:.1f}" width="{x1 - x0 - 2:.1f}" height="{base - top:.1f}"/>')
            (_, gap) = frame.at(0, confidence[i])
            parts.append(f'<line class="aim" x1="{x0 + 1:.1f}" x2="{x1 - 1:.1f}" y1="{gap:.1f}" y2="{gap:.1f}"/>')
        tall = 36 * math.sqrt(count[i] / most)
        parts.append(f'<rect class="count" x="{x0 + 1:.1f}" y="{base + 8:.1f}" width="{x1 - x0 - 2:.1f}" height="{tall:.1f}"/>')
    parts += [f'<text x="{frame.at(tick, 0)[0]:.1f}" y="292" text-anchor="middle">{short(tick)}</text>' for tick in ticks]
    return frame.svg("".join(parts) + frame.line([(0, 0), (1, 1)], "mark"), "Reliability diagram: accuracy against confidence")


def confusion_chart(confusion: Sequence[Sequence[int]], names: Sequence[str]) -> Markup:
    """Shares of each label's images by prediction; darker is more."""
    num, left, top = len(names), 62, 56
    cell = 300 / num
    frame = Frame(width=left + 300 + 4, height=top + 300 + 4)
    parts = []
    for row, (name, counts) in enumerate(zip(names, confusion, strict=True)):
        y = top + row * cell
        parts.append(f'<text x="{left - 6}" y="{y + cell / 2 + 3.5:.1f}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<text transform="translate({left + (row + 0.5) * cell + 3:.1f} {top - 6}) rotate(-50)">{escape(name)}</text>')
        parts += [_cell(left + column * cell, y, cell, count / (sum(counts) or 1)) for column, count in enumerate(counts)]
    return frame.svg("".join(parts), "Confusion matrix: rows are labels, columns predictions")


def _cell(x: float, y: float, size: float, share: float) -> str:
    text = ""
    if share >= 0.01 and size >= 20:
        kind = "on" if share > 0.5 else "off"
        text = f'<text class="{kind}" x="{x + size / 2:.1f}" y="{y + size / 2 + 3.5:.1f}" text-anchor="middle">{100 * share:.0f}</text>'
    opacity = 0.04 + 0.96 * math.sqrt(share)
    return f'<rect class="cell" x="{x + 0.5:.1f}" y="{y + 0.5:.1f}" width="{size - 1:.1f}" height="{size - 1:.1f}" fill-opacity="{opacity:.2f}"/>{text}'

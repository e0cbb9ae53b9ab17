"""Dot plots of a suite's figures as a picture of its own: every seed of every arm, the mean, and its 95 % interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from genrep.evaluation.charts import nice_ticks, short
from genrep.metrics.base import mean_of_repetitions

LABELS, PANEL, GAP, ROW, TOP, BOTTOM = 126, 124, 16, 19, 26, 22
"""Lengths in SVG units."""
ABREAST = 5
"""Panels side by side at most; more are set below."""
ENOUGH = 3
"""Seeds, below which an interval is wider than anything else on the page, and not drawn."""
STYLE = (
    "text{font:11px system-ui,sans-serif;fill:#333}.small{font-size:9.5px;fill:#777}.rule{stroke:#ddd}.bar{stroke:#2a6fb0;stroke-width:2}"
    ".seed{fill:#2a6fb0;fill-opacity:.45}.mean{fill:#2a6fb0}"
    "@media(prefers-color-scheme:dark){text{fill:#ddd}.small{fill:#999}.rule{stroke:#444}.bar{stroke:#7db8ec}.seed,.mean{fill:#7db8ec}}"
)

Values = Mapping[str, Mapping[str, Sequence[float]]]
"""Of each figure, of each arm, a number for each seed."""


def dot_plots(values: Values, arms: Sequence[str], *, label: str) -> str:
    """An SVG file: a panel for each figure, a row for each arm; arms without a number leave their row empty."""
    band, num_bands = TOP + ROW * len(arms) + BOTTOM, -(-len(values) // ABREAST)
    height, width = band * num_bands, LABELS + (PANEL + GAP) * min(len(values), ABREAST)
    parts = [_names(arms, i * band) for i in range(num_bands)]
    for i, (figure, of_arms) in enumerate(values.items()):
        panel = "".join(_panel(figure, [of_arms.get(arm, ()) for arm in arms]))
        parts.append(f'<g transform="translate({LABELS + i % ABREAST * (PANEL + GAP)} {i // ABREAST * band})">{panel}</g>')
    whole = "".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" aria-label="{escape(label)}">'
        f"<style>{STYLE}</style>{whole}</svg>\n"
    )


def _names(arms: Sequence[str], top: int) -> str:
    return "".join(f'<text x="{LABELS - 10}" y="{top + _middle(i) + 4}" text-anchor="end">{escape(arm)}</text>' for i, arm in enumerate(arms))


def _middle(row: int) -> int:
    return TOP + ROW * row + ROW // 2


def _panel(figure: str, rows: Sequence[Sequence[float]]) -> list[str]:
    means = [mean_of_repetitions(row) if len(row) >= ENOUGH else None for row in rows]
    shown = [value for row in rows for value in row] + [end for mean in means if mean for end in (mean.low, mean.high)]
    low, high = min(shown), max(shown)
    room = 0.06 * (high - low) or 0.01
    low, high = low - room, high + room

    def at(value: float) -> float:
        return round(PANEL * (value - low) / (high - low), 1)

    group, _, name = figure.rpartition("/")
    parts = [f'<text x="0" y="11">{escape(name)}<title>{escape(group)}</title></text>']
    for tick in nice_ticks(low, high):
        parts.append(f'<line class="rule" x1="{at(tick)}" x2="{at(tick)}" y1="{TOP - 6}" y2="{TOP + ROW * len(rows)}"/>')
        parts.append(f'<text class="small" x="{at(tick)}" y="{TOP + ROW * len(rows) + 13}" text-anchor="middle">{short(tick)}</text>')
    for i, (row, mean) in enumerate(zip(rows, means, strict=True)):
        if mean:
            parts.append(f'<line class="bar" x1="{at(mean.low)}" x2="{at(mean.high)}" y1="{_middle(i)}" y2="{_middle(i)}"/>')
        parts += [f'<circle class="seed" cx="{at(value)}" cy="{_middle(i)}" r="3"/>' for value in row]
        if row:
            centre = at(sum(row) / len(row))
            parts.append(f'<rect class="mean" x="{centre - 1.5}" y="{_middle(i) - 6}" width="3" height="12"/>')
    return parts

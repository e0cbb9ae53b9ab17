"""Progress on the screen: a live table in a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

Row = Mapping[str, float | int | None]

PLAIN_EVERY_S = 10.0
"""Seconds between plain lines."""


def say_environment() -> None:
    """One line: versions and hardware."""
    import torch

    from genrep import __version__
    from genrep.devices import default_device

    device = default_device()
    what = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{os.cpu_count()} CPU cores, {torch.get_num_threads()} threads"
    print(f"genrep {__version__}, python {platform.python_version()}, torch {torch.__version__}, {what}")


class Pace:
    """Time left, from the steps of the last minute or so."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque(maxlen=30)
        self._stage: float | None = None

    def left_s(self, row: Row, total_steps: int) -> float | None:
        """Seconds left at the present pace; None until there is one."""
        step = int(row["step"] or 0)
        if row.get("stage") != self._stage:
            self._stage = row.get("stage")
            self._seen.clear()
        self._seen.append((time.monotonic(), step))
        (then, first), (now, last) = self._seen[0], self._seen[-1]
        return (total_steps - step) * (now - then) / (last - first) if last > first else None


def duration(seconds: float | None) -> str:
    """Seconds as a person says them.

    >>> duration(75.0), duration(7.0), duration(None)
    ('1 min 15 s', '7 s', '-')
    """
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def losses_text(row: Row) -> str:
    """Every loss of a row by its own name."""
    return "  ".join(f"{key.removeprefix('loss/')} {value:.3f}" for key, value in row.items() if key.startswith("loss/") and value is not None)


def alignment_text(row: Row) -> str:
    """How the two gradients get along; empty in stage 1."""
    words = {
        "align/cosine": "cosine",
        "align/kept_perception": "kept (perception)",
        "align/kept_generation": "kept (generation)",
        "align/norm_ratio": "norm ratio",
    }
    return "  ".join(f"{word} {row[key]:.2f}" for key, word in words.items() if row.get(key) is not None)


def pace_text(row: Row, left_s: float | None) -> str:
    """Images per second, time left, memory."""
    memory = row.get("memory_gb")
    parts = [f"{row.get('images_per_s') or 0:.0f} images/s", f"{duration(left_s)} left", f"{memory:.1f} GB" if memory is not None else ""]
    return ", ".join(part for part in parts if part)


def event_text(event: Mapping[str, Any]) -> str:
    """An event as one line."""
    if event.get("event") == "evaluation":
        return f"evaluating: {event['part']}"
    if event.get("event") == "completion":
        learns = [f"learns which semantics go with which classes, {event['updates']:,} updates"] if event["updates"] else []
        calibrates = ["is calibrated"] if event["calibrates"] else []
        return f"step {event['step']}: {event['model']} {' and '.join([*learns, *calibrates, 'is written'])}"
    if event.get("event") == "gate":
        verdict = "teaches" if event["teaches"] else "stays shut"
        weight = f"fitted weight {event['weight']:.2f} +- {event['standard_error']:.2f}, the heads' {event['head_weight']:.2f}"
        accuracy = f"right on {event['posterior_accuracy']:.2f} of validation, the heads on {event['head_accuracy']:.2f}"
        return f"step {event['step']}: the posterior of {event['kind']}s {verdict} ({weight}; {accuracy})"
    values = (f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in event.items() if key not in ("event", "time"))
    return f"{event.get('event', 'event')}: {', '.join(values)}"


class PlainProgress:
    """One line now and then, for files and pipes."""

    def __init__(self) -> None:
        self._pace, self._said_s = Pace(), float("-inf")
        self._stage: float | None = None

    def on_start(self, lines: list[str]) -> None:
        """Before the first step."""
        print(*lines, sep="\n", flush=True)

    def on_row(self, row: Row, total_steps: int) -> None:
        """A row of metrics.csv."""
        left_s = self._pace.left_s(row, total_steps)
        fresh = row.get("stage") != self._stage or row["step"] == total_steps
        if fresh or time.monotonic() - self._said_s >= PLAIN_EVERY_S:
            self._said_s, self._stage = time.monotonic(), row.get("stage")
            parts = [f"step {row['step']}/{total_steps}", f"stage {row.get('stage')}", losses_text(row), alignment_text(row), pace_text(row, left_s)]
            print("  ".join(part for part in parts if part), flush=True)

    def on_event(self, event: Mapping[str, Any]) -> None:
        """A line of events.jsonl."""
        print(event_text(event), flush=True)

    def on_end(self, lines: list[str]) -> None:
        """After the last step: the files that were written."""
        print(*(f"wrote {line}" for line in lines), sep="\n", flush=True)


class LiveProgress:
    """A table that stays in place."""

    def __init__(self, console: Console, live: Live) -> None:
        self._console, self._live, self._pace = console, live, Pace()

    def on_start(self, lines: list[str]) -> None:
        """Before the first step."""
        self._console.print(*lines, sep="\n", markup=False, highlight=False)

    def on_row(self, row: Row, total_steps: int) -> None:
        """A row of metrics.csv."""
        left_s = self._pace.left_s(row, total_steps)
        table = Table.grid(padding=(0, 2))
        table.add_row("progress", ProgressBar(total=total_steps, completed=int(row["step"] or 0), width=40))
        table.add_row("step", f"{row['step']} of {total_steps}, stage {row.get('stage')}")
        table.add_row("pace", pace_text(row, left_s))
        table.add_row("losses", losses_text(row))
        if alignment := alignment_text(row):
            table.add_row("gradients", alignment)
        self._live.update(table)

    def on_event(self, event: Mapping[str, Any]) -> None:
        """A line of events.jsonl."""
        self._console.print(event_text(event), markup=False, highlight=False)

    def on_end(self, lines: list[str]) -> None:
        """After the last step: the files that were written."""
        self._console.print(*(f"wrote {line}" for line in lines), sep="\n", markup=False, highlight=False)


@contextmanager
def make_progress() -> Iterator[LiveProgress | PlainProgress]:
    """The display that suits where the output goes."""
    if not sys.stdout.isatty():
        yield PlainProgress()
        return
    console = Console()
    with Live(console=console, refresh_per_second=4) as live:
        yield LiveProgress(console, live)

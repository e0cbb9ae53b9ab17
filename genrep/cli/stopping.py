"""Ctrl-C and SIGTERM as a polite request: finish what is being done, save, leave. A second one leaves at once."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
OF_TRAINING = "finishing the step and saving; once more to leave at once."


@contextmanager
def stop_on_signal(saying: str = OF_TRAINING) -> Iterator[Callable[[], bool]]:
    """Gives a function that says whether to stop; the handlers that were there come back at the end.

    Args:
        saying: what is told whoever asks.
    """
    asked = False

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        print(f"genrep: {saying}", file=sys.stderr)

    before = {number: signal.signal(number, on_signal) for number in SIGNALS}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""What a run is worth: figures on test images, pictures, and a report to read."""

from __future__ import annotations

from genrep.evaluation.elsewhere import evaluate_elsewhere
from genrep.evaluation.evaluate import evaluate
from genrep.evaluation.report import write_report

__all__ = ["evaluate", "evaluate_elsewhere", "write_report"]

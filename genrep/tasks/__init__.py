"""Perception tasks: a head, a criterion and a post-processor each."""

from typing import Any

from genrep.tasks.base import ObjectTargets, Task, run_tasks
from genrep.tasks.classification import Classification
from genrep.tasks.depth import Depth
from genrep.tasks.detection import Detection
from genrep.tasks.multilabel import MultiLabel
from genrep.tasks.segmentation import Segmentation

TASKS: dict[str, type[Task[Any, Any]]] = {
    "detection": Detection,
    "classification": Classification,
    "multilabel": MultiLabel,
    "segmentation": Segmentation,
    "depth": Depth,
}
"""Every task by the name that configs use, in the order in which they run: the others see detection's objects."""

__all__ = ["TASKS", "Classification", "Depth", "Detection", "MultiLabel", "ObjectTargets", "Segmentation", "Task", "run_tasks"]

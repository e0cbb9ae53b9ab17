"""GenRep: one diffusion model that sees and makes. Attributes load on first use, so `import genrep` does not import torch.

>>> import genrep
>>> genrep.__version__
'0.1.0'
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genrep.config import Config
    from genrep.evaluation.evaluate import evaluate
    from genrep.evaluation.report import write_report
    from genrep.model import GenRep
    from genrep.training import train

__version__ = "0.1.0"
__all__ = ["Config", "GenRep", "__version__", "evaluate", "train", "write_report"]

_HOME = {
    "Config": "genrep.config",
    "GenRep": "genrep.model",
    "evaluate": "genrep.evaluation",
    "train": "genrep.training",
    "write_report": "genrep.evaluation.report",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module `genrep` has no attribute `{name}`; it has {', '.join(sorted(__all__))}.")
    return getattr(importlib.import_module(_HOME[name]), name)

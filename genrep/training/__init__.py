"""Training: from a configuration to a model folder."""

from genrep.training.loop import train
from genrep.training.records import Screen
from genrep.training.run_folder import RunFolder
from genrep.training.runtime import Interrupted, agreed_bf16, computes_in_bf16

__all__ = ["Interrupted", "RunFolder", "Screen", "agreed_bf16", "computes_in_bf16", "train"]

"""How a step changed each loss on its own images, beside what the loss's gradient said."""

from __future__ import annotations

import torch
from torch import Tensor

from genrep.layers import precise
from genrep.model import GenRep
from genrep.processes import total
from genrep.training.joint_step import JointGradient
from genrep.training.micro_batches import MicroBatches
from genrep.training.records import Row


class Probe:
    """Measures the losses before a step, and after it, with the same random numbers; it changes nothing.

    Args:
        joint: of the step; asked to `keep` its gradients.
        losses: of the step.
    """

    def __init__(self, joint: JointGradient[GenRep], losses: MicroBatches) -> None:
        self._joint, self._losses = joint, losses
        self._weights = {name: p.detach().clone() for name, p in joint.model.named_parameters()}
        self._before = self._values()

    def columns(self) -> Row:
        """Of metrics.csv: of each loss the change that was predicted, the inner product of its gradient with what the weights did, and the one that came."""
        now = dict(self._joint.model.named_parameters())
        moved = {name: precise(now[name].detach()) - precise(before) for name, before in self._weights.items()}
        along = [torch.stack([(gradient * moved[name]).sum() for name, gradient in own.items()]).sum() for own in self._joint.kept]
        row: Row = {}
        for job, predicted, came in zip(self._joint.jobs, total(torch.stack(along)).tolist(), (self._values() - self._before).tolist(), strict=True):
            row |= {f"align/predicted_{job}": float(f"{predicted:.6g}"), f"align/actual_{job}": float(f"{came:.6g}")}
        return row

    def _values(self) -> Tensor:
        model = self._joint.model
        with self._losses.measuring():
            return total(torch.stack([torch.stack([precise(part(model)) for part in parts]).sum() for parts in self._losses.separate().values()]))

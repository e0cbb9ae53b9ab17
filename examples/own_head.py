"""A head of your own: how many objects are in the image?

python examples/own_head.py train tiny --model.tasks classification,detection,segmentation,counting --out runs/counting
"""

from __future__ import annotations

import sys

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from genrep.cli.main import main
from genrep.tasks import TASKS, Task
from genrep.tasks.base import Fuse, mean_where
from genrep.types import UNLABELLED, Batch, Features, FeatureSpec

MOST = 8
"""More objects than that count as that many."""


class Counting(Task[Tensor, Tensor]):
    """The fused map, summed over the image, to a log-probability of each number of objects from 0 to MOST.

    `forward`: logits [b MOST + 1]. `loss`: cross-entropy over the images whose objects are annotated. `results`: numbers [b].
    """

    def __init__(self, spec: FeatureSpec, num_classes: int, width: int = 64) -> None:
        super().__init__()
        self.fuse = Fuse(spec, width)
        self.count = nn.Linear(width, MOST + 1)

    def forward(self, features: Features) -> Float[Tensor, "b n"]:
        """Logits."""
        return self.count(self.fuse(features).mean((-2, -1)))

    def loss(self, output: Float[Tensor, "b n"], batch: Batch) -> dict[str, Tensor]:
        """The term must not be called like another head's."""
        number = (batch.object_labels != UNLABELLED).sum(1).clamp(max=MOST)
        return {"counting": mean_where(F.cross_entropy(output.float(), number, reduction="none"), batch.has_objects)}

    def results(self, output: Float[Tensor, "b n"]) -> Int[Tensor, " b"]:
        """The likeliest number."""
        return output.argmax(1)

    def tensors(self, output: Float[Tensor, "b n"]) -> dict[str, Tensor]:
        """What `genrep export` writes of it."""
        return {"num_objects": self.results(output)}


TASKS["counting"] = Counting

if __name__ == "__main__":
    sys.exit(main())

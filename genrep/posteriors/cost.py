"""What a posterior costs, in passes of the trunk."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from genrep.types import DenoiseCandidates


class Counted:
    """A denoiser of candidates that counts what it is asked.

    Args:
        denoise: what is asked.
    """

    def __init__(self, denoise: DenoiseCandidates) -> None:
        self._denoise = denoise
        self.noised = 0
        """Noised images; each goes once through the part of the trunk that does not know the condition."""
        self.evaluations = 0
        """Candidates of noised images; each goes through the other part."""

    def __call__(self, xt: Float[Tensor, "b c h w"], t: Float[Tensor, " b"], candidates: Float[Tensor, "b m k"]) -> Float[Tensor, "b m c h w"]:
        self.noised += len(xt)
        self.evaluations += candidates.shape[0] * candidates.shape[1]
        return self._denoise(xt, t, candidates)

    def passes(self, class_share: float) -> float:
        """F: whole passes of the trunk for one image, so far.

        Args:
            class_share: of a pass, spent where the condition is known (`Backbone.class_share`).

        >>> import torch
        >>> counted = Counted(lambda xt, t, candidates: xt[:, None].expand(-1, 10, -1, -1, -1))
        >>> _ = counted(torch.zeros(2, 1, 4, 4), torch.zeros(2), torch.zeros(2, 10, 10))
        >>> counted.passes(1 / 2)
        11.0
        """
        return self.noised * (1 - class_share) + self.evaluations * class_share

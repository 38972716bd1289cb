"""Which rows of a step a term compares and averages over: one worker's, or those of all workers.

Shape suffixes: B rows of this worker, G rows that the term is over.
"""

import torch
from torch import Tensor


class Scope:
    """The rows of this worker alone. A subclass that meets other workers replaces all three methods."""

    def gather(self, rows_B: Tensor) -> Tensor:
        """Return the rows [G, ...] that this worker's rows [B, ...] are compared with; gradients flow back to their
        owners."""
        return rows_B

    def places(self, rows: int, device: torch.device) -> Tensor:
        """Return where this worker's `rows` rows stand among the gathered ones, int64 [B]."""
        return torch.arange(rows, device=device)

    def mean(self, total: Tensor, count: Tensor) -> Tensor:
        """Return the mean of a term, 0 where nothing entered.

        With several workers it is this worker's share of the mean, times their number: the mean of what they return is
        the term, and so with its gradient.

        Args:
            total: 0-d, sum over what entered on this worker.
            count: 0-d integer, how much that was.
        """
        return total / count.clamp(min=1)


LOCAL = Scope()

"""A step's terms over the rows of all workers, so that a step is the same function on any number of them.

Every worker's rows are compared with the rows of all workers, in the order of the lanes; means are over all of them.
"""

import torch
from torch import Tensor

from hcmoco.objectives import Scope
from hcmoco.training import distributed


class AllWorkers(Scope):
    """The rows of all workers. Every worker has to ask for the same things in the same order.

    Args:
        lanes_here: lanes that this worker serves.
    """

    def __init__(self, lanes_here: int):
        self._lanes_here = lanes_here

    def gather(self, rows_B: Tensor) -> Tensor:
        if not rows_B.is_floating_point():
            return distributed.gather_lanes(rows_B, self._lanes_here)
        return distributed.gather_lanes_with_gradient(rows_B, self._lanes_here)

    def places(self, rows: int, device: torch.device) -> Tensor:
        everyone = torch.arange(rows * distributed.world(), device=device)
        return distributed.own_lanes(everyone, self._lanes_here)

    def mean(self, total: Tensor, count: Tensor) -> Tensor:
        return total * distributed.world() / distributed.sum_over_workers(count).clamp(min=1)

"""What the workers agree on in a step without waiting for it: a flag that rides on an exchange that happens anyway."""

import torch


class Agreement:
    """Whether any worker has raised its flag.

    On a CPU the answer is that of the last step. On a GPU it is that of the step before: its copy is there, where
    asking for the last one would wait for the whole step. Either way all workers have the same answer after the same
    step.
    """

    def __init__(self) -> None:
        self._copies: list[tuple[torch.Tensor, torch.cuda.Event | None]] = []

    def take(self, mean: torch.Tensor) -> None:
        """Take the mean of the workers' flags in one step, 0-d, each at least 0."""
        event = None
        copy = mean.detach().to("cpu", non_blocking=True)
        if mean.is_cuda:
            event = torch.cuda.Event()
            event.record()
        self._copies = [*self._copies, (copy, event)][-2:]

    def reached(self) -> bool:
        """Return whether a flag was raised."""
        if not self._copies:
            return False
        copy, event = self._copies[0] if self._copies[-1][1] is not None else self._copies[-1]
        if event is not None:
            event.synchronize()
        return bool(copy.item() > 0)

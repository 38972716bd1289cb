"""Measure which share of a cluster's CPUs a program holds while its parts run."""

import time


class BusyShare:
    """CPU-seconds that were held / CPU-seconds that the nodes offered, from the first call of `sample` to the last.

    Nodes may come and go: what they offer is read anew each time.
    """

    def __init__(self) -> None:
        self.held = self.offered = 0.0
        self._before: float | None = None

    def sample(self) -> None:
        """Count the time since the last call with what Ray says now."""
        import ray

        total, free = (ask().get("CPU", 0.0) for ask in (ray.cluster_resources, ray.available_resources))
        self.add(time.monotonic(), total - free, total)

    def add(self, now: float, held: float, offered: float) -> None:
        """Count the time since the last call.

        Args:
            now: seconds of a clock that does not jump.
            held: CPUs that are held since then.
            offered: CPUs of the nodes since then.
        """
        if self._before is not None:
            self.held += (now - self._before) * max(0.0, min(held, offered))
            self.offered += (now - self._before) * offered
        self._before = now

    @property
    def text(self) -> str:
        """A line for the user; "" if nothing was measured."""
        if not self.offered:
            return ""
        return f"busy: {100 * self.held / self.offered:.0f} % of the CPUs that the nodes offered"

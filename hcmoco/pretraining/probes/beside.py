"""Small probes of a copy of the model, in a thread of its own beside the next steps.

On a GPU a probe takes a stream of its own, so that nobody waits for it: neither the steps of this worker, nor the other
workers in their next exchange. Its results are logged once they are there, at the step that was probed.
"""

import copy
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext

import torch

from hcmoco.models.multimodal import MultiModalEncoders
from hcmoco.pretraining.probes.run import ProbeConfig, ProbeViews, probe


class ProbesBeside:
    """Probes one copy at a time.

    Args:
        views: held-out people.
        config: of the probes.
        log: called in the training's thread with a step and what its probe found.
    """

    def __init__(self, views: ProbeViews, config: ProbeConfig, log: Callable[[int, dict[str, float]], None]):
        self.views, self.config, self.log = views, config, log
        self._pool = ThreadPoolExecutor(1, "probe")
        self._running: tuple[int, Future[dict[str, float]]] | None = None

    def begin(self, model: MultiModalEncoders, step: int) -> None:
        """Begin a probe of the model as it is now. Waits for the one before it, if that still runs."""
        self.finish()
        copied = copy.deepcopy(model)
        device = next(copied.parameters()).device
        ready = torch.cuda.current_stream(device).record_event() if device.type == "cuda" else None
        self._running = step, self._pool.submit(self._probe, copied, device, ready)

    def log_if_done(self) -> None:
        """Log the probe that was begun, if it is done."""
        if self._running is not None and self._running[1].done():
            self.finish()

    def finish(self) -> None:
        """Wait for the probe that was begun, and log it. A train state comes after it: no probe of an earlier step is
        lost with the process."""
        if self._running is not None:
            step, future = self._running
            self._running = None
            self.log(step, future.result())

    def close(self) -> None:
        """Let go of a probe that nobody waits for any more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _probe(
        self, model: MultiModalEncoders, device: torch.device, ready: torch.cuda.Event | None
    ) -> dict[str, float]:
        stream = torch.cuda.Stream(device) if ready is not None else None
        with torch.cuda.stream(stream) if stream is not None else nullcontext():
            if stream is not None and ready is not None:
                stream.wait_event(ready)
            return probe(model, self.views, self.config).flat()

"""A rest for Ray Data's scheduler between two rounds."""

import time

from ray.data._internal.execution.execution_callback import ExecutionCallback

REST_S = 0.02


class Rest(ExecutionCallback):
    """Sleeps at each round of the executor.

    While finished items wait for workers that are slower than the reading, which is how it should be, the executor's loop never blocks:
    it took 37 % of a core (sampled with py-spy) from the training on two.
    """

    def on_execution_step(self, executor) -> None:
        time.sleep(REST_S)

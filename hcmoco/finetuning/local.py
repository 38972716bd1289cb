"""A task's loops without a cluster: one process, shards read by its own threads, numbers kept in memory."""

from collections.abc import Callable, Iterable

from hcmoco.finetuning.loader import EvalLoader, TrainLoader
from hcmoco.tasks.base import TaskBatch
from hcmoco.training.local import LocalHost


class LocalTaskHost(LocalHost[TaskBatch]):
    """See `tasks.loop.EvalContext`, and `LocalHost` for the other arguments.

    Args:
        feed: the labelled rows.
        validation: the rows that choose the model, if there are any.
    """

    def __init__(
        self,
        feed: TrainLoader,
        validation: EvalLoader | None = None,
        states: str | None = None,
        *,
        keep: int = 2,
        device: str = "cpu",
        threads: int = 2,
        show: Callable[[str], None] = lambda line: None,
    ):
        super().__init__(feed, states, keep=keep, device=device, threads=threads, show=show)
        self.validation = validation

    def evaluation(self) -> Iterable[TaskBatch]:
        assert self.validation is not None
        return self.validation.batches(self.validation.own_items(0), threads=self.threads, ahead=self.threads)

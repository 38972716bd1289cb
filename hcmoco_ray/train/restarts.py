"""Start the workers of a training again when some are lost, say what was lost, and wait where there is no room.

Ray Train has a loop of its own for this. It says nothing while it waits, it waits without end, and its workers may take
the CPUs that the data needs.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from hcmoco.errors import UserError
from hcmoco_ray.cluster import room
from hcmoco_ray.ingest.dataset import Readers
from hcmoco_ray.tracking.progress import Status, say
from hcmoco_ray.train.launch import Job, Start, worker_resources
from hcmoco_ray.train.losses import Loss, explain, wait_until_settled


def keep_training(job: Job, readers: Readers, run_workers: Callable[[Job, Start], None]) -> None:
    """Run groups of workers until one has come to the end of the training.

    Args:
        job: what every worker does.
        readers: what the tasks that read request; the same for every group.
        run_workers: runs one group.

    Raises:
        UserError: of a worker; or workers were lost more often in a row, without a new train state between, than
            max_restarts allows; or there was no room in time.
    """
    train, resources = job.config.train, worker_resources(job.config)
    assert resources is not None
    loss: Loss | None = None
    restarts, newest = 0, -1  # since the last new train state
    while True:
        start = job.decide_start(readers)
        if loss:
            restarts = 1 if start.step > newest else restarts + 1
            if restarts > job.config.max_restarts:
                raise _too_often(job.config.max_restarts, loss)
            say(f"{loss.text}; {_onward(start)}")
            wait_until_settled(loss)
        newest = start.step
        room.wait_for_room(resources, train.workers, readers, train.wait_minutes)
        job.status.clear_facts()
        try:
            with _nodes_said(job.status, train.workers):
                run_workers(job, start)
            return
        except Exception as error:
            loss = explain(error, job.status)


def _onward(start: Start) -> str:
    if start.attempt is None:
        return "starting again"
    return f"going on from step {start.step}" if start.step else "starting again from the beginning"


def _too_often(allowed: int, loss: Loss) -> Exception:
    if not loss.outside:
        return loss.error  # an error of the program, whose traceback is needed
    return UserError(
        f"training workers were lost more often than max_restarts = {allowed} allows ({loss.text}); "
        "the same command resumes from the newest train state; "
        "if memory ran out, lower train.batch_size_per_lane or train.workers"
    )


@contextmanager
def _nodes_said(status: Status, workers: int) -> Iterator[None]:
    """Say on which nodes the workers are, once all of them are there and if these are several nodes."""
    stop = threading.Event()
    thread = threading.Thread(target=_say_nodes, args=(status, workers, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _say_nodes(status: Status, workers: int, stop: threading.Event) -> None:
    import ray

    while not stop.wait(0.5):
        nodes: dict[str, list[int]] = {}
        with suppress(ray.exceptions.RayError):
            for rank, address in enumerate(status.nodes(workers)):
                nodes.setdefault(address, []).append(rank)
        if sum(map(len, nodes.values())) < workers:
            continue
        if len(room.alive_nodes()) > 1:
            say("workers: " + "; ".join(f"{_ranks(ranks)} on {address}" for address, ranks in nodes.items()))
        return


def _ranks(ranks: list[int]) -> str:
    return f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {', '.join(map(str, ranks))}"

"""Start the workers of a training again when some are lost, say what was lost, and wait where there is no room.

Ray Train has a loop of its own for this. It says nothing while it waits, it waits without end, and its workers may take
the CPUs that the data needs.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from hcmoco.errors import UserError
from hcmoco_ray.cluster import room
from hcmoco_ray.ingest.dataset import Readers
from hcmoco_ray.tracking.progress import say
from hcmoco_ray.train.launch import Job, Start, worker_resources
from hcmoco_ray.train.losses import Loss, explain, wait_until_settled
from hcmoco_ray.train.watch import watched


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
        start = job.decide_start(train.max_workers, readers)
        if loss:
            restarts = (0 if start.step > newest else restarts) + (not loss.announced)
            if restarts > job.config.max_restarts:
                raise _too_often(job.config.max_restarts, loss)
            say(f"{loss.text(start.step)}; {_onward(start)}")
            job.status.put("starting the workers again")
            wait_until_settled(loss)
        newest = start.step
        workers = room.wait_for_room(resources, train.allowed_workers, readers, train.wait_minutes)
        if workers < train.max_workers:
            say(f"training with {workers} worker{'s' if workers > 1 else ''}, up to {train.max_workers} are allowed")
        start = replace(start, workers=workers)
        grow = partial(room.larger_count, resources, train.allowed_workers, workers)
        job.status.clear_facts()
        try:
            with watched(job.status, workers, train.wait_minutes, grow):
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
        f"training workers were lost more often than max_restarts = {allowed} allows ({loss.text()}); "
        "the same command resumes from the newest train state; "
        "if memory ran out, lower train.batch_size_per_lane or train.workers"
    )

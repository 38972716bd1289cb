"""The folder of a run: one process at a time, one config, one tracking run that a restart continues.

<out>/config.yaml   the resolved config
<out>/run.json      id of the tracking run
<out>/states/       train states
"""

import json
from collections.abc import Iterator, Sized
from contextlib import contextmanager
from typing import Any, Protocol

import yaml

from hcmoco.data.shards.manifest import MANIFEST
from hcmoco.errors import UserError
from hcmoco.storage import Folder, first_line, is_local
from hcmoco.training.checkpoint import States, TrainState, check_identity
from hcmoco.training.config import TrainConfig
from hcmoco.training.precision import with_precision
from hcmoco_ray import config as run_config
from hcmoco_ray.cluster import interrupts
from hcmoco_ray.tracking.client import Tracker

CONFIG, RUN = "config.yaml", "run.json"


class RunConfig(Protocol):
    """What of a run's config the training under Ray reads."""

    @property
    def name(self) -> str: ...
    @property
    def out(self) -> str: ...
    @property
    def restarts(self) -> int: ...
    @property
    def train(self) -> TrainConfig: ...


def say(text: str) -> None:
    """Prints at once: what follows may take long, and stderr is not held back either."""
    print(text, flush=True)


def states_of(config: Any) -> States:
    """The run's train states."""
    return States(f"{config.out}/states", config.train.keep)


@contextmanager
def lock_run_dir(out: str, key: str = "out=...") -> Iterator[None]:
    """UserError while another process trains into the same local folder; both would write the same states.

    Args:
        key: how the user chooses another folder.
    """
    if not is_local(out):
        yield
        return
    import filelock

    folder = Folder(out).local_path
    lock = filelock.FileLock(folder / ".lock")  # the system lets go of it when its process ends, however it ends
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise UserError(
            f"{out}: another run is under way in this folder; wait for its end or choose another with {key}"
        ) from None
    except OSError as error:
        raise UserError(f"{out} cannot be written to: {first_line(error)}; choose another folder with {key}") from None
    try:
        yield
    finally:
        lock.release()


def load_saved_config(config: Any) -> tuple[Any, Any]:
    """The config of this run, and the one that the folder holds, None if there is none.

    Args:
        config: of this run, a config with `out`, `train` and `identity()`.
    Returns:
        The first is `config`, and where its precision is auto and the folder's run is the same otherwise, with the precision of that one.
    Raises:
        UserError: the folder holds something else, or train states of another config.
    """
    folder = Folder(config.out)
    if folder.exists(MANIFEST):
        raise UserError(
            f"{config.out} is a prepared data set; a run needs a folder of its own: choose another with out=..."
        )
    if not folder.exists(CONFIG):
        return config, None
    try:
        there = type(config).model_validate(yaml.safe_load(folder.read(CONFIG)))
    except (ValueError, yaml.YAMLError):
        raise UserError(
            f"{config.out}/{CONFIG} is not a config of this program and version; choose another folder with out=..."
        ) from None
    begun = with_precision(config, there.train.precision) if config.train.precision == "auto" else config
    if states_of(config).complete():
        check_identity(there.identity(), begun.identity(), config.out)
    return (begun if begun.identity() == there.identity() else config), there


def save_config(config: Any, tracker: Tracker) -> None:
    """Writes what a restart compares with."""
    Folder(config.out).write(CONFIG, run_config.as_yaml(config).encode())
    Folder(config.out).write(RUN, json.dumps({"run_id": tracker.run_id}).encode())


def saved_run_id(config: Any, saved: TrainState | None, there: Any) -> str | None:
    """The tracking run to go on with: that of the state, or of a start with the same config that ended before its first state."""
    if saved:
        return saved.tracking_run
    folder = Folder(config.out)
    same = there is not None and there.identity() == config.identity() and there.tracking == config.tracking
    # What a fine-tuning starts from is known by its weights, which a start that ended early has not noted.
    same = same and getattr(there, "init", None) == getattr(config, "init", None)
    return json.loads(folder.read(RUN))["run_id"] if same and folder.exists(RUN) else None


@contextmanager
def recorded(tracker: Tracker, failures: Sized = ()) -> Iterator[None]:
    """Closes the tracking run with how the block ended: KILLED by a signal, FAILED by an error or with `failures` that the block has
    noted, else FINISHED."""
    status = "FAILED"
    with interrupts.at_stop(lambda: tracker.finish("KILLED")):
        try:
            yield
            status = "FAILED" if failures else "FINISHED"
        except BaseException as error:
            status = "KILLED" if isinstance(error, KeyboardInterrupt) or interrupts.noted() else "FAILED"
            raise
        finally:
            tracker.finish(status)

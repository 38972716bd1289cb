"""The output directory of a run: one process at a time, one config, one tracking run that a restart continues.

<out>/config.yaml   the resolved config
<out>/run.json      id of the tracking run
<out>/states/       train states
"""

import json
import uuid
from collections.abc import Iterator, Sized
from contextlib import contextmanager
from typing import Protocol

import yaml

from hcmoco import yaml_core
from hcmoco.config import upgrade
from hcmoco.data.shards.manifest import MANIFEST
from hcmoco.errors import StorageError, UserError, one_line
from hcmoco.masking import masked
from hcmoco.storage import Folder, is_local, join
from hcmoco.training.checkpoint import States, TrainState, check_identity
from hcmoco.training.config import TrainConfig
from hcmoco.training.precision import with_precision
from hcmoco_ray import config as run_config
from hcmoco_ray.cluster import interrupts
from hcmoco_ray.config import FinetuneRecipe, PretrainRecipe, RecipeT
from hcmoco_ray.ingest.dataset import Readers
from hcmoco_ray.tracking.client import Tracker, TrackingWriter
from hcmoco_ray.train.launch import Start

CONFIG, RUN = "config.yaml", "run.json"
OUT = "hcmoco.out"
"""Tag of a tracking run: the output directory that it was started for."""


class RunConfig(Protocol):
    """Protocol of a config: the keys that any training on Ray reads."""

    @property
    def name(self) -> str: ...
    @property
    def output_dir(self) -> str: ...
    @property
    def max_restarts(self) -> int: ...
    @property
    def spare_workers(self) -> bool | None: ...
    @property
    def train(self) -> TrainConfig: ...


def log(text: str) -> None:
    """Print a text and flush, since what follows may take long."""
    print(masked(text), flush=True)


def states_of(config: RunConfig, attempt: int | None = None) -> States:
    """Return the run's train states.

    Args:
        attempt: number of the start that writes them; None for a reader.
    """
    return States(join(config.output_dir, "states"), config.train.num_checkpoints, attempt)


def decide_start(config: RunConfig, workers: int, readers: Readers) -> Start:
    """Decide that a new start of the workers goes on from the newest state. Writers of earlier starts are refused."""
    states = states_of(config)
    attempt = states.begin_attempt()
    return Start(workers, states.newest_step, attempt, readers)


@contextmanager
def lock_run_dir(out: str, key: str = "output_dir=...") -> Iterator[None]:
    """Hold the lock of a local folder while the block runs: two processes would write the same states.

    Args:
        out: folder or URI of the run; a URI of another machine is not locked.
        key: how the user chooses another folder.

    Raises:
        UserError: another process trains into the folder, or it cannot be written to.
    """
    if not is_local(out):
        yield
        return
    import filelock

    folder = Folder(out).local_path
    lock = filelock.FileLock(folder / ".lock")  # the system releases it when its process ends, however it ends
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise UserError(
            f"{out}: another run is active in this folder; wait for its end or choose another with {key}"
        ) from None
    except OSError as error:
        raise UserError(f"{out} cannot be written to: {one_line(error)}; choose another folder with {key}") from None
    try:
        yield
    finally:
        lock.release()


def load_saved_config(config: RecipeT) -> tuple[RecipeT, RecipeT | None]:
    """Load the config that the run's folder holds.

    Args:
        config: of this run.

    Returns:
        `config`, with the saved precision if its own is auto, and the saved fusions if its own are as-trained, and the
        runs are the same otherwise; and the saved config,
        None if there is none.

    Raises:
        UserError: the folder holds something else, or train states of another config.
    """
    folder = Folder(config.output_dir)
    if folder.exists(MANIFEST):
        raise UserError(
            f"{config.output_dir} is a prepared data set; a run needs its own folder: choose another with "
            "output_dir=..."
        )
    if not folder.exists(CONFIG):
        return config, None
    try:
        saved = type(config).model_validate(upgrade(type(config), yaml_core.load(folder.read(CONFIG).decode())))
    except (ValueError, yaml.YAMLError):
        raise UserError(
            f"{join(config.output_dir, CONFIG)} is not a config of this program and version; "
            "choose another folder with output_dir=..."
        ) from None
    resumed = with_precision(config, saved.train.precision) if config.train.precision == "auto" else config
    begun = states_of(config).complete()
    # Weights that differ are refused once it has begun, and that line names them; before, they decide the fusion.
    if begun or all(getattr(saved, name, None) == getattr(config, name, None) for name in ("init", "imagenet_weights")):
        resumed = resumed.with_fusions_of(saved)
    if begun:
        check_identity(saved.identity(), resumed.identity(), config.output_dir)
    return (resumed if resumed.identity() == saved.identity() else config), saved


def save_config(config: PretrainRecipe | FinetuneRecipe, tracker: Tracker) -> None:
    """Write the config and the id of the tracking run, which a restart compares with its own."""
    Folder(config.output_dir).write(CONFIG, run_config.as_yaml(config).encode())
    Folder(config.output_dir).write(RUN, json.dumps({"run_id": tracker.run_id}).encode())


def saved_run_id(config: RecipeT, state: TrainState | None, saved: RecipeT | None) -> str | None:
    """Return the id of the tracking run to continue.

    Args:
        state: newest train state, which names the tracking run that it was saved in.
        saved: config in the folder: a run with the same config may have ended before its first state.

    Returns:
        The id; None for a new run.
    """
    folder = Folder(config.output_dir)
    if state:
        return _noted_run_id(folder) or state.tracking_run
    same = (
        saved is not None
        and saved.identity() == config.identity()
        and saved.tracking.identity() == config.tracking.identity()
    )
    # A fine-tuning's identity has the digest of its first weights, which a run that ended early has not recorded.
    same = same and getattr(saved, "init", None) == getattr(config, "init", None)
    return _noted_run_id(folder) if same else None


def _noted_run_id(folder: Folder) -> str | None:
    return json.loads(folder.read(RUN))["run_id"] if folder.exists(RUN) else None


def own_run_id(writer: TrackingWriter, config: PretrainRecipe | FinetuneRecipe, run_id: str | None) -> str | None:
    """Return the tracking run to continue where the output directory may be a copy of another run's, or have moved.

    A store that lies in the directory came along. In any other, two directories would log into one run.

    Args:
        writer: of the store.
        config: of the run.
        run_id: of the tracking run that the directory names, None if it names none.

    Returns:
        `run_id`; None, for a new run, where the directory that the run was started for still continues it.
    """
    origin = writer.tag(run_id, OUT) if run_id and config.tracking.uri is not None else None
    if origin is None or origin == config.output_dir or _is_same_folder(origin, config.output_dir):
        return run_id
    if _continues(origin, run_id):
        log(f"{config.output_dir} is a copy of {origin}, which has the tracking run {run_id}: a new one begins here")
        return None
    log(f"the tracking run {run_id} was begun for {origin}, where it is not found any more: it continues here")
    return run_id


def _continues(folder: str, run_id: str | None) -> bool:
    """Return whether a folder of this machine or a URI holds a run that continues a tracking run."""
    try:
        return _noted_run_id(Folder(folder)) == run_id
    except (OSError, ValueError, LookupError, TypeError, UserError, StorageError):
        return False


def _is_same_folder(one: str, other: str) -> bool:
    """Return whether two paths or URIs are the same place, such as a mount under two names: by a file in it."""
    name = f".hcmoco-check-{uuid.uuid4().hex}"  # hidden where folders are listed, see hcmoco.storage
    try:
        Folder(other).write(name, b"")
        try:
            return Folder(one).exists(name)
        finally:
            Folder(other).delete(name)
    except (OSError, UserError, StorageError):
        return False


@contextmanager
def tracked_run(tracker: Tracker, failures: Sized = ()) -> Iterator[None]:
    """Close the tracking run after the block: as KILLED after a signal, FAILED after an error, else FINISHED.

    Args:
        failures: filled by the block; the run is FAILED if there are any.
    """
    status = "FAILED"
    with interrupts.at_stop(lambda: tracker.finish("KILLED")):
        try:
            yield
            status = "FAILED" if failures else "FINISHED"
        except BaseException as error:
            status = (
                "KILLED"
                if isinstance(error, KeyboardInterrupt | interrupts.SavedAndStopped) or interrupts.noted()
                else "FAILED"
            )
            raise
        finally:
            tracker.finish(status)

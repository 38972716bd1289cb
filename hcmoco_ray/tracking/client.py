"""Log to MLflow through one writer.

    writer = open_writer(config.tracking, out, actor=True)  # in the driver: a small Ray actor on the driver's node
    tracker = start_run(writer, params=config.model_dump(mode="json"), run_id=state.run_id)
    tracker.metrics(step, {"loss": 1.2})                    # in rank 0 or a trial: does not wait
    tracker.flush()                                         # before a train state is saved: writes its metrics
    tracker.finish()                                        # in the driver

A program of one process passes `actor=False`, and the same object writes in that process. A run that is continued keeps
its id. A step that a metric already has is dropped, so the steps repeated after a kill leave no second point.

Without `uri` the store is `<out>/mlflow.db` (SQLite) with its artifacts beside it in `<out>/mlartifacts`.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, overload

from hcmoco.errors import UserError
from hcmoco_ray.tracking.config import TrackingConfig, private_access
from hcmoco_ray.tracking.mlflow_writer import Writer
from hcmoco_ray.tracking.progress import say
from hcmoco_ray.tracking.records import DataSet, LoggedModel

_PARENT, _KEY = "mlflow.parentRunId", "hcmoco.key"


class TrackingWriter(Protocol):
    """Protocol of a writer of a store's runs: `Writer` writes in this process, `ActorWriter` through a Ray actor."""

    def start(self, run_id: str | None, name: str | None, params: dict[str, Any], tags: dict[str, str]) -> str:
        """Start a run, or continue `run_id`; return its id."""

    def find(self, tag: str, value: str, running: bool) -> str | None:
        """Return the id of the oldest run with this tag, and, with `running`, without an end; None if there is none."""

    def tag(self, run_id: str, name: str) -> str | None:
        """Return a tag of a run; None if the store does not know the run, or the run has no such tag."""

    def metrics(self, run_id: str, step: int, values: dict[str, float], time_ms: int) -> None:
        """Log scalars of one step. May return before they are written."""

    def system_metrics(self, run_id: str, values: dict[str, float], time_ms: int) -> None:
        """Log scalars of a node at a time; their step is the seconds since the run's start. May return before that."""

    def artifact(self, run_id: str, name: str, content: bytes) -> None:
        """Store a file under the relative path `name`. May return before it is written."""

    def inputs(self, run_id: str, data_sets: list[DataSet]) -> None:
        """Log data sets as inputs of a run. May return before they are written."""

    def model(self, run_id: str, model: LoggedModel) -> None:
        """Log the weights of a run as a model. May return before it is written."""

    def check_registry(self, name: str) -> None:
        """Raise UserError where the store has no model registry."""

    def register(self, run_id: str, model: LoggedModel, name: str, alias: str) -> str:
        """Log the weights of a run as a model and register it under an alias, see `Writer.register`."""

    def flush(self) -> None:
        """Return when everything logged so far has been written, or has been tried."""

    def finish(self, run_id: str, status: str) -> list[str]:
        """Write what is left and close the run as FINISHED, FAILED or KILLED; return lines for the user."""


class ActorWriter:
    """A `Writer` in a Ray actor, which can be sent to workers and trials.

    `metrics`, `system_metrics`, `artifact`, `inputs` and `model` do not wait for the actor.
    """

    def __init__(self, actor: Any):
        self._actor = actor

    def connect(self, uri: str, environment: dict[str, str]) -> None:
        """Open the store, see `Writer.connect`."""
        _call(self._actor.connect, uri, environment)

    def start(self, run_id: str | None, name: str | None, params: dict[str, Any], tags: dict[str, str]) -> str:
        return _call(self._actor.start, run_id, name, params, tags)

    def find(self, tag: str, value: str, running: bool) -> str | None:
        return _call(self._actor.find, tag, value, running)

    def tag(self, run_id: str, name: str) -> str | None:
        return _call(self._actor.tag, run_id, name)

    def metrics(self, run_id: str, step: int, values: dict[str, float], time_ms: int) -> None:
        self._actor.metrics.remote(run_id, step, values, time_ms)

    def system_metrics(self, run_id: str, values: dict[str, float], time_ms: int) -> None:
        self._actor.system_metrics.remote(run_id, values, time_ms)

    def artifact(self, run_id: str, name: str, content: bytes) -> None:
        self._actor.artifact.remote(run_id, name, content)

    def inputs(self, run_id: str, data_sets: list[DataSet]) -> None:
        self._actor.inputs.remote(run_id, data_sets)

    def model(self, run_id: str, model: LoggedModel) -> None:
        self._actor.model.remote(run_id, model)

    def check_registry(self, name: str) -> None:
        _call(self._actor.check_registry, name)

    def register(self, run_id: str, model: LoggedModel, name: str, alias: str) -> str:
        return _call(self._actor.register, run_id, model, name, alias)

    def flush(self) -> None:
        _call(self._actor.flush)

    def finish(self, run_id: str, status: str) -> list[str]:
        return _call(self._actor.finish, run_id, status)


def _call(method: Any, *arguments: Any) -> Any:
    """Call a method of an actor and return its answer; a UserError is raised as itself."""
    import ray

    try:
        return ray.get(method.remote(*arguments))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from None
        raise


@overload
def open_writer(config: TrackingConfig, out: str | Path, *, actor: Literal[False]) -> Writer: ...
@overload
def open_writer(config: TrackingConfig, out: str | Path, *, actor: Literal[True]) -> ActorWriter: ...
def open_writer(config: TrackingConfig, out: str | Path, *, actor: bool) -> TrackingWriter:
    """Open the store and the experiment, creating what is missing.

    Args:
        config: names the store and the experiment.
        out: output directory of the program, which holds the store if the config names none.
        actor: write in a Ray actor on this node that takes no CPU, else in this process.

    Raises:
        UserError: a server does not answer, or a store cannot be opened.
    """
    uri, environment = private_access(config, out)
    if not actor:
        writer = Writer(None, config.experiment)
        writer.connect(uri, environment)
        return writer
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    # MLflow's settings are sent as an argument: a runtime_env would show a token to every user of the dashboard.
    handle = ray.remote(Writer).options(num_cpus=0, scheduling_strategy=here).remote(None, config.experiment)
    remote = ActorWriter(handle)
    remote.connect(uri, environment)
    return remote


def start_run(
    writer: TrackingWriter,
    *,
    run_id: str | None = None,
    name: str | None = None,
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
    parent: str | None = None,
    key: str | None = None,
) -> "Tracker":
    """Start a run, or continue one.

    Args:
        writer: of the store.
        run_id: the run to continue. It keeps its first parameters; one that differs now becomes the tag
            `resumed.<key>`.
        name: of the run; None: MLflow invents one.
        params: the resolved config, nested or flat: dotted keys become MLflow parameters, the whole tree the artifact
            `config.yaml`.
        tags: of the run.
        parent: id of the run that this one is shown nested in.
        key: by which `find_run` finds it.

    Returns:
        The object that rank 0 or a trial logs with.
    """
    marks = {**(tags or {}), **({_PARENT: parent} if parent else {}), **({_KEY: key} if key else {})}
    return Tracker(writer, writer.start(run_id, name, dict(params or {}), marks))


def find_run(writer: TrackingWriter, key: str, *, running: bool = False) -> str | None:
    """Find the run that was started with `key`.

    For a program that may be killed between starting a run and saving its id.

    Args:
        writer: of the store.
        key: as given to `start_run`.
        running: only a run that was not finished.

    Returns:
        Its id; None if no such run exists.
    """
    return writer.find(_KEY, key, running)


@dataclass(frozen=True)
class Tracker:
    """One run of one writer. Where the writer is an actor, a Tracker can be sent to workers and trials."""

    writer: TrackingWriter
    run_id: str

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Log scalars of one step, in batches. A key that already has this step or a later one is not changed."""
        plain = {key: float(value) for key, value in values.items()}
        self.writer.metrics(self.run_id, int(step), plain, int(time.time() * 1000))

    def system_metrics(self, node: str, values: Mapping[str, float]) -> None:
        """Log metrics of a node as `system/<node>/<name>`. Their step is the seconds since the run's first start.

        A run that has ended takes none, and says nothing.
        """
        named = {f"system/{node}/{name}": float(value) for name, value in values.items()}
        self.writer.system_metrics(self.run_id, named, int(time.time() * 1000))

    def picture(self, name: str, png: bytes) -> None:
        """Store an encoded picture as the artifact `name` (a relative path such as `pictures/batch.png`)."""
        self.writer.artifact(self.run_id, name, bytes(png))

    def text(self, name: str, text: str) -> None:
        """Store a text as the artifact `name`."""
        self.writer.artifact(self.run_id, name, text.encode())

    def inputs(self, data_sets: Iterable[DataSet]) -> None:
        """Log data sets as inputs of the run. One that it has already is not logged again."""
        self.writer.inputs(self.run_id, list(data_sets))

    def model(self, model: LoggedModel) -> None:
        """Log the weights of the run as a model. One that it has already, of the same files, is not logged again."""
        self.writer.model(self.run_id, model)

    def flush(self) -> None:
        """Return when everything logged so far has been written, or has been tried."""
        self.writer.flush()

    def finish(self, status: str = "FINISHED") -> None:
        """Write what is left and close the run as FINISHED, FAILED or KILLED.

        Raises:
            UserError: the store did not take everything.
        """
        for line in self.writer.finish(self.run_id, status):
            say(line)

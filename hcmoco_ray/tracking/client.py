"""MLflow with one writer.

    writer = open_writer(config.tracking, out, actor=True)          # in the driver: a small Ray actor on the driver's node
    tracker = start_run(writer, params=config.model_dump(mode="json"), run_id=state.run_id)
    tracker.metrics(step, {"loss": 1.2})                            # in rank 0 or a trial: does not wait
    tracker.flush()                                                 # before a train state is saved: what it has seen is written
    tracker.finish()                                                # in the driver

A program of one process passes `actor=False` and the same object writes in that process. A run that is continued keeps its id, and a
step that a metric already has is dropped, so the steps repeated after a kill leave no second point.

Without `uri` the store is `<out>/mlflow.db` (SQLite) with its artifacts beside it in `<out>/mlartifacts`.
"""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import field_validator

from hcmoco.config import Config
from hcmoco.errors import UserError
from hcmoco_ray.tracking.mlflow_writer import Writer

_PARENT, _KEY = "mlflow.parentRunId", "hcmoco.key"
_SCHEMES = ("http://", "https://", "sqlite:///", "postgresql://", "mysql://")


class TrackingConfig(Config):
    """Where a run is recorded."""

    uri: str | None = (
        None  # None: SQLite in the output folder; else http(s)://..., sqlite:///..., postgresql://..., mysql://...
    )
    experiment: str = "hcmoco"
    run_name: str | None = None  # None: MLflow invents one

    @field_validator("uri")
    @classmethod
    def _known_scheme(cls, uri: str | None) -> str | None:
        if uri is not None and not uri.startswith(_SCHEMES):
            raise ValueError(f"must be null (SQLite in the output folder) or start with one of {', '.join(_SCHEMES)}")
        return uri

    @field_validator("experiment")
    @classmethod
    def _not_empty(cls, experiment: str) -> str:
        if not experiment.strip() or len(experiment) > 500:
            raise ValueError("must have 1 to 500 characters")
        return experiment


def store_uri(config: TrackingConfig, out: str | Path) -> str:
    """The tracking URI, absolute, so that it means the same in every process. UserError where the default has no local folder to be in."""
    if config.uri is not None:
        path = config.uri.removeprefix("sqlite:///")
        return config.uri if path == config.uri else f"sqlite:///{Path(path).absolute()}"
    if "://" in str(out) and not str(out).startswith("file://"):
        raise UserError(
            f"tracking.uri is not set and the output folder {out} is not local, so SQLite cannot live there; "
            "give a tracking server (tracking.uri=http://host:5000) or a local file (tracking.uri=sqlite:///path/mlflow.db)"
        )
    return f"sqlite:///{Path(str(out).removeprefix('file://')).absolute() / 'mlflow.db'}"


def open_writer(config: TrackingConfig, out: str | Path, *, actor: bool) -> Any:
    """A `Writer` in this process, or, with `actor`, the handle of one in a Ray actor on this node that takes no CPU.

    The store and the experiment are there when it returns. Raises UserError for a server that does not answer or a store that cannot be
    opened.
    """
    uri = store_uri(config, out)
    if not actor:
        return Writer(uri, config.experiment)
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    # MLflow's settings travel as an argument: a runtime_env would show a token to whoever may see the dashboard.
    environment = {key: value for key, value in os.environ.items() if key.startswith("MLFLOW_")}
    writer = ray.remote(Writer).options(num_cpus=0, scheduling_strategy=here).remote(None, config.experiment)
    _ask(writer, "connect", uri, environment)
    return writer


def start_run(
    writer: Any,
    *,
    run_id: str | None = None,
    name: str | None = None,
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
    parent: str | None = None,
    key: str | None = None,
) -> "Tracker":
    """Begins a run, or continues the run `run_id`, and returns what rank 0 or a trial logs with.

    `params` is the resolved config, nested or flat: dotted keys become MLflow parameters and the whole tree the artifact `config.yaml`.
    A continued run keeps its first parameters; one that differs now is kept as the tag `resumed.<key>`.
    With `parent`, the id of another run, it is shown nested in that one. `key` is what `find_run` finds it by.
    """
    marks = {**(tags or {}), **({_PARENT: parent} if parent else {}), **({_KEY: key} if key else {})}
    return Tracker(writer, _ask(writer, "start", run_id, name, dict(params or {}), marks))


def find_run(writer: Any, key: str, *, running: bool = False) -> str | None:
    """Id of the run that was started with `key`, or None: for a program that may be killed between starting a run and noting its id.
    With `running`, only of one that was not finished."""
    return _ask(writer, "find", _KEY, key, running)


@dataclass(frozen=True)
class Tracker:
    """One run of one writer. Where the writer is an actor, a Tracker can be sent to workers and trials."""

    writer: Any
    run_id: str

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Scalars of one step. Batched; a key that already has this step or a later one is left as it is."""
        _tell(
            self.writer,
            "metrics",
            self.run_id,
            int(step),
            {key: float(value) for key, value in values.items()},
            int(time.time() * 1000),
        )

    def picture(self, name: str, png: bytes) -> None:
        """An encoded picture as the artifact `name` (a relative path such as `pictures/batch.png`)."""
        _tell(self.writer, "artifact", self.run_id, name, bytes(png))

    def text(self, name: str, text: str) -> None:
        """A text as the artifact `name`."""
        _tell(self.writer, "artifact", self.run_id, name, text.encode())

    def flush(self) -> None:
        """Returns when everything logged so far has been written, or has been tried."""
        _ask(self.writer, "flush")

    def finish(self, status: str = "FINISHED") -> None:
        """Writes what is left and closes the run with FINISHED, FAILED or KILLED. UserError if the store did not take everything."""
        _ask(self.writer, "finish", self.run_id, status)


def _tell(writer: Any, method: str, *arguments: Any) -> None:
    """Calls the writer; an actor is not waited for."""
    if isinstance(writer, Writer):
        getattr(writer, method)(*arguments)
    else:
        getattr(writer, method).remote(*arguments)


def _ask(writer: Any, method: str, *arguments: Any) -> Any:
    """Calls the writer and returns its answer; a UserError comes back as itself."""
    if isinstance(writer, Writer):
        return getattr(writer, method)(*arguments)
    import ray

    try:
        return ray.get(getattr(writer, method).remote(*arguments))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from None
        raise

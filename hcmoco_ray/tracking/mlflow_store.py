"""Open an MLflow store quietly, creating it where it is missing."""

import logging
import os
import sqlite3
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from hcmoco.errors import UserError
from hcmoco_ray.tracking import mlflow_errors

_PROBE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "5", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
# Where it does not answer in that time it may only be busy, or be starting.
_SECOND_PROBE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "30", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
_PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "30", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3"}
_QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "MLFLOW_LOGGING_LEVEL": "ERROR"}

_ARTIFACTS = "mlartifacts"
_PLACES_OF_MODELS = (
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
# Tag of an experiment whose artifacts lie beside the SQLite file, wherever that is.
_BESIDE = {"hcmoco.artifacts": "beside the store"}


def open_store(uri: str, experiment: str) -> tuple[Any, str]:
    """Open a store, creating it where it is missing.

    Returns:
        The MLflow client, and the id of the experiment.

    Raises:
        UserError: the store does not answer, or cannot be opened.
    """
    for key, value in {**_QUIET, **_PATIENCE}.items():
        os.environ.setdefault(key, value)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    from mlflow import MlflowClient

    try:
        if not uri.startswith("sqlite:///"):
            try:
                return _probed(uri, experiment, _PROBE)
            except store_errors() as error:
                if not mlflow_errors.is_silent(error):
                    raise
            return _probed(uri, experiment, _SECOND_PROBE)
        import filelock

        database = Path(uri.removeprefix("sqlite:///"))
        database.parent.mkdir(parents=True, exist_ok=True)
        # Two processes that create the tables of one file at the same time both fail.
        with filelock.FileLock(f"{database}.lock"):
            if database.exists():
                _follow_move(database)
            else:
                _create_tables(database)
            client = MlflowClient(uri)
            return client, _experiment_id(client, experiment, str(database.parent / _ARTIFACTS))
    except store_errors() as error:
        raise UserError(f"the MLflow store {uri} {_why_not(error)}") from None


def _probed(uri: str, experiment: str, limits: Mapping[str, str]) -> tuple[Any, str]:
    from mlflow import MlflowClient

    with _environment(limits):
        client = MlflowClient(uri)
        return client, _experiment_id(client, experiment, None)


def _why_not(error: BaseException) -> str:
    """Return why a store cannot be opened, and what to do: the end of a sentence that begins with the store."""
    if mlflow_errors.is_refusal(error):
        return (
            "does not accept this user or token; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or "
            "MLFLOW_TRACKING_TOKEN, where this program runs"
        )
    if mlflow_errors.is_untrusted(error):
        return (
            "has a certificate that this machine does not trust; set MLFLOW_TRACKING_SERVER_CERT_PATH to the file of "
            "the authority that signed it"
        )
    return (
        f"cannot be opened: {mlflow_errors.reason(error)}; start the server, correct tracking.uri or "
        "MLFLOW_TRACKING_URI, or set neither to log to a local file"
    )


def _create_tables(database: Path) -> None:
    """Create the tables in a file beside the database, then rename it.

    MLflow migrates a fresh file in many steps, and refuses one that a kill in between has left.
    """
    from mlflow import MlflowClient

    for leftover in database.parent.glob(f"{database.name}.new-*"):
        leftover.unlink()
    fresh = database.with_name(f"{database.name}.new-{uuid.uuid4().hex}")
    with _unsynchronized():
        MlflowClient(f"sqlite:///{fresh}").search_experiments(max_results=1)
    with fresh.open("rb") as file:
        os.fsync(file.fileno())
    fresh.replace(database)


@contextmanager
def _unsynchronized() -> Iterator[None]:
    """Let SQLite not wait for the disk after each statement: what is lost with the machine is created again."""
    from sqlalchemy import Engine, event

    def connected(connection: Any, record: Any) -> None:
        connection.execute("PRAGMA synchronous = OFF")

    event.listen(Engine, "connect", connected)
    try:
        yield
    finally:
        event.remove(Engine, "connect", connected)


def _follow_move(database: Path) -> None:
    """Let the artifacts of a store that was moved or copied be those beside it.

    MLflow keeps absolute paths: a copy would write into the original's folder. An experiment that has another place for
    its artifacts, chosen by whoever made it, keeps it.
    """
    here = str(database.parent / _ARTIFACTS)
    (tag,) = _BESIDE
    with closing(sqlite3.connect(database, timeout=60)) as store, store:
        tables = {name for (name,) in store.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not tables >= {"experiments", "experiment_tags", "runs"}:
            return  # MLflow says what it thinks of this file
        places = store.execute("SELECT experiment_id, artifact_location FROM experiments").fetchall()
        tagged = {row[0] for row in store.execute("SELECT experiment_id FROM experiment_tags WHERE key = ?", (tag,))}
        for experiment, place in places:
            if not place or Path(place).name != _ARTIFACTS or place == here:
                continue
            runs = store.execute("SELECT run_uuid FROM runs WHERE experiment_id = ?", (experiment,))
            # Earlier versions set no tag: there the artifacts that came along tell.
            if experiment not in tagged and not any(Path(here, run).is_dir() for (run,) in runs):
                continue
            store.execute("UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?", (here, experiment))
            store.execute(
                "UPDATE runs SET artifact_uri = ? || substr(artifact_uri, ?) "
                "WHERE experiment_id = ? AND substr(artifact_uri, 1, ?) = ?",
                (here, len(place) + 1, experiment, len(place) + 1, f"{place}/"),
            )
            for table, column in _PLACES_OF_MODELS:
                if table in tables:  # of versions that have logged models and a registry
                    store.execute(
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",
                        (here, len(place) + 1, len(place) + 1, f"{place}/"),
                    )


def _experiment_id(client: Any, name: str, artifacts: str | None) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return client.create_experiment(name, artifact_location=artifacts, tags=_BESIDE if artifacts else None)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another program was faster
                raise
            found = client.get_experiment_by_name(name)
    if found.lifecycle_stage != "active":
        raise UserError(
            f"MLflow experiment {name!r} has been deleted; "
            "restore it (mlflow experiments restore) or set tracking.experiment"
        )
    return found.experiment_id


def store_errors() -> tuple[type[Exception], ...]:
    """Return the types of the errors that a store raises."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, SQLAlchemyError, sqlite3.Error, OSError


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {key: os.environ.get(key) for key in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value

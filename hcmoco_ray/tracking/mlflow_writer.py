"""Write to MLflow: in batches, no step twice, and keeping what a failing store did not take for later."""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hcmoco import yaml_core
from hcmoco.errors import UserError
from hcmoco_ray.tracking import mlflow_errors
from hcmoco_ray.tracking.mlflow_models import PendingModel, is_registered, register_version
from hcmoco_ray.tracking.mlflow_params import KEY_LENGTH, TAG_LENGTH, clean_key, flatten, plain
from hcmoco_ray.tracking.mlflow_store import open_store, store_errors
from hcmoco_ray.tracking.records import DataSet, LoggedModel, Point

_PARAMS_PER_CALL, _METRICS_PER_CALL = 100, 1000  # MLflow's limits on one log_batch
_FLUSH_POINTS, _FLUSH_SECONDS = 500, 5.0
# Seconds before a store that failed is tried again, so that a dead server does not slow the writer.
_PAUSE_AFTER_FAILURE = 60.0


@dataclass
class _Run:
    started_ms: int = 0  # since 1970
    newest: dict[str, Point] = field(default_factory=dict)  # the point with the highest step per metric key
    # Not yet written: (key, value, time in ms, step) of metrics, and (name, content) of artifacts.
    points: list[tuple[str, float, int, int]] = field(default_factory=list)
    files: list[tuple[str, bytes]] = field(default_factory=list)
    data_sets: list[DataSet] = field(default_factory=list)
    models: list[PendingModel] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what the user is told at the end

    def newest_step(self, key: str) -> int:
        return self.newest[key][2] if key in self.newest else -1


class Writer:
    """Hold the only MLflow client of a program that writes. A program of several processes runs it as a Ray actor.

    Args:
        uri: of the store, absolute; None: `connect` opens it later.
        experiment: name of the MLflow experiment.
    """

    def __init__(self, uri: str | None, experiment: str):
        self.experiment = experiment
        self.runs: dict[str, _Run] = {}
        self.failure: str | None = None
        self.retry_at = self.flushed_at = 0.0
        if uri is not None:
            self.connect(uri, {})

    def connect(self, uri: str, environment: dict[str, str]) -> None:
        """Open the store, creating it and the experiment where they are missing.

        Args:
            uri: of the store, absolute.
            environment: variables to set first, such as MLflow's credentials.

        Raises:
            UserError: as `open_store`.
        """
        os.environ.update(environment)
        self.uri = uri
        self.client, self.experiment_id = open_store(uri, self.experiment)

    def start(self, run_id: str | None, name: str | None, params: dict[str, Any], tags: dict[str, str]) -> str:
        flat = {clean_key(key): value for key, value in flatten(params).items()}
        tags = {clean_key(key): str(value)[:TAG_LENGTH] for key, value in tags.items()}
        stored: dict[str, str] = {}
        with self._clear_errors("cannot start a run in"):
            if run_id is None:
                info = self.client.create_run(self.experiment_id, run_name=name, tags=tags).info
                run_id, run = info.run_id, _Run(info.start_time)
            else:
                run, stored = self._continue(run_id)
                changed = {key: value for key, value in flat.items() if key in stored and stored[key] != value}
                tags |= {f"resumed.{key}"[:KEY_LENGTH]: value[:TAG_LENGTH] for key, value in changed.items()}
            self.runs[run_id] = run
            self._log_params(run_id, {key: value for key, value in flat.items() if key not in stored}, tags)
        if params and not stored:
            self.artifact(run_id, "config.yaml", yaml_core.dump(plain(params)).encode())
        return run_id

    def find(self, tag: str, value: str, running: bool) -> str | None:
        """Return the id of the oldest run of the experiment with this tag, and, with `running`, without an end."""
        wanted = f"tags.`{tag}` = '{value}'" + (" and attributes.status = 'RUNNING'" if running else "")
        with self._clear_errors("cannot search for a run in"):
            found = self.client.search_runs(
                [self.experiment_id], wanted, order_by=["attributes.start_time ASC"], max_results=1
            )
        return found[0].info.run_id if found else None

    def tag(self, run_id: str, name: str) -> str | None:
        """Return a tag of a run; None if the store does not know the run, or the run has no such tag."""
        from mlflow.exceptions import MlflowException

        with self._clear_errors("cannot read a run of"):
            try:
                return self.client.get_run(run_id).data.tags.get(name)
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                return None

    def _continue(self, run_id: str) -> tuple[_Run, dict[str, str]]:
        from mlflow.exceptions import MlflowException

        if run_id in self.runs:
            self.flush()
        try:
            found = self.client.get_run(run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            found = None
        if found is None or found.info.lifecycle_stage != "active":
            raise UserError(
                f"MLflow run {run_id} of the state that is resumed is not in {self.uri}; "
                "set tracking.uri or MLFLOW_TRACKING_URI to the store it was logged to, or start in another output "
                "folder"
            )
        self.client.update_run(run_id, status="RUNNING")
        # The entity's public `metrics` drops the steps; its message keeps the last point of every key.
        run = self.runs.get(run_id) or _Run(found.info.start_time)
        run.newest |= {each.key: (each.value, each.timestamp, each.step) for each in found.data.to_proto().metrics}
        return run, dict(found.data.params)

    def _log_params(self, run_id: str, params: dict[str, str], tags: dict[str, str]) -> None:
        from mlflow.entities import Param, RunTag

        entries = [Param(key, value) for key, value in params.items()]
        for start in range(0, len(entries), _PARAMS_PER_CALL):
            self.client.log_batch(run_id, params=entries[start : start + _PARAMS_PER_CALL])
        marks = [RunTag(key, value) for key, value in tags.items()]
        for start in range(0, len(marks), _PARAMS_PER_CALL):
            self.client.log_batch(run_id, tags=marks[start : start + _PARAMS_PER_CALL])

    def metrics(self, run_id: str, step: int, values: dict[str, float], time_ms: int) -> None:
        run = self.runs[run_id]
        for key, value in values.items():
            key = clean_key(key)
            if step > run.newest_step(key):
                run.newest[key] = (value, time_ms, step)
                run.points.append((key, value, time_ms, step))
        if len(run.points) >= _FLUSH_POINTS or time.monotonic() - self.flushed_at > _FLUSH_SECONDS:
            self._write_unless_pausing()

    def system_metrics(self, run_id: str, values: dict[str, float], time_ms: int) -> None:
        run = self.runs.get(run_id)
        if run is None:  # it was on its way from a node while the run was closed
            return
        # A node's clock may be set back, and two samples may come within a second.
        after = 1 + max((run.newest_step(clean_key(key)) for key in values), default=-1)
        self.metrics(run_id, max((time_ms - run.started_ms) // 1000, after), values, time_ms)

    def artifact(self, run_id: str, name: str, content: bytes) -> None:
        path = Path(name)
        if path.is_absolute() or ".." in path.parts or not path.name:
            raise UserError(
                f"artifact name {name!r} must be a relative path inside the run, for example pictures/batch.png"
            )
        self.runs[run_id].files.append((name, content))
        self._write_unless_pausing()

    def inputs(self, run_id: str, data_sets: list[DataSet]) -> None:
        """Log data sets as inputs of a run. The store keeps one input for each name and digest."""
        self.runs[run_id].data_sets += data_sets
        self._write_unless_pausing()

    def model(self, run_id: str, model: LoggedModel) -> None:
        """Log the weights of a run as a model. One that the run has logged before is completed, not logged again."""
        self.runs[run_id].models.append(PendingModel(model))
        self._write_unless_pausing()

    def check_registry(self, name: str) -> None:
        """Raise UserError where the store has no model registry, or it does not let this user read it."""
        with self._clear_errors("cannot read a registered model of"), self._registry_errors():
            is_registered(self.client, name)

    def register(self, run_id: str, model: LoggedModel, name: str, alias: str) -> str:
        """Log the weights of a run, finished or not, as a model, and give its version of a registered model an alias.

        Returns:
            The version. A second call with the same weights gives the same.

        Raises:
            UserError: the store has no registry, or did not take the model.
        """
        with self._clear_errors("cannot register a model in"), self._registry_errors():
            found = self.client.get_run(run_id)
            newest = {each.key: (each.value, each.timestamp, each.step) for each in found.data.to_proto().metrics}
            model_id = PendingModel(model).write(self.client, self.experiment_id, run_id, newest)
            return register_version(self.client, model_id, run_id, name, alias)

    def flush(self) -> None:
        """Write everything that waits. If the store fails, keep it for later; `finish` reports the failure."""
        try:
            for run_id, run in self.runs.items():
                self._write(run_id, run)
            self.failure = None
        except store_errors() as error:
            self.failure = mlflow_errors.reason(error)
            self.retry_at = time.monotonic() + _PAUSE_AFTER_FAILURE
        self.flushed_at = time.monotonic()

    def _write_unless_pausing(self) -> None:
        if self.failure is None or time.monotonic() > self.retry_at:
            self.flush()

    def _write(self, run_id: str, run: _Run) -> None:
        from mlflow.entities import Metric

        if run.data_sets:
            self.client.log_inputs(run_id, [_dataset_input(each) for each in run.data_sets])
            run.data_sets.clear()
        while run.points:
            # Removed only once written: a failure in between leaves them for the next time.
            self.client.log_batch(run_id, metrics=[Metric(*point) for point in run.points[:_METRICS_PER_CALL]])
            del run.points[:_METRICS_PER_CALL]
        while run.files:
            name, content = run.files[0]
            with tempfile.TemporaryDirectory() as folder:
                local = Path(folder, Path(name).name)
                local.write_bytes(content)
                self.client.log_artifact(
                    run_id, str(local), artifact_path=None if "/" not in name else str(Path(name).parent)
                )
            del run.files[0]
        while run.models:
            try:
                run.models[0].write(self.client, self.experiment_id, run_id, run.newest)
            except store_errors() as error:
                if run.models[0].created or not mlflow_errors.is_unknown(error):
                    raise
                run.notes.append(
                    f"MLflow at {self.uri} has no logged models, which came with version 3: none is logged"
                )
            del run.models[0]

    def finish(self, run_id: str, status: str) -> list[str]:
        self.flush()
        if self.failure is None:
            with self._clear_errors("cannot close the run in"):
                self.client.set_terminated(run_id, status=status)
        run = self.runs.pop(run_id, _Run())
        if self.failure is not None:
            raise UserError(
                f"MLflow at {self.uri} did not take {len(run.points)} metric values and {len(run.files)} artifacts"
                f"{_others(run)} of run {run_id}: {self.failure}; the training states and weights are not affected"
            )
        return run.notes

    @contextmanager
    def _registry_errors(self) -> Iterator[None]:
        try:
            yield
        except store_errors() as error:
            if not mlflow_errors.is_unknown(error):
                raise
            raise UserError(
                f"the MLflow store {self.uri} has no model registry ({mlflow_errors.reason(error)}); drop "
                "registered_model, or log to an MLflow server of version 3 with a database"
            ) from None

    @contextmanager
    def _clear_errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except store_errors() as error:
            raise UserError(f"{what} the MLflow store {self.uri}: {mlflow_errors.reason(error)}") from None


def _others(run: _Run) -> str:
    """What else than metrics and artifacts waits to be written, as part of a line."""
    named = [f"{len(each)} {name}" for each, name in ((run.data_sets, "data sets"), (run.models, "models")) if each]
    return "".join(f" and {each}" for each in named)


def _dataset_input(data_set: DataSet) -> Any:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    one = data_set
    dataset = Dataset(one.name, one.digest, one.source_type, one.source, schema=one.columns, profile=one.profile)
    return DatasetInput(dataset, [InputTag(key, value) for key, value in one.tags.items()])

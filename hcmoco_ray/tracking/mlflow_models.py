"""Write a logged model of MLflow, and register it.

The weights stay where the run put them: the logged model has their URI and digest as tags, its parameters, and the
points of the run's metrics that were measured with them, each with its data set. A fine-tuned model is also a small
`pyfunc` model that loads the weights from there (pyfunc.py).
"""

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hcmoco_ray.tracking.records import SHA256, URI, LoggedModel, Point

_EXTERNAL = "mlflow.model.isExternal"
_METRICS_PER_CALL = 1000


class PendingModel:
    """A logged model that is being written. After an error `write` goes on with the step that failed.

    Args:
        model: what is written.
    """

    def __init__(self, model: LoggedModel):
        self.model = model
        self.id: str | None = None
        self._done = 0

    def write(self, client: Any, experiment: str, run_id: str, newest: Mapping[str, Point]) -> str:
        """Write what is missing.

        Args:
            client: of MLflow.
            experiment: id of the experiment.
            run_id: of the run.
            newest: the newest point of each metric of the run.

        Returns:
            The id of the logged model.
        """
        steps: tuple[Callable[[], None], ...] = (
            lambda: self._create(client, experiment, run_id),
            lambda: self._link(client, run_id),
            lambda: self._upload(client, run_id),
            lambda: self._metrics(client, run_id, newest),
            lambda: client.finalize_logged_model(self.id, "READY"),
        )
        for number, step in enumerate(steps):
            if number == self._done:
                step()
                self._done += 1
        assert self.id is not None
        return self.id

    @property
    def created(self) -> bool:
        """Whether the store has it, be it not whole."""
        return self.id is not None

    def _create(self, client: Any, experiment: str, run_id: str) -> None:
        model = self.model
        known = _known_model(client, run_id, model)
        if known is not None:
            self.id, self._done = known, 1  # the link exists, too
            return
        tags = dict(model.tags) if model.pyfunc else {**model.tags, _EXTERNAL: "true"}
        created = client.create_logged_model(
            experiment,
            name=model.name,
            source_run_id=run_id,
            tags=tags,
            params=dict(model.params),
            model_type=model.kind,
        )
        self.id = created.model_id

    def _link(self, client: Any, run_id: str) -> None:
        from mlflow.entities import LoggedModelOutput

        client.log_outputs(run_id, [LoggedModelOutput(str(self.id), self.model.step)])

    def _upload(self, client: Any, run_id: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder, "model")
            _save(target, self.model, str(self.id), run_id)
            client.log_model_artifacts(self.id, str(target))

    def _metrics(self, client: Any, run_id: str, newest: Mapping[str, Point]) -> None:
        """Log the same points once more, now with the model: the store has each once in the run, and in the model."""
        from mlflow.entities import Metric

        points = [
            Metric(key, value, time_ms, step, self.id, *data)
            for key, data in self.model.metrics.items()
            for value, time_ms, step in [newest.get(key, (0.0, 0, -1))]
            if step == self.model.step
        ]
        for start in range(0, len(points), _METRICS_PER_CALL):
            client.log_batch(run_id, metrics=points[start : start + _METRICS_PER_CALL])


def _known_model(client: Any, run_id: str, model: LoggedModel) -> str | None:
    """The id of the model if an earlier attempt of this run has logged it."""
    outputs = client.get_run(run_id).outputs
    for output in (outputs.model_outputs if outputs else None) or ():
        found = client.get_logged_model(output.model_id)
        if found.tags.get(SHA256) == model.sha256 and found.tags.get(URI) == model.tags[URI]:
            return found.model_id
    return None


def _save(target: Path, model: LoggedModel, model_id: str, run_id: str) -> None:
    """Write the files of a logged model to a new folder."""
    from mlflow.models import Model, ModelSignature

    own = model.pyfunc
    if own is None:
        target.mkdir()
        # MLflow's registry takes a model that has this file; its metadata says that MLflow cannot load it.
        external = Model(model_id=model_id, model_uuid=model_id, run_id=run_id, metadata={_EXTERNAL: True})
        external.save(str(target / "MLmodel"))
        return
    import mlflow.pyfunc
    import pandas

    from hcmoco.storage import Folder
    from hcmoco_ray.tracking import pyfunc

    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "hcmoco")
        data.mkdir()
        (data / pyfunc.REFERENCE).write_text(json.dumps(own.reference, indent=1))
        if own.weights is not None:
            (data / pyfunc.COPY).mkdir()
            for name in (pyfunc.WEIGHTS, pyfunc.CARD, pyfunc.FACTS):
                (data / pyfunc.COPY / name).write_bytes(Folder(own.weights).read(name))
        mlflow.pyfunc.save_model(
            path=str(target),
            loader_module=pyfunc.__name__,
            data_path=str(data),
            mlflow_model=Model(model_id=model_id, model_uuid=model_id, run_id=run_id),
            signature=ModelSignature.from_dict(dict(own.signature)),
            input_example=pandas.DataFrame([dict(own.example)]),
            pip_requirements=list(own.requirements),
        )


def is_registered(client: Any, name: str) -> bool:
    """Return whether the registry knows a registered model."""
    from mlflow.exceptions import MlflowException

    try:
        client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False
    return True


def register_version(client: Any, model_id: str, run_id: str, name: str, alias: str) -> str:
    """Give a logged model's version of a registered model an alias, creating what is missing; return the version.

    Args:
        client: of MLflow.
        model_id: of the logged model.
        run_id: of its run.
        name: of the registered model.
        alias: moved from the version that has it.
    """
    from mlflow.exceptions import MlflowException

    if not is_registered(client, name):
        try:
            client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another program was faster
                raise
    # Not models:/<id>: an SQLite registry would look that up in the store of MLflow's global settings.
    source = client.get_logged_model(model_id).artifact_location
    versions = client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
    version = next((each.version for each in versions if each.source == source), None)
    if version is None:
        version = client.create_model_version(name, source, run_id=run_id, model_id=model_id).version
    client.set_registered_model_alias(name, alias, str(version))
    return str(version)

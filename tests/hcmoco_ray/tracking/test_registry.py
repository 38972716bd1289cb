"""Versions and aliases in real servers' registries, and servers without one."""

import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from hcmoco.config import build
from hcmoco.errors import UserError
from hcmoco.export import load_export
from hcmoco.finetuning.saved_model import load_model
from hcmoco.license_terms import SYNTHETIC
from hcmoco_ray.experiments.sweep.config import SweepConfig
from hcmoco_ray.tracking.client import open_writer, start_run
from hcmoco_ray.tracking.config import TrackingConfig
from hcmoco_ray.tracking.data_sets import describe
from hcmoco_ray.tracking.weights import export_model, fine_tuned_model
from tests.helpers import finetune_program, postgres
from tests.helpers.drawn_models import write_models
from tests.helpers.local_pretraining import write_blobs
from tests.helpers.mlflow_server import MlflowServer

TRAINING = {"recipe": "tiny", "steps": 6, "terms": [{"name": "people", "terms": SYNTHETIC}]}
NO_REGISTRY = ("/registered-models", "/model-versions")
BEFORE_3 = (*NO_REGISTRY, "/logged-models", "/runs/outputs")


@contextmanager
def without(behind: str, parts: tuple[str, ...]) -> Iterator[tuple[str, list[str]]]:
    """A server in front of another, which knows no path with these parts: the URI, and the paths of all requests."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = self.path.partition("?")[0]
            asked.append(f"{self.command} {path}")
            if any(each in path for each in parts):
                return self.send(404, "text/html", b"<!doctype html><title>404 Not Found</title>")
            headers = {"Content-Type": self.headers.get("Content-Type") or "application/json"}
            request = urllib.request.Request(behind + self.path, content or None, headers, method=self.command)
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            try:
                with opener.open(request, timeout=60) as reply:
                    self.send(reply.status, reply.headers.get_content_type(), reply.read())
            except urllib.error.HTTPError as error:
                self.send(error.code, error.headers.get_content_type(), error.read())

        def send(self, status: int, kind: str, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def backends(tmp_path_factory):
    """A server on PostgreSQL where it can be started, else on SQLite."""
    folder = tmp_path_factory.mktemp("server")
    if postgres.unavailable():
        with MlflowServer(folder) as server:
            yield server.uri
        return
    with postgres.Postgres() as database, MlflowServer(folder, backend=database.uri) as server:
        yield server.uri


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_blobs(tmp_path_factory.mktemp("data"), "room", 5)


def model_of(folder: Path, seed: int, data):
    place = finetune_program.export(folder / f"export-{seed}", seed=seed)
    return export_model(place, load_export(place).model, TRAINING, metrics=["probe/a"], held_out=data)


@pytest.mark.long
@pytest.mark.slow
def test_a_server_has_the_model_its_metrics_and_the_alias(backends, data, tmp_path):
    with without(backends, ()) as (uri, asked):
        writer = open_writer(TrackingConfig(uri=uri), tmp_path, actor=False)
        run = start_run(writer)
        asked.clear()
        run.inputs([describe(data, "test")])
        assert len(asked) == 1
        for step in range(1, 7):
            run.metrics(step, {"probe/a": float(step)})
        run.flush()
        asked.clear()
        model = model_of(tmp_path, 0, data)
        run.model(model)
        run.flush()
        assert len(asked) == 7, asked  # once at the end of a training; its steps cost no request more
        asked.clear()
        tuned = str(write_models(tmp_path / "tuned", **TRAINING) / "parsing-rgb")
        saved = load_model(tuned)
        run.model(
            fine_tuned_model(tuned, saved.task(), saved.encoder, TRAINING, metrics=["probe/a"], test=data, copied=False)
        )
        run.flush()
        # It looks at the first model, and has six files more.
        assert len(asked) == 14, asked
        asked.clear()
        run.finish()
        client = writer.client
        logged = client.search_logged_models([writer.experiment_id])
        (found,) = [each for each in logged if each.source_run_id == run.run_id and each.model_type == "encoders"]
        assert [(each.value, each.step, each.dataset_name) for each in found.metrics] == [(6.0, 6, "room")]
        assert len(client.get_metric_history(run.run_id, "probe/a")) == 6
        writer.check_registry("people")
        assert writer.register(run.run_id, model, "people", "best") == "1"
        assert writer.register(run.run_id, model_of(tmp_path, 1, data), "people", "best") == "2"
        assert writer.register(run.run_id, model, "people", "best") == "1"
        version = client.get_model_version_by_alias("people", "best")
        assert (str(version.version), version.source) == ("1", found.artifact_location)
        tags = client.get_logged_model(found.model_id).tags
        assert "people" in tags["mlflow.modelVersions"]  # the model's page names its version


@pytest.mark.long
@pytest.mark.slow
def test_a_server_without_a_registry_or_without_models_is_one_line(backends, data, tmp_path, capsys):
    with without(backends, NO_REGISTRY) as (uri, _):
        writer = open_writer(TrackingConfig(uri=uri), tmp_path, actor=False)
        with pytest.raises(
            UserError, match=r"has no model registry \(it answers with HTTP status 404\); drop"
        ) as caught:
            writer.check_registry("people")
        assert "\n" not in str(caught.value)
    with without(backends, BEFORE_3) as (uri, _):
        writer = open_writer(TrackingConfig(uri=uri), tmp_path, actor=False)
        run = start_run(writer)
        run.metrics(6, {"probe/a": 1.0})
        run.model(model_of(tmp_path, 0, data))
        run.text("note.txt", "after it")
        run.finish()
        said = capsys.readouterr().err
        assert said.count("has no logged models") == 1
        assert writer.client.get_run(run.run_id).info.status == "FINISHED"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"name": "a/b"}, "registered_model.name"),
        ({"name": " "}, "registered_model.name"),
        ({"name": "people", "alias": "v3"}, "registered_model.alias"),
        ({"name": "people", "alias": "Latest"}, "registered_model.alias"),
        ({"name": "people", "alias": "the best"}, "registered_model.alias"),
        ({"alias": "best"}, "registered_model.name"),
    ],
)
def test_what_mlflow_refuses_is_refused_before_a_trial(value, words):
    given = {"recipe": "people-cpu", "output_dir": "out", "num_trials": 1, "space": {"optim.lr": {"uniform": [0, 1]}}}
    assert (
        build(SweepConfig, {**given, "registered_model": {"name": "people"}}, "sweep").registered_model.alias == "best"
    )
    with pytest.raises(UserError, match=words):
        build(SweepConfig, {**given, "registered_model": value}, "sweep")

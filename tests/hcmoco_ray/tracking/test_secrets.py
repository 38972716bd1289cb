"""A tracking server that asks for a password gets it, and nobody else: not the run's files, the server's, or a log."""

import base64
import importlib.util
import os
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml

from hcmoco.errors import UserError
from hcmoco_ray.tracking.client import open_writer, start_run
from hcmoco_ray.tracking.config import TrackingConfig, described, how_to_see, with_environment
from tests.helpers import pretrain_program, sweep_program
from tests.helpers.authenticating_proxy import AuthenticatingProxy
from tests.helpers.mlflow_server import MlflowServer

USER, PASSWORD, TOKEN = "ana", "Hun/ter?2#and:more@", "a-token-of-the-gateway"
SECRETS = (PASSWORD, quote(PASSWORD, safe=""), base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode(), TOKEN)


@pytest.fixture(autouse=True)
def environment():
    """A writer in this process leaves MLflow's variables in the environment: they go with the test."""
    yield
    for name in [name for name in os.environ if name.startswith("MLFLOW_TRACKING_")]:
        del os.environ[name]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with MlflowServer(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="module")
def proxy(server):
    with AuthenticatingProxy(server.uri, USER, PASSWORD, TOKEN) as proxy:
        yield proxy


@pytest.fixture
def with_password(proxy, monkeypatch) -> str:
    """The URI in the environment, with user and password; the one that may be shown is returned."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{USER}:{quote(PASSWORD, safe='')}@{proxy.address}")
    return f"http://{proxy.address}"


def showing(folder: Path, secrets=SECRETS) -> list[str]:
    """The files below a folder that hold a secret."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [f"{path}: {each}" for path in files for each in secrets if each.encode() in path.read_bytes()]


def runs_of(server: MlflowServer, experiment: str) -> list:
    from mlflow import MlflowClient

    client = MlflowClient(server.uri)
    found = client.get_experiment_by_name(experiment)
    return [] if found is None else client.search_runs([found.experiment_id])


@pytest.mark.slow
def test_no_password_is_left_by_a_run(ray_session, tiny_home, server, proxy, with_password, monkeypatch):
    import ray

    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "of the environment")
    done = pretrain_program.call(tiny_home, "output_dir=runs/guarded")
    assert done.status == 0, done
    first = done.out.splitlines()[0]
    assert first == (
        f"tracking: {with_password} (MLFLOW_TRACKING_URI, with its user and password), "
        "experiment of the environment (MLFLOW_EXPERIMENT_NAME)"
    )
    assert f"run             {with_password} (experiment of the environment)" in done.out
    [run] = runs_of(server, "of the environment")
    assert run.info.status == "FINISHED"
    assert run.data.params["tracking.uri"] == with_password
    assert run.data.metrics
    config = yaml.safe_load((done.folder / "config.yaml").read_text())
    given = {"uri": with_password, "experiment": "of the environment", "run_name": None}
    assert config["tracking"] == {**given, "system_metrics_interval": 30, "log_weights": False}
    session = Path(ray._private.worker._global_node.get_session_dir_path())
    for folder in (done.folder, server.folder, session / "logs"):
        assert not showing(folder)
    assert not [each for each in SECRETS if each in done.out + done.err]

    # The config that is left has no password: the environment gives it again, whole or in MLflow's own variables.
    again = pretrain_program.call(tiny_home, "output_dir=runs/guarded")
    assert again.status == 0
    assert f"{done.folder} is finished" in again.out
    (done.folder / "FINISHED").unlink()
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    refused = pretrain_program.call(tiny_home, "output_dir=runs/guarded", f"tracking.uri={with_password}")
    assert "MLFLOW_TRACKING_USERNAME" in refused.error
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", USER)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    resumed = pretrain_program.call(tiny_home, "output_dir=runs/guarded", f"tracking.uri={with_password}")
    assert resumed.status == 0, resumed
    [same] = runs_of(server, "of the environment")
    assert same.info.run_id == run.info.run_id
    assert not showing(done.folder)

    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME")
    (done.folder / "FINISHED").unlink()
    elsewhere = pretrain_program.call(tiny_home, "output_dir=runs/guarded")
    assert f"this run has logged to {with_password} so far" in elsewhere.out
    assert "MLFLOW_TRACKING_URI" in elsewhere.error


@pytest.mark.slow
def test_no_password_is_left_by_a_sweep(ray_session, tmp_path, monkeypatch, server, with_password):
    monkeypatch.setenv("HCMOCO_HOME", str(tmp_path))
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "swept")
    done = sweep_program.call(tmp_path, {"num_trials": 1})
    assert done.status == 0, done
    assert done.out.startswith(f"tracking: {with_password} (MLFLOW_TRACKING_URI")
    runs = runs_of(server, "swept")
    assert len(runs) == 2
    [trial] = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    assert trial.data.params["tracking.uri"] == with_password
    for folder in (tmp_path, server.folder):
        assert not showing(folder)
    assert not [each for each in SECRETS if each in done.out + done.err]


@pytest.mark.slow
def test_mlflows_own_basic_authentication(tmp_path, monkeypatch):
    if importlib.util.find_spec("flask_wtf") is None:
        pytest.skip("Flask-WTF, which MLflow's basic-auth app needs, is not installed")
    with MlflowServer(tmp_path, admin=(USER, PASSWORD)) as server:
        address = server.uri.removeprefix("http://")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{USER}:wrong-password@{address}")
        with pytest.raises(UserError, match="MLFLOW_TRACKING_USERNAME") as caught:
            open_writer(with_environment(TrackingConfig()), tmp_path, actor=False)
        assert "wrong-password" not in str(caught.value)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{USER}:{quote(PASSWORD, safe='')}@{address}")
        config = with_environment(TrackingConfig())
        tracker = start_run(open_writer(config, tmp_path, actor=False), params={"uri": config.uri})
        tracker.metrics(1, {"loss": 0.5})
        tracker.text("note.txt", "kept")
        tracker.finish()
        assert not showing(tmp_path, SECRETS[1:])
        (tmp_path / "users.ini").unlink()
        assert not showing(tmp_path)
        assert list(tmp_path.rglob("note.txt"))


def test_a_token_that_is_not_accepted_is_one_line_without_it(tmp_path, proxy, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "another-token-of-somebody")
    config = TrackingConfig(uri=f"http://{proxy.address}")
    with pytest.raises(UserError, match="does not accept") as caught:
        open_writer(config, tmp_path, actor=False)
    assert "another-token" not in str(caught.value)
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", TOKEN)
    open_writer(config, tmp_path, actor=False)


def test_a_token_with_a_line_end_serves(tmp_path, proxy, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", f"{TOKEN}\n")  # as a file's content, of a mounted secret
    open_writer(TrackingConfig(uri=f"http://{proxy.address}"), tmp_path, actor=False)


@pytest.mark.parametrize(
    ("environment", "own", "line"),
    [
        ({}, {}, "sqlite:////o/mlflow.db (in the output folder: neither tracking.uri nor MLFLOW_TRACKING_URI is set)"),
        ({"URI": ""}, {}, "sqlite:////o/mlflow.db (in the output folder: neither tracking.uri nor"),
        ({"URI": "http://h:5000"}, {}, "http://h:5000 (MLFLOW_TRACKING_URI), experiment hcmoco"),
        ({"URI": "http://h:5000"}, {"experiment": "mine"}, "http://h:5000 (MLFLOW_TRACKING_URI), experiment mine"),
        ({"URI": "http://me:Hunter2@h"}, {"uri": "http://g"}, "http://g (tracking.uri; MLFLOW_TRACKING_URI=http://me:***@h"),
        ({"URI": "http://h"}, {"uri": None}, "sqlite:////o/mlflow.db (in the output folder, as tracking.uri says; "),
        ({"URI": "postgresql://me:Hunter2@d/x"}, {}, "postgresql://me@d/x (MLFLOW_TRACKING_URI, with its user and"),
        ({"URI": "sqlite:////d/x.db"}, {}, "sqlite:////d/x.db (MLFLOW_TRACKING_URI), experiment hcmoco"),
    ],
)  # fmt: skip
def test_where_the_tracking_goes_and_why(monkeypatch, environment, own, line):
    for name, value in environment.items():
        monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", value)
    said = described(with_environment(TrackingConfig(**own)), "/o")
    assert said.startswith(f"tracking: {line}")
    assert "Hunter2" not in said


def test_the_experiment_of_the_environment(monkeypatch):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "theirs")
    assert with_environment(TrackingConfig()).experiment == "theirs"
    assert with_environment(TrackingConfig(experiment="hcmoco")).experiment == "hcmoco"
    said = described(TrackingConfig(experiment="hcmoco"), "/o")
    assert said.endswith("experiment hcmoco (tracking.experiment; MLFLOW_EXPERIMENT_NAME=theirs is not used)")


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("databricks", "must start with one of http://"),
        ("file:///mlruns", "must start with one of http://"),
        ("mlruns", "unset it, or set tracking.uri"),
        ("http://Hunter2Hunter2@h", "MLFLOW_TRACKING_TOKEN"),
        ("http://:Hunter2Hunter2@h", "MLFLOW_TRACKING_USERNAME"),
    ],
)
def test_a_uri_of_the_environment_that_does_not_serve(monkeypatch, uri, says):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(UserError, match=says) as caught:
        with_environment(TrackingConfig())
    assert "Hunter2" not in str(caught.value)
    assert "MLFLOW_TRACKING_URI" in str(caught.value)


def test_how_to_see_a_database_with_a_password(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:Hunter2@d/x")
    config = with_environment(TrackingConfig())
    assert how_to_see(config, "/o") == 'mlflow ui --backend-store-uri "$MLFLOW_TRACKING_URI"'


def test_grids_sweeps_and_co_trainings_take_the_environment_too(monkeypatch):
    from hcmoco_ray import cli
    from hcmoco_ray import config as run_config
    from hcmoco_ray.config import FinetuneRecipe, PretrainRecipe
    from hcmoco_ray.experiments.grid.config import load_grid
    from hcmoco_ray.experiments.versatility.run import load

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{USER}:Hunter2@mlflow:5000")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "theirs")
    pose = cli.task_values("pose", "people-cpu", ["init=scratch"])
    asked = [
        run_config.load(PretrainRecipe, "people-cpu", []).tracking,
        run_config.check(FinetuneRecipe, pose, "people-cpu").tracking,
        load_grid("people-cpu").tracking,
        load("people-cpu", []).tracking,
    ]
    assert {(each.uri, each.experiment) for each in asked} == {("http://mlflow:5000", "theirs")}
    for own in ("null", "http://other"):
        config = run_config.load(PretrainRecipe, "people-cpu", [f"tracking.uri={own}"])
        assert config.tracking.uri == (None if own == "null" else own)
        assert load("people-cpu", [f"tracking.uri={own}"]).tracking.uri == config.tracking.uri

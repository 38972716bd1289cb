import contextlib
import socket
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import yaml

from hcmoco.config import build
from hcmoco.errors import UserError
from hcmoco_ray.tracking.client import find_run, open_writer, start_run
from hcmoco_ray.tracking.config import TrackingConfig, store_uri
from hcmoco_ray.tracking.mlflow_params import clean_key, flatten
from hcmoco_ray.tracking.mlflow_store import open_store
from tests.helpers.waiting import CEILING, wait_until


def history(uri, run_id, key):
    from mlflow import MlflowClient

    return [(point.step, point.value) for point in MlflowClient(uri).get_metric_history(run_id, key)]


def png() -> bytes:
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0\x7f")) + chunk(b"IEND", b"")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """One store for the fast tests: making its tables takes seconds. Each test logs to its own run."""
    out = tmp_path_factory.mktemp("out")
    return TrackingConfig(), out, store_uri(TrackingConfig(), out)


def test_one_run_is_recorded_whole(store):
    config, out, uri = store
    writer = open_writer(config, out, actor=False)
    params = {"seed": 3, "objective": {"tau_g": 0.07, "terms": ["sample", "dense"]}, "a[b]": None}
    tracker = start_run(writer, name="first", params=params, tags={"git commit": "abc"})
    for step in range(5):
        tracker.metrics(step, {"loss/sample": step / 2, "loss": np.float32(step)})
    tracker.picture("pictures/batch.png", png())
    tracker.text("model-card.md", "# Weights")
    tracker.finish()

    run = writer.client.get_run(tracker.run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "first"
    assert run.data.params == {
        "seed": "3",
        "objective.tau_g": "0.07",
        "objective.terms": '["sample", "dense"]',
        "a_b_": "null",
    }
    assert run.data.tags["git commit"] == "abc"
    assert history(uri, tracker.run_id, "loss/sample") == [(step, step / 2) for step in range(5)]
    assert history(uri, tracker.run_id, "loss") == [(step, float(step)) for step in range(5)]
    artifacts = out / "mlartifacts" / tracker.run_id / "artifacts"
    assert (artifacts / "pictures" / "batch.png").read_bytes() == png()
    assert (artifacts / "model-card.md").read_text() == "# Weights"
    assert yaml.safe_load((artifacts / "config.yaml").read_text()) == params


def test_a_continued_run_has_every_step_once(store):
    config, out, uri = store
    before = start_run(open_writer(config, out, actor=False), params={"steps": 10})
    for step in range(1, 8):
        before.metrics(step, {"loss": step, "rate": step})
    before.metrics(6, {"probe": 6})
    before.flush()

    # Killed without finish; a new process resumes from the state saved at step 4 and repeats 5, 6 and 7.
    writer = open_writer(config, out, actor=False)
    after = start_run(writer, run_id=before.run_id, params={"steps": 20, "extra": 1})
    assert after.run_id == before.run_id
    for step in range(5, 11):
        after.metrics(step, {"loss": step, "rate": step})
        if step % 2 == 0:
            after.metrics(step, {"probe": step})  # the same step in a second call under another key is no repetition
    after.finish()

    assert history(uri, after.run_id, "loss") == [(step, float(step)) for step in range(1, 11)]
    assert history(uri, after.run_id, "rate") == [(step, float(step)) for step in range(1, 11)]
    assert history(uri, after.run_id, "probe") == [(6, 6.0), (8, 8.0), (10, 10.0)]
    run = writer.client.get_run(after.run_id)
    assert run.data.params == {"steps": "10", "extra": "1"}
    assert run.data.tags["resumed.steps"] == "20"
    assert run.info.status == "FINISHED"
    assert (
        len([each for each in writer.client.search_runs([writer.experiment_id]) if each.info.run_id == after.run_id])
        == 1
    )


def test_a_run_that_the_store_does_not_know_is_refused(store):
    config, out, _ = store
    with pytest.raises(UserError, match=r"not in sqlite:///.*tracking\.uri"):
        start_run(open_writer(config, out, actor=False), run_id="0123456789abcdef0123456789abcdef")


def test_points_of_several_runs_stay_apart(store):
    config, out, uri = store
    writer = open_writer(config, out, actor=False)
    first, second = start_run(writer), start_run(writer)
    for step in range(3):
        first.metrics(step, {"loss": 1})
        second.metrics(step, {"loss": 2})
    first.finish()
    second.finish("FAILED")
    assert history(uri, first.run_id, "loss") == [(step, 1.0) for step in range(3)]
    assert history(uri, second.run_id, "loss") == [(step, 2.0) for step in range(3)]
    assert writer.client.get_run(second.run_id).info.status == "FAILED"


def test_a_run_is_found_by_its_key_and_lies_in_its_parent(store):
    config, out, _ = store
    writer = open_writer(config, out, actor=False)
    parent = start_run(writer, key="sweep")
    child = start_run(writer, key="sweep/0001", parent=parent.run_id, tags={"own": "1"})
    assert find_run(writer, "sweep") == parent.run_id
    assert find_run(writer, "sweep/0001", running=True) == child.run_id
    assert find_run(writer, "sweep/0002") is None
    child.finish()
    assert find_run(writer, "sweep/0001", running=True) is None
    assert find_run(open_writer(config, out, actor=False), "sweep/0001") == child.run_id
    tags = writer.client.get_run(child.run_id).data.tags
    assert (tags["mlflow.parentRunId"], tags["own"]) == (parent.run_id, "1")
    parent.finish()


def test_many_long_and_odd_params_are_taken(store):
    config, out, _ = store
    writer = open_writer(config, out, actor=False)
    params = {"many": {f"key{i}": i for i in range(230)}, "long": "x" * 20000, "odd {key}/": "v"}
    tracker = start_run(writer, params=params)
    tracker.finish()
    stored = writer.client.get_run(tracker.run_id).data.params
    assert len(stored) == 232
    assert stored["many.key229"] == "229"
    assert len(stored["long"]) == 6000
    assert stored["long"].endswith("config.yaml)")
    saved = yaml.safe_load((out / "mlartifacts" / tracker.run_id / "artifacts" / "config.yaml").read_text())
    assert saved["long"] == params["long"]


def test_values_that_are_not_finite_do_not_stop_the_run(store):
    config, out, uri = store
    tracker = start_run(open_writer(config, out, actor=False))
    tracker.metrics(0, {"loss": float("nan")})
    tracker.metrics(1, {"loss": float("inf")})
    tracker.finish()
    points = history(uri, tracker.run_id, "loss")
    assert [step for step, _ in points] == [0, 1]
    assert np.isnan(points[0][1])


def test_what_a_failing_store_did_not_take_is_written_later(store, tmp_path):
    config, out, uri = store
    writer = open_writer(config, out, actor=False)
    tracker = start_run(writer)
    tracker.flush()
    good, (other, _) = writer.client, open_store(f"sqlite:///{tmp_path}/other.db", "other")
    writer.client = other  # a store that refuses: it does not know the run
    tracker.metrics(1, {"loss": 1})
    tracker.text("note.txt", "kept")
    tracker.flush()
    with pytest.raises(UserError, match=r"did not take 1 metric values and 1 artifacts.*weights are not affected"):
        tracker.finish()

    writer.client = good
    tracker = start_run(writer)
    writer.client = other
    tracker.metrics(1, {"loss": 1})
    tracker.flush()
    writer.client = good
    tracker.metrics(2, {"loss": 2})
    tracker.finish()
    assert history(uri, tracker.run_id, "loss") == [(1, 1.0), (2, 2.0)]


def test_a_server_that_goes_away_during_a_run_is_said_by_its_reason(store, monkeypatch):
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # their pauses are not what is tested here
    config, out, _ = store
    writer = open_writer(config, out, actor=False)
    tracker = start_run(writer)
    writer.client = MlflowClient(f"http://127.0.0.1:{free_port()}")
    tracker.metrics(1, {"loss": 1.0})
    with pytest.raises(UserError, match=rf"did not take 1 metric .* of run {tracker.run_id}: connection refused; the"):
        tracker.finish()
    with pytest.raises(UserError, match=r"^cannot start a run in the MLflow store .*: connection refused$"):
        start_run(writer)


@pytest.mark.parametrize("name", ["../outside.txt", "/etc/note", "a/../../b"])
def test_an_artifact_outside_the_run_is_refused(store, name):
    config, out, _ = store
    tracker = start_run(open_writer(config, out, actor=False))
    with pytest.raises(UserError, match="relative path"):
        tracker.text(name, "x")
    tracker.finish()


def test_a_server_that_does_not_answer_is_one_line(tmp_path):
    config = TrackingConfig(uri=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(UserError, match=r"cannot be opened.*start the server, correct tracking.uri") as caught:
        open_writer(config, tmp_path, actor=False)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_store_is_refused(tmp_path):
    (tmp_path / "mlflow.db").write_bytes(b"not a database, but long enough to be read as one" * 100)
    with pytest.raises(UserError, match="cannot be opened: file is not a database; "):
        open_writer(TrackingConfig(), tmp_path, actor=False)


def test_where_the_store_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert store_uri(TrackingConfig(), "runs/a") == f"sqlite:///{tmp_path}/runs/a/mlflow.db"
    assert store_uri(TrackingConfig(), f"file://{tmp_path}") == f"sqlite:///{tmp_path}/mlflow.db"
    assert store_uri(TrackingConfig(uri="sqlite:///all.db"), "s3://bucket/run") == f"sqlite:///{tmp_path}/all.db"
    assert store_uri(TrackingConfig(uri="sqlite:////abs/all.db"), "runs/a") == "sqlite:////abs/all.db"
    assert store_uri(TrackingConfig(uri="https://mlflow.example"), "s3://bucket/run") == "https://mlflow.example"
    with pytest.raises(UserError, match=r"s3://bucket/run is not local.*tracking.uri=http"):
        store_uri(TrackingConfig(), "s3://bucket/run")


@pytest.mark.parametrize("values", [{"uri": "./mlruns"}, {"uri": "ftp://x"}, {"experiment": " "}, {"url": "http://x"}])
def test_bad_config_is_one_line(values):
    with pytest.raises(UserError, match=r"recipe.*(start with one of|1 to 500|allowed here: uri)"):
        build(TrackingConfig, values, "recipe")


def test_keys_are_what_mlflow_allows(tmp_path):
    from mlflow.exceptions import MlflowException

    client, experiment = open_store(f"sqlite:///{tmp_path / 'mlflow.db'}", "keys")
    run_id = client.create_run(experiment).info.run_id
    for key in ("a//b", "../up", "/abs", "x" * 400, "a%b#c", "..", "trailing/", "./a"):
        with pytest.raises(MlflowException):
            client.log_metric(run_id, key, 1.0)
    for key in ["loss", "loss (x)", "a//b", "../up", "/abs", "x" * 400, "a%b#c", "", "..", "ä b", "trailing/", "./a"]:
        client.log_metric(run_id, clean_key(key), 1.0)
        client.log_param(run_id, clean_key(key), "v")
        assert clean_key(key) in client.get_run(run_id).data.metrics
    assert clean_key("objective.loss/dense-2 d:x") == "objective.loss/dense-2 d:x"
    assert flatten({"a": {"b": {"c": 1}}, "d": {}, "e": (1, Path("p"))}) == {"a.b.c": "1", "d": "{}", "e": '[1, "p"]'}


@pytest.mark.slow
def test_eight_programs_may_open_a_fresh_store_at_once(tmp_path):
    program = """
import sys
from hcmoco_ray.tracking.client import open_writer, start_run
from hcmoco_ray.tracking.config import TrackingConfig
tracker = start_run(open_writer(TrackingConfig(), sys.argv[1], actor=False), params={"index": int(sys.argv[2])})
for step in range(20):
    tracker.metrics(step, {"loss": step})
    tracker.flush()
tracker.finish()
"""
    root = Path(__file__).parents[3]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path), str(i)], cwd=root, stderr=subprocess.PIPE, text=True
        )
        for i in range(8)
    ]
    errors = [process.communicate(timeout=CEILING)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * 8, errors
    writer = open_writer(TrackingConfig(), tmp_path, actor=False)
    runs = writer.client.search_runs([writer.experiment_id])
    assert sorted(run.data.params["index"] for run in runs) == [str(i) for i in range(8)]
    for run in runs:
        assert [step for step, _ in history(store_uri(TrackingConfig(), tmp_path), run.info.run_id, "loss")] == list(
            range(20)
        )


@pytest.mark.slow
def test_a_program_killed_while_it_makes_the_store_leaves_nothing_in_the_way(tmp_path):
    program = "import sys; from hcmoco_ray.tracking.mlflow_store import open_store; open_store(sys.argv[1], 'x')"
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    killed = subprocess.Popen([sys.executable, "-c", program, uri], cwd=Path(__file__).parents[3])

    def some_tables() -> bool:
        return any(each.stat().st_size > 50_000 for each in tmp_path.iterdir() if not each.name.endswith("-journal"))

    wait_until(some_tables, killed, pause=0)
    killed.kill()
    killed.wait()
    assert not (tmp_path / "mlflow.db").exists()
    open_store(uri, "x")
    assert sorted(path.name for path in tmp_path.iterdir() if ".new-" in path.name) == []


@pytest.mark.slow
def test_a_server_is_used_as_it_is(tmp_path):
    port = free_port()
    open_store(f"sqlite:///{tmp_path}/server.db", "made before")
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    stores = [
        "--backend-store-uri",
        f"sqlite:///{tmp_path}/server.db",
        "--artifacts-destination",
        str(tmp_path / "served"),
    ]
    server = subprocess.Popen(
        [*command, *stores],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=tmp_path,
        env={"PATH": str(Path(sys.executable).parent) + ":/usr/bin:/bin", "MLFLOW_DISABLE_TELEMETRY": "true"},
    )
    try:
        config = TrackingConfig(uri=f"http://127.0.0.1:{port}", experiment="served")
        writers = []

        def answers() -> bool:
            with contextlib.suppress(UserError):
                writers.append(open_writer(config, tmp_path / "out", actor=False))
            return bool(writers)

        wait_until(answers, server, pause=0.5)
        (writer,) = writers
        tracker = start_run(writer, params={"seed": 1})
        tracker.metrics(1, {"loss": 1})
        tracker.picture("pictures/a.png", png())
        tracker.flush()
        again = start_run(open_writer(config, tmp_path / "out", actor=False), run_id=tracker.run_id)
        again.metrics(1, {"loss": 1})
        again.metrics(2, {"loss": 2})
        again.finish()
        assert history(config.uri, tracker.run_id, "loss") == [(1, 1.0), (2, 2.0)]
        assert [path.read_bytes() for path in (tmp_path / "served").rglob("a.png")] == [png()]
        assert not (tmp_path / "out").exists()
    finally:
        import psutil

        tree = [*psutil.Process(server.pid).children(recursive=True), server]
        for process in tree:
            process.kill()
        server.wait()


@pytest.mark.slow
def test_an_actor_writes_for_tasks(ray_session, tmp_path):
    import ray

    writer = open_writer(TrackingConfig(), tmp_path, actor=True)
    tracker = start_run(writer, params={"seed": 1})

    @ray.remote(num_cpus=0)
    def train(tracker, picture):
        for step in range(1, 4):
            tracker.metrics(step, {"loss": step})
        tracker.picture("a.png", picture)
        tracker.flush()

    ray.get(train.remote(tracker, png()))
    ray.get(train.remote(tracker, png()))  # a restarted worker repeats its steps
    tracker.finish()
    assert history(store_uri(TrackingConfig(), tmp_path), tracker.run_id, "loss") == [(1, 1.0), (2, 2.0), (3, 3.0)]
    assert (tmp_path / "mlartifacts" / tracker.run_id / "artifacts" / "a.png").read_bytes() == png()

    with pytest.raises(UserError, match="not in sqlite") as caught:
        start_run(writer, run_id="0123456789abcdef0123456789abcdef")
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="cannot be opened"):
        open_writer(TrackingConfig(uri=f"http://127.0.0.1:{free_port()}"), tmp_path, actor=True)

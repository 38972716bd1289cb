import json
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.helpers.waiting import CEILING

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("own-cluster")]

WHERE = """
import json
import hcmoco
import ray, ray.data, ray.train.torch
from hcmoco_ray.cluster.session import connect
from hcmoco_ray.train.launch import TRAIN_ENV
import os
os.environ.update(TRAIN_ENV)

def read(batch):
    import hcmoco
    import pyarrow as pa
    return pa.table({"where": [hcmoco.__file__]})

def worker():
    import hcmoco
    shard = ray.train.get_dataset_shard("train")
    tables = shard.iter_batches(batch_size=None, batch_format="pyarrow")
    return [hcmoco.__file__, *(table["where"][0].as_py() for table in tables)]

cluster = connect()
trainer = ray.train.torch.TorchTrainer(
    worker,
    scaling_config=ray.train.ScalingConfig(num_workers=1, resources_per_worker={"CPU": 0.5}),
    run_config=ray.train.RunConfig(name="where", storage_path=os.environ["HCMOCO_HOME"]),
    datasets={"train": lambda: ray.data.range(1, override_num_blocks=1).map_batches(read, batch_size=None)},
)
print("FOUND", json.dumps([cluster.nodes, hcmoco.__file__, *trainer.fit().return_value]))
"""


@pytest.mark.long
def test_driver_workers_and_data_tasks_import_what_was_submitted(own_cluster, clean_copy):
    (clean_copy / "where.py").write_text(WHERE)
    done = own_cluster.submit("python", "where.py", folder=clean_copy)
    assert done.returncode == 0, done.stdout + done.stderr
    nodes, driver, worker, task = json.loads(done.stdout.split("FOUND ")[1].splitlines()[0])
    assert nodes == 1
    assert "working_dir_files" in driver
    assert worker == task == driver


def test_a_jobs_mistake_is_one_line_and_its_failure_is_the_commands(own_cluster, clean_copy):
    done = own_cluster.submit("python", "pipelines/pretrain.py", "optim.lr=-1", folder=clean_copy)
    assert done.returncode != 0
    errors = {
        line for line in done.stdout.splitlines() if line.startswith("error: ")
    }  # Ray shows a failed job's last lines again
    assert len(errors) == 1
    assert "optim.lr" in errors.pop()
    assert "Traceback" not in done.stdout


TINY = [
    *("stages.stage1_steps=2", "stages.stage2_steps=2", "probe.every=0", "augment.size=64"),
    *("train.lanes=2", "train.batch_size_per_lane=4", "train.window_steps=2", "train.save_every=2"),
    *("data.sources.indoor.people.count=48", "data.sources.wild.people.count=24", "data.held_out.people.count=8"),
    "objective.num_anchors=16",
]

# Folders that programs and people fill, inside a checkout; the last is of the user's own choosing.
FILLED = ("data", "runs", "downloads", "predictions", "results", "mlruns", ".venv", "my-pictures", "dist")

SENT = """
import json, os, pathlib, ray
from ray.experimental.internal_kv import _internal_kv_get
ray.init()
files = [path for path in pathlib.Path(".").rglob("*") if path.is_file()]
package = len(_internal_kv_get(ray.get_runtime_context().runtime_env["working_dir"]))
tops = sorted({path.parts[0] for path in files})
print("SENT", json.dumps([package, sum(path.stat().st_size for path in files), tops]))
"""


def assert_trained(run: Path) -> None:
    assert any(run.glob("states/*/COMPLETE"))
    assert any(run.glob("export/**/*.safetensors"))
    assert (run / "mlflow.db").is_file()


def test_a_job_carries_the_code_and_nothing_that_a_checkout_holds(own_cluster, clean_copy):
    shutil.copy(ROOT / ".rayignore", clean_copy)
    (clean_copy / "sent.py").write_text(SENT)
    for name in FILLED:
        (clean_copy / name).mkdir()
        with (clean_copy / name / "large").open("wb") as file:
            file.truncate(600 << 20)  # with one of them the cluster would answer 413
    done = own_cluster.submit("python", "sent.py", folder=clean_copy)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    package, size, tops = json.loads(done.stdout.split("SENT ")[1].splitlines()[0])
    assert set(tops) == {"hcmoco", "hcmoco_ray", "pipelines", "recipes", "tuning", "sent.py"}
    code = sum(
        path.stat().st_size
        for part in tops
        for path in [clean_copy / part, *(clean_copy / part).rglob("*")]
        if path.is_file()
    )
    assert size == code
    assert package < 64 << 20

    done = own_cluster.submit("python", "pipelines/pretrain.py", *TINY, "output_dir=runs/job", folder=clean_copy)
    assert done.returncode == 0, done.stdout + done.stderr
    assert_trained(own_cluster.home / "runs" / "job")
    assert [path.name for path in (clean_copy / "runs").iterdir()] == ["large"]


@pytest.mark.long
def test_a_script_runs_without_a_working_dir_where_ray_was_started_in_the_checkout(own_cluster, tmp_path):
    command = ["python", "pipelines/pretrain.py", *TINY, "output_dir=runs/no-working-dir"]
    done = own_cluster.submit(*command, folder=tmp_path, working_dir=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert_trained(own_cluster.home / "runs" / "no-working-dir")


@pytest.mark.long
def test_the_installed_command_runs_as_a_job(own_cluster, tmp_path):
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target", "site", str(ROOT)]
    subprocess.run([sys.executable, *install], cwd=tmp_path, check=True, capture_output=True, timeout=CEILING)
    # The package that is found is the installed one, with its own recipes; the checkout's is out of sight.
    environment = {"PATH": f"{tmp_path / 'site' / 'bin'}:{own_cluster.environment['PATH']}"}
    environment |= {"PYTHONPATH": str(tmp_path / "site")}
    command = ["ray", "job", "submit", "--runtime-env-json", json.dumps({"env_vars": environment}), "--"]
    command += ["hcmoco", "pretrain", "--recipe", "people-cpu", *TINY, "output_dir=runs/installed"]
    done = subprocess.run(
        command, cwd=tmp_path, env=own_cluster.environment, capture_output=True, text=True, timeout=CEILING
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert_trained(own_cluster.home / "runs" / "installed")


def test_without_the_token_nothing_is_answered(own_cluster):
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{own_cluster.address}/api/jobs/", timeout=CEILING)
    assert refused.value.code in (401, 403)
    environment = {**own_cluster.environment, "RAY_AUTH_TOKEN_PATH": "", "RAY_AUTH_TOKEN": "0" * 64}
    command = ["ray", "job", "submit", "--", "true"]
    assert subprocess.run(command, env=environment, capture_output=True, timeout=CEILING, check=False).returncode != 0

import json
import subprocess
import urllib.error
import urllib.request

import pytest

from tests.helpers.waiting import CEILING

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


def test_pretraining_as_a_job(own_cluster, clean_copy):
    tiny = [
        "stages.stage1_steps=2",
        "stages.stage2_steps=2",
        "train.lanes=2",
        "train.batch_size_per_lane=4",
        "train.window_steps=2",
        "train.save_every=2",
    ]
    tiny += ["augment.size=64", "data.sources.indoor.people.count=48", "data.sources.wild.people.count=24"]
    tiny += ["data.held_out.people.count=8", "objective.num_anchors=16", "output_dir=runs/job"]
    done = own_cluster.submit("python", "pipelines/pretrain.py", "--recipe", "people-cpu", *tiny, folder=clean_copy)
    assert done.returncode == 0, done.stdout + done.stderr
    run = own_cluster.home / "runs" / "job"
    assert any(run.glob("states/*/COMPLETE"))
    assert any(run.glob("export/**/*.safetensors"))
    assert (run / "mlflow.db").is_file()
    assert not (clean_copy / "runs").exists()


def test_without_the_token_nothing_is_answered(own_cluster):
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{own_cluster.address}/api/jobs/", timeout=CEILING)
    assert refused.value.code in (401, 403)
    environment = {**own_cluster.environment, "RAY_AUTH_TOKEN_PATH": "", "RAY_AUTH_TOKEN": "0" * 64}
    command = ["ray", "job", "submit", "--", "true"]
    assert subprocess.run(command, env=environment, capture_output=True, timeout=CEILING, check=False).returncode != 0

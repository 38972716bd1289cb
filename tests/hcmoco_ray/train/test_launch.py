"""What Ray Train is told."""

import subprocess
import sys

from hcmoco_ray.train import launch


def test_ray_train_knows_the_variables_that_are_set():
    from ray.train.v2._internal import constants

    known = {value for name, value in vars(constants).items() if name.endswith("ENV_VAR")}
    for name in (*launch.TRAIN_ENV, *launch.GPU_ENV):
        assert name in known or name == "RAY_DATA_DISABLE_PROGRESS_BARS", name
    assert launch.GPU_ENV["RAY_TRAIN_NCCL_RAS_ACTION"] == constants.NCCL_RAS_ACTION_FAIL


def test_what_ray_s_own_processes_import_is_small():
    """The controller, the holders of datasets and the readers start often; PyTorch and timm cost them seconds."""
    code = "import sys, hcmoco_ray.train.launch, hcmoco_ray.ingest.dataset; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "torchvision", "timm", "mlflow"} & set(done.stdout.split())

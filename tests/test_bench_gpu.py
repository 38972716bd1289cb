"""The benchmark of a GPU: its code runs on a CPU, alone with `hcmoco`; without a GPU it says so in one line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks._results import gpu_state
from benchmarks.gpu import ARMS, CPU_ARMS
from hcmoco.pretraining.config import PretrainConfig
from tests.test_layout import PROGRAM

ROOT = Path(__file__).resolve().parents[1]
# As tests/test_layout.py refuses to import Ray and MLflow, and then the benchmark.
ALONE = f"{PROGRAM.partition('for name')[0]}\nimport runpy\nrunpy.run_path(sys.argv[0], run_name='__main__')\n"


def run(*arguments: str, tmp_path: Path) -> subprocess.CompletedProcess:
    script = str(ROOT / "benchmarks" / "gpu.py")
    program = f"import sys; sys.argv[:] = {[script, *arguments]!r}\n{ALONE}"
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache"),
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
    }
    return subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=tmp_path, capture_output=True, text=True
    )


def quick(arms: list[str], tmp_path: Path) -> dict:
    """The result of a quick run."""
    done = run("--device", "cpu", "--quick", "--arms", ",".join(arms), "--results", str(tmp_path), tmp_path=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "waits for a GPU" not in done.stderr
    (path,) = tmp_path.glob("*.json")
    result = json.loads(path.read_text())
    rows = {row["what"]: row for row in result["rows"]}
    assert rows["places in a step that wait for the device"]["met"] is True
    for arm in arms:
        for what in ("images/s of a step", "images/s / test_resnet's", "encoders alone / step"):
            row = rows[f"{arm}: {what}"]
            assert 0 < row["range"][0] <= row["median"] <= row["range"][1]
            assert len(row["values"]) == 2
        assert rows[f"{arm}: first step beyond a later one"]["median"] >= 0
    assert result["settings"]["rows"] == "8 (6 with depth)"
    assert result["machine"]["gpu"] is None
    return result


def test_it_runs_on_a_cpu_without_ray_and_mlflow(tmp_path):
    assert quick(["float32", "float32-channels-first"], tmp_path)["benchmark"] == "gpu-people-cpu-quick"


@pytest.mark.slow
@pytest.mark.long
def test_all_of_it_runs_on_a_cpu(tmp_path):
    assert "left out" not in quick(list(CPU_ARMS), tmp_path)["settings"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_in_one_line_and_what_that_says_helps(tmp_path):
    done = run(tmp_path=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: benchmarks/gpu.py: PyTorch ")
    assert "finds no GPU here" in done.stderr
    assert "--device cpu --quick runs the same code on a CPU" in done.stderr
    assert done.stderr.count("\n") == 1
    state = gpu_state()
    assert state["cuda"] == torch.version.cuda
    assert state["error"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--device", "cpu"], "on a CPU this takes hours"),
        (["--device", "cpu", "--quick", "--arms", "tf32,float32"], "--arms tf32: allowed on cpu are float32,bfloat16,"),
        (["--device", "cpu", "--quick", "--recipes", "people"], "--recipes people: allowed on cpu are people-gpu,"),
    ],
)
def test_what_it_cannot_do_is_one_line(arguments, said, capsys, monkeypatch):
    from benchmarks.gpu import main

    monkeypatch.setattr(sys, "argv", ["gpu.py", *arguments])
    assert main() == 2
    line = capsys.readouterr().err
    assert line.startswith(f"error: benchmarks/gpu.py: {said}")
    assert line.count("\n") == 1


@pytest.mark.parametrize("recipe", ["people-gpu", "paper-w18", "people-cpu"])
def test_every_arm_is_a_config_of_every_recipe(recipe):
    from benchmarks.step import load_config, make_plan

    for gpu, arms in ((True, ARMS), (False, CPU_ARMS)):
        for arm in arms.values():
            config = load_config(recipe, arm.overrides(gpu))
            assert isinstance(config, PretrainConfig)
            assert (config.train.precision, config.train.compile) == (arm.precision, arm.compiled)
            assert make_plan(config).lanes == config.train.lanes

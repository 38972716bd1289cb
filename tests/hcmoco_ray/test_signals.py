"""A Ctrl-C or SIGTERM ends every program in every phase, and leaves no process behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.pretrain_program import tracked, write_recipe
from tests.helpers.started import ROOT, Started

SAID = "\nstopped; the same command resumes from what is saved\n"
STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143}
PROGRAMS = {
    "pipelines": ("prepare", "pretrain", "finetune", "evaluate", "predict", "embed", "report", "export"),
    "tuning": ("sweep", "label_fractions", "ablation", "backbones", "versatility"),
}
LONG = ("stages.stage1_steps=5000", "train.save_every=10", "probe.every=1000")


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    write_recipe(folder)
    return folder


def pretrain(home: Path, *overrides: str, python: tuple[str, ...] = (), **environment: str) -> Started:
    command = ("pipelines/pretrain.py", "--recipe", str(home / "tiny.yaml"), *overrides)
    return Started(*python, *command, HCMOCO_HOME=str(home), **environment)


# Runs a script up to the import of its command, which then takes an hour, either as Python looks for it (a disk
# that does not answer) or as it runs. A program that imports little could else end before the signal.
STALLED = """
import importlib.util, runpy, sys, time

class Stall:
    def find_spec(name, path=None, target=None):
        if name == "hcmoco_ray.commands.{command}":
            stall("finding")
            return importlib.util.spec_from_loader(name, Stall)

    def create_module(spec):
        pass

    def exec_module(module):
        stall("running")

def stall(moment):
    if moment == "{moment}":
        print(moment, flush=True)
        time.sleep(3600)

sys.meta_path.insert(0, Stall)
runpy.run_path("{script}", run_name="__main__")
"""


def importing(script: str, moment: str) -> None:
    number = signal.SIGTERM if len(script) % 2 else signal.SIGINT
    code = STALLED.format(script=script, command=Path(script).stem, moment=moment)
    program = Started("-c", code, "--help").until(f"^{moment}$")
    assert program.stop(number) == (STATUS[number], SAID)


@pytest.mark.parametrize("script", [f"{folder}/{name}.py" for folder, names in PROGRAMS.items() for name in names])
def test_while_importing(script):
    importing(script, "running")


def test_while_a_disk_does_not_answer():
    importing("pipelines/pretrain.py", "finding")


def test_while_importing_pytorch(home):
    program = pretrain(home, python=("-X", "importtime")).until(r"\| +torch\.version$")
    status, said = program.stop(signal.SIGINT, group=True, times=2)
    assert (status, said.count(SAID)) == (130, 1)
    assert "Traceback" not in said


@pytest.mark.parametrize("target", ["pretrain", "tables", "people", "test", "test-slow", "lint", "bench"])
def test_make_passes_a_sigterm_on(tmp_path, target):
    """Without a shell in between, which would end alone; whatever runs is not this environment's Python."""
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text("#!/bin/sh\necho up\nexec sleep 600\n")
    python.chmod(0o755)
    number = subprocess.run(
        "pwd | cksum | cut -d' ' -f1", shell=True, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    (tmp_path / f".hcmoco-{number}").touch()  # the stamp of an environment that is complete
    command = ["make", target, f"VENV={tmp_path}", "ARGS=-k 'this or that'"]
    program = Started("-c", f"import os; os.execvp('make', {command})", VENV="").until("^up$")
    program.stop(signal.SIGTERM)


@pytest.mark.slow
def test_while_ray_starts(home):
    program = pretrain(home)
    program.until(program.family)
    status, said = program.stop(signal.SIGTERM)
    assert (status, said.removeprefix("starting Ray on this machine\n")) == (143, SAID)


@pytest.mark.slow
@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.long), signal.SIGTERM])
def test_while_people_are_made(tmp_path, number):
    """A second key press changes nothing."""
    command = ("pipelines/prepare.py", "people", "--out", "people", "--count", "5000", "--size", "64")
    program = Started(*command, HCMOCO_HOME=str(tmp_path)).until(
        lambda: any(tmp_path.glob("people/_parts/part-*.json"))
    )
    status, said = program.stop(number, group=number == signal.SIGINT, times=2)
    assert status == STATUS[number]
    assert said.endswith(SAID)
    assert not (tmp_path / "people" / "manifest.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("workers", "number"),
    [
        (1, signal.SIGINT),  # the driver trains: Ray would end it with a status of its own
        pytest.param(1, signal.SIGTERM, marks=pytest.mark.long),
        pytest.param(2, signal.SIGINT, marks=pytest.mark.long),
    ],
)
def test_while_training(home, workers, number):
    out = home / "runs" / f"{workers}-{number}"
    program = pretrain(home, *LONG, f"train.workers={workers}", f"output_dir={out}").until(
        (out / "states/step-00000010/COMPLETE").exists
    )
    status, said = program.stop(number, group=number == signal.SIGINT)
    assert status == STATUS[number]
    assert said.endswith(SAID)
    assert "Traceback" not in said
    assert [run["status"] for run in tracked(out)] == ["KILLED"]


@pytest.mark.slow
@pytest.mark.long
def test_a_joined_cluster_stays_and_what_the_program_had_there_ends(home, own_cluster):
    out = home / "runs" / "joined"
    cluster = {key: value for key, value in own_cluster.environment.items() if key.startswith("RAY_")}
    program = pretrain(home, *LONG, "train.workers=2", f"output_dir={out}", **cluster, RAY_ADDRESS=own_cluster.gcs)
    program.until((out / "states/step-00000010/COMPLETE").exists)
    assert (
        len(there(own_cluster, 0)) >= 5
    )  # the writer, the line, the controller, two workers and their placement group
    status, said = program.stop(signal.SIGTERM)
    assert status == 143
    assert said.endswith(SAID)
    assert [run["status"] for run in tracked(out)] == ["KILLED"]
    assert there(own_cluster, 60) == []


def there(cluster, seconds: float) -> list[str]:
    """Wait until the cluster has no actors and placement groups or `seconds` have passed, and return those left.

    Those that Ray itself keeps for the next program do not count.
    """
    code = f"""
import time, ray
from ray.util.state import list_actors, list_placement_groups
ray.init({cluster.gcs!r}, log_to_driver=False)
until = time.monotonic() + {seconds}
while True:
    left = [each.class_name for each in list_actors(detail=True) if each.state != "DEAD" and not each.is_detached]
    left += [each.placement_group_id for each in list_placement_groups() if each.state != "REMOVED"]
    if not left or time.monotonic() > until:
        break
    time.sleep(0.5)
print(*left, sep=",")
"""
    run = [sys.executable, "-c", code]
    done = subprocess.run(
        run, env=cluster.environment, cwd="/", capture_output=True, text=True, timeout=300, check=True
    )
    return [each for each in done.stdout.splitlines()[-1].split(",") if each]


TESTS = """
import subprocess, sys, time

def test_something_else():
    wait("A")

def test_with_a_program():
    wait("B")

def wait(name):
    code = "import subprocess, time; subprocess.Popen(['sleep', '600'], start_new_session=True); "
    code += "print('up', flush=True); time.sleep(600)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True)
    process.stdout.readline()
    open(f"{FOLDER}/{name}", "w").close()
    while True:
        try:
            time.sleep(600)
        except BaseException:
            pass
"""


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "number"), [("0", signal.SIGINT), ("2", signal.SIGTERM)])
def test_a_test_run_whose_tests_catch_everything(tmp_path, workers, number):
    """With the hooks of this folder's conftest.py; its tests' processes have sessions of their own."""
    (tmp_path / "conftest.py").write_text("from tests.helpers.ending import pytest_configure, pytest_sessionstart\n")
    (tmp_path / "test_it.py").write_text(f"FOLDER = {str(tmp_path)!r}\n{TESTS}")
    path = f"{ROOT}{os.pathsep}{ROOT / 'tests'}"
    program = Started("-m", "pytest", "-q", "-n", workers, "--rootdir", str(tmp_path), str(tmp_path), PYTHONPATH=path)
    program.until(lambda: len(list(tmp_path.glob("[AB]"))) == max(1, int(workers)))
    assert program.stop(number)[0] == STATUS[number]

"""A process that stands by a training worker becomes the next one, and ends with its program."""

import os
import signal

import psutil
import pytest

from hcmoco_ray.cluster import idle_processes, session
from hcmoco_ray.compat import IMPORTS
from hcmoco_ray.train import spares
from hcmoco_ray.train.launch import TRAIN_ENV
from tests.helpers.pretrain_program import newest, write_recipe
from tests.helpers.started import ROOT, Started
from tests.helpers.waiting import wait_until

LONG = (
    "stages={stage1_steps: 10, stage2_steps: 90000}",
    "train.save_every=50",
    "train.workers=2",
    "spare_workers=true",
)


@pytest.mark.parametrize(
    ("chosen", "joined", "kept"),
    [(None, "", False), (None, "a:6379", True), (False, "a:6379", False), (True, "", True)],
)
def test_where_none_is_chosen_they_are_kept_on_a_cluster_that_is_joined(monkeypatch, chosen, joined, kept):
    monkeypatch.setattr(spares, "joined_address", lambda: joined)
    assert spares.wanted(chosen) is kept


def test_what_ray_train_puts_into_its_workers_environment():
    from ray.train.v2._internal.constants import ENV_VARS_TO_PROPAGATE

    assert set(TRAIN_ENV) & ENV_VARS_TO_PROPAGATE == idle_processes.SENT_TO_WORKERS


def test_a_process_that_waits_imports_what_its_environment_names(ray_session, tmp_path):
    (tmp_path / "named_module.py").write_text("import pathlib\npathlib.Path(__file__).with_suffix('.seen').touch()\n")
    paths = {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    idle_processes.start_idle_processes(1, 1, paths | spares.environment("named_module")["env_vars"])
    wait_until((tmp_path / "named_module.seen").exists, pause=0.1)


def test_a_process_that_works_imports_nothing_ahead(tmp_path, monkeypatch):
    (tmp_path / "other_module.py").write_text("raise AssertionError")
    monkeypatch.syspath_prepend(tmp_path)
    session._import_while_idle("other_module")


def processes(program: Started, name: str) -> set[int]:
    """The ids of the program's processes of a name that Ray gave, in the environment of a training worker."""
    found = set()
    for each in program.family():
        try:
            title = " ".join(each.cmdline())
            if title.startswith("ray::") and name in title and IMPORTS in each.environ():
                found.add(each.pid)
        except psutil.Error:
            continue
    return found


@pytest.mark.slow
def test_spares_become_the_workers_after_a_loss(tmp_path):
    out = tmp_path / "runs/spares"
    command = ("pipelines/pretrain.py", "--recipe", str(write_recipe(tmp_path)), *LONG, f"output_dir={out}")
    program = Started(*command, HCMOCO_HOME=str(tmp_path))

    def workers() -> set[int]:
        return processes(program, "TrainWorker")

    def two_spares() -> bool:
        return len(processes(program, "IDLE")) == 2

    program.until(lambda: list(out.glob("states/*/COMPLETE"))).until(two_spares)
    spare, first = processes(program, "IDLE"), workers()
    assert len(first) == 2
    os.kill(min(first), signal.SIGKILL)
    program.until(lambda: len(workers() - first) == 2)
    assert workers() - first == spare
    step = newest(out).step
    program.until(lambda: newest(out).step > step).until(two_spares)
    status, _ = program.stop(signal.SIGTERM)  # and nothing is left
    assert status == 143
    assert "going on from step" in program.whole
    assert "Traceback" not in program.whole

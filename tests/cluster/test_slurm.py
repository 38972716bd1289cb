"""`deploy/slurm.sh` on a Slurm of two nodes: a job whose time is over goes back to the queue and resumes."""

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.helpers.pretrain_program import differences, newest, write_recipe
from tests.helpers.slurm import REASON, Slurm, unavailable
from tests.helpers.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.long]

ROOT = Path(__file__).parents[2]
STEPS = 43  # enough that the signal comes long before the end


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    if why := unavailable():
        pytest.skip(f"{REASON}: {why}")
    with Slurm(nodes=2, cpus=2) as slurm:
        yield slurm


class Job:
    """A program of the checkout, submitted by the script to both nodes."""

    def __init__(self, slurm: Slurm, name: str, *command: str, options: Sequence[str] = ()):
        self._slurm = slurm
        home = slurm.shared / "home"
        home.mkdir(exist_ok=True)
        self._log = slurm.shared / f"{name}.log"
        environment = {"HCMOCO_HOME": str(home), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        environment |= {"OBJECT_STORE_BYTES": str(150 << 20), "RAY_memory_monitor_refresh_ms": "0"}
        given = ["--parsable", "--cpus-per-task=2", f"--output={self._log}", *options]
        self._id = slurm.run(["sbatch", *given, "deploy/slurm.sh", *command], environment).strip()

    @property
    def said(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    def field(self, name: str) -> str:
        """A field of `scontrol show job`."""
        return re.search(rf"\b{name}=(\S*)", self._slurm.run(["scontrol", "show", "job", self._id]))[1]

    def take_away(self) -> None:
        """What Slurm does `--signal=B:USR1@300` before the limit, and then, two minutes sooner, the next start."""
        self._slurm.run(["scancel", "--batch", "--signal=USR1", self._id])
        wait_until(lambda: self.field("JobState") in ("PENDING", "FAILED", "COMPLETED"), pause=0.5)
        assert self.field("JobState") == "PENDING", self.said
        self._slurm.run(["scontrol", "update", f"JobId={self._id}", "StartTime=now"])

    def finish(self) -> str:
        """Waits for the end and returns Slurm's word for it."""
        running = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING")
        wait_until(lambda: self.field("JobState") not in running, pause=0.5)
        return self.field("JobState")


class Pretraining(Job):
    def __init__(self, slurm: Slurm, name: str):
        self.out = slurm.shared / "home" / "runs" / name
        self.out.parents[1].mkdir(exist_ok=True)
        recipe = write_recipe(self.out.parents[1])
        overrides = [f"output_dir=runs/{name}", "stages.stage1_steps=3", f"stages.stage2_steps={STEPS - 3}"]
        overrides += ["probe.every=0", "train.workers=2", "train.placement=spread"]
        super().__init__(slurm, name, "python", "pipelines/pretrain.py", "--recipe", str(recipe), *overrides)


def test_a_job_that_is_taken_away_resumes_and_changes_no_bit(slurm: Slurm):
    undisturbed = Pretraining(slurm, "undisturbed")
    assert undisturbed.finish() == "COMPLETED", undisturbed.said

    job = Pretraining(slurm, "taken-away")
    wait_until(lambda: list(job.out.glob("states/step-*/COMPLETE")) or job.field("JobState") == "FAILED", pause=0.2)
    job.take_away()
    stopped_at = newest(job.out).step
    assert 0 < stopped_at < STEPS
    assert job.finish() == "COMPLETED", job.said

    assert job.field("Restarts") == "1"
    first, second = re.findall(r"^workers: rank 0 on (\S+); rank 1 on (\S+)$", job.said, re.MULTILINE)
    assert first[0] != first[1]
    assert second[0] != second[1]
    assert newest(job.out).step == STEPS
    assert not differences(newest(undisturbed.out), newest(job.out))


def test_a_program_that_fails_ends_its_job_with_its_status(slurm: Slurm):
    job = Job(slurm, "failing", "python", "pipelines/pretrain.py", "--recipe", "no-such-recipe")
    assert job.finish() == "FAILED", job.said
    assert job.field("ExitCode") == "2:0"
    assert "error: recipe " in job.said
    assert job.field("Restarts") == "0"


def test_a_job_takes_from_the_shell_only_what_it_names(slurm: Slurm):
    """Sites that set SBATCH_EXPORT=NONE do so for all: what the script exports must reach the nodes all the same."""
    environment = Path(sys.executable).parents[1]
    given = [f"--export=NONE,VENV={environment},PYTHONPATH={ROOT},OBJECT_STORE_BYTES={150 << 20}"]
    job = Job(slurm, "bare", "python", "pipelines/pretrain.py", "--recipe", "no-such-recipe", options=given)
    assert job.finish() == "FAILED", job.said
    assert job.field("ExitCode") == "2:0"
    assert "error: recipe " in job.said


def test_a_node_without_the_environment_is_named_before_ray_starts(slurm: Slurm):
    with slurm.hidden(2, Path(sys.executable).parents[1]):
        job = Job(slurm, "hidden", "python", "pipelines/pretrain.py")
        assert job.finish() == "FAILED", job.said
    assert job.field("ExitCode") == "2:0"
    assert "error: node slurm-2: there is no ray" in job.said
    assert "Starting Ray" not in job.said

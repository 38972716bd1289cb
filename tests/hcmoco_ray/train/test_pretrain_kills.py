"""Several workers, and what a SIGKILL of any process changes: nothing."""

import re
import signal
import subprocess

import pytest

from tests.helpers.imported import with_pytorch
from tests.helpers.killing_workers import killing
from tests.helpers.pretrain_program import (
    PROGRESS,
    Done,
    call,
    differences,
    interrupted_at,
    newest,
    numbers,
    start,
    tracked,
    write_recipe,
)
from tests.helpers.waiting import CEILING, wait_until

pytestmark = pytest.mark.slow

# A state is written beside the steps, of which some are done before it is seen: enough are left then.
STEPS = 24
ONE = [
    f"stages={{stage1_steps: 6, stage2_steps: {STEPS - 6}}}",
    "train.save_every=4",
    "train.lanes=6",
    "train.batch_size_per_lane=2",
]
TWO = [*ONE, "train.workers=2"]
THREE = [*ONE, "train.workers=3", "train.cpus_per_worker=0.3"]


@pytest.fixture(scope="module")
def two(finished, tiny_home) -> Done:
    """An undisturbed run of two workers."""
    return call(tiny_home, *TWO, "output_dir=runs/two")


def test_two_workers_come_to_the_end_quietly(two):
    assert two.status == 0, two
    assert not [line for line in two.err.splitlines() if not re.match(PROGRESS, line)]
    assert "batch norm and in-batch negatives see 6 of them" in two.out
    assert newest(two.folder).step == STEPS


def test_only_workers_import_pytorch(finished, tiny_home):
    """Ray Train's own actors and the processes that read start anew with each group of workers."""
    # An item a step: a process that reads is called so until the last items are taken, long enough to be looked at.
    slowly = ["train.window_steps=1", "train.save_every=100", "output_dir=runs/imports"]
    with with_pytorch("TrainController", "SynchronizationActor", "MapBatches", "RayTrainWorker") as seen:
        done = call(tiny_home, *[each for each in TWO if "save_every" not in each], *slowly)
    assert done.status == 0, done
    own = dict.fromkeys(("TrainController", "SynchronizationActor", "MapBatches"), False)
    assert seen == {**own, "RayTrainWorker": True}


@pytest.mark.long
def test_workers_killed_during_a_save_between_the_stages_and_in_a_window(two, tiny_home):
    states = tiny_home / "runs" / "killed" / "states"
    moments = [
        ((states / "step-00000004").exists, 0),
        ((states / "step-00000006" / "COMPLETE").exists, 1),
        ((states / "step-00000008" / "COMPLETE").exists, 0),
    ]
    with killing(moments) as killed:
        done = call(tiny_home, *TWO, "output_dir=runs/killed")
    assert done.status == 0, done
    assert len(killed) == 3
    assert differences(newest(done.folder), newest(two.folder)) == []
    assert numbers(done.folder) == numbers(two.folder)


@pytest.mark.long
def test_workers_lost_too_often(two, tiny_home):
    states = tiny_home / "runs" / "lost" / "states"
    with killing([((states / "step-00000004" / "COMPLETE").exists, 1)]):
        line = call(tiny_home, *TWO, "max_restarts=0", "output_dir=runs/lost").error
    assert line.startswith("training workers were lost more often than max_restarts = 0 allows (")
    assert "; the same command resumes from the newest train state; " in line


@pytest.mark.long
def test_three_workers_killed(finished, tiny_home):
    whole = call(tiny_home, *THREE, "output_dir=runs/three")
    assert whole.status == 0, whole
    states = tiny_home / "runs" / "three-killed" / "states"
    with killing(
        [((states / "step-00000006" / "COMPLETE").exists, 2), ((states / "step-00000008").exists, 0)]
    ) as killed:
        done = call(tiny_home, *THREE, "output_dir=runs/three-killed")
    assert done.status == 0, done
    assert len(killed) == 2
    assert differences(newest(done.folder), newest(whole.folder)) == []
    assert numbers(done.folder) == numbers(whole.folder)


def test_the_driver_killed_while_people_are_made_and_while_two_train(two, tmp_path):
    """Everything of the program dies at once, twice; a third start finishes with the bits of the undisturbed run."""
    write_recipe(tmp_path)
    out = tmp_path / "runs" / "two"
    for moment in (
        tmp_path / "data" / "wild" / "_parts" / "request.json",
        out / "states" / "step-00000004" / "COMPLETE",
    ):
        process = start(tmp_path, *TWO, "output_dir=runs/two", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(moment.exists, process, pause=0.002)
        process.kill()
        process.wait()
    indoor = (tmp_path / "data" / "indoor" / "part-00000.parquet").stat().st_mtime_ns
    process = start(tmp_path, *TWO, "output_dir=runs/two", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    printed, said = process.communicate(timeout=CEILING)
    assert process.returncode == 0, said
    assert not [line for line in said.splitlines() if not re.match(PROGRESS, line)]
    assert re.search(rf"^resuming from step \d+ of {STEPS}$", printed, re.MULTILINE)
    assert (tmp_path / "data" / "indoor" / "part-00000.parquet").stat().st_mtime_ns == indoor
    assert differences(newest(out), newest(two.folder)) == []
    assert numbers(out) == numbers(two.folder)


def test_one_worker_and_two_train_on_the_same(two, tiny_home):
    """Compare the rows of each term by data set, and the rows in the banks. Weights differ with the batches."""
    one = call(tiny_home, *TWO, "train.workers=1", "output_dir=runs/one")
    assert one.status == 0, one
    alone, together = numbers(one.folder), numbers(two.folder)
    terms = ("g", "d", "s/rgb", "s/depth")
    counts = (*(f"train/num_anchors/{term}" for term in terms), "train/rows/", "train/epochs/", "train/lr")
    same = [name for name in alone if name.startswith(counts)]
    assert len(same) > 30
    for name in same:
        share = 1 if name.startswith(("train/epochs/", "train/lr")) else 2  # counts are means over the workers
        assert [(step, value) for step, value in alone[name]] == [
            (step, share * value) for step, value in together[name]
        ], name
    one_bank, two_bank = newest(one.folder).bank, newest(two.folder).bank
    for modality in ("rgb", "depth", "keypoints"):
        assert one_bank[f"{modality}.visited"].any()
        assert one_bank[f"{modality}.visited"].equal(two_bank[f"{modality}.visited"])


@pytest.mark.long
def test_two_workers_interrupted(two, tiny_home):
    out, before = tiny_home / "runs" / "interrupted", signal.getsignal(signal.SIGINT)
    with interrupted_at(out / "states" / "step-00000004" / "COMPLETE"):
        stopped = call(tiny_home, *TWO, "output_dir=runs/interrupted")
    assert stopped.status == 130
    assert stopped.err.endswith("\nstopped; the same command resumes from what is saved\n")
    assert tracked(out)[0]["status"] == "KILLED"
    assert signal.getsignal(signal.SIGINT) is before
    assert call(tiny_home, *TWO, "output_dir=runs/interrupted").status == 0
    assert differences(newest(out), newest(two.folder)) == []
    assert numbers(out) == numbers(two.folder)


@pytest.mark.long
def test_a_run_goes_on_with_another_number_of_workers(two, tiny_home):
    out = tiny_home / "runs" / "grown"
    stages = [*ONE, "output_dir=runs/grown"]
    with interrupted_at(out / "states" / "step-00000004" / "COMPLETE"):
        assert call(tiny_home, *stages).status == 130
    done = call(tiny_home, *stages, "train.workers=2")
    assert done.status == 0, done
    (run,) = tracked(out)
    assert run["params"]["train.workers"] == "1"
    assert [step for step, _ in run["metrics"]["train/loss"]] == list(range(1, STEPS + 1))
    ours, theirs = numbers(out), numbers(two.folder)
    assert ours["train/epochs/indoor"] == theirs["train/epochs/indoor"]


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.long)])
def test_sigusr1_saves_a_state_and_ends(two, tmp_path, workers):
    """As a batch system asks for it: no step is lost, and the same command resumes."""
    write_recipe(tmp_path)
    out = tmp_path / "runs" / "asked"
    given = [*TWO, f"train.workers={workers}", "output_dir=runs/asked"]
    given += ["stages={stage1_steps: 1000, stage2_steps: 1000}"]
    given += ["train.save_every=1000", "data.held_out=null"]
    process = start(tmp_path, *given, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    said = []
    for line in process.stderr:
        said.append(line)
        if re.match(r"step [1-9]", line):
            process.send_signal(signal.SIGUSR1)
            break
    said += process.stderr.readlines()
    assert process.wait(CEILING) == 75, said
    found = re.search(
        r"^stopped; .*the train state of step (\d+) is complete; the same command resumes", "".join(said), re.M
    )
    assert found, said
    assert newest(out).step == int(found[1]) < 2000
    assert tracked(out)[0]["status"] == "KILLED"

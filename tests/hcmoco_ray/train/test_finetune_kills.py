"""Several workers in a fine-tuning, and what a SIGKILL of any process changes: nothing."""

import re
import subprocess

import pytest

from hcmoco.config import build, merge
from hcmoco.data.shards.reader import Shards
from hcmoco.finetuning.config import FinetuneConfig
from hcmoco.finetuning.encoder_init import load_encoder_init
from hcmoco.finetuning.resolve import resolve
from hcmoco.finetuning.saved_model import load_model
from tests.helpers import finetune_program as tiny
from tests.helpers.killing_workers import killing, train_workers
from tests.helpers.pretrain_program import PROGRESS, Done, differences, interrupted_at, newest, numbers, tracked
from tests.helpers.waiting import CEILING, wait_until

pytestmark = pytest.mark.slow

LONG = ["steps=12", "num_evals=4", "train.save_every=2", "train.num_checkpoints=9"]
TWO = [*LONG, "train.workers=2"]


def equal(done: Done, undisturbed: Done) -> None:
    """Asserts that two runs ended in the same, bit for bit."""
    assert differences(newest(done.folder), newest(undisturbed.folder)) == []
    assert numbers(done.folder) == numbers(undisturbed.folder)
    assert tiny.results(done.folder) == tiny.results(undisturbed.folder)
    models = [load_model(str(each.folder)).model().state_dict() for each in (done, undisturbed)]
    assert tiny.same(*models)


@pytest.fixture(scope="module")
def one(ray_session, finetune_home) -> Done:
    """An undisturbed run of one worker."""
    return tiny.call(finetune_home, "pose", *LONG, "output_dir=runs/one")


@pytest.fixture(scope="module")
def two(ray_session, finetune_home) -> Done:
    """An undisturbed run of two workers."""
    return tiny.call(finetune_home, "pose", *TWO, "output_dir=runs/two")


@pytest.mark.long
def test_two_workers_come_to_the_end_quietly(two):
    assert two.status == 0, two
    assert not [
        line
        for line in two.err.splitlines()
        if line and not line.startswith(("starting 2 workers", "step ", "scoring"))
    ]
    assert newest(two.folder).step == 12
    assert tiny.results(two.folder)["test"]["rows"] == 11


@pytest.mark.long
def test_the_driver_killed_twice(one, tmp_path):
    """All processes are killed while training, then while closing; a third start gives the bits of a whole run."""
    tiny.write_recipes(tmp_path)
    out = tmp_path / "runs" / "one"
    for moment in (out / "states" / "step-00000006" / "COMPLETE", out / "model" / "config.json"):
        process = tiny.start(
            tmp_path, "pose", *LONG, "output_dir=runs/one", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_until(moment.exists, process, pause=0.002)
        process.kill()
        process.wait()
        assert not (out / "results.json").exists()
    process = tiny.start(
        tmp_path, "pose", *LONG, "output_dir=runs/one", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    printed, said = process.communicate(timeout=CEILING)
    assert process.returncode == 0, said
    assert not [line for line in said.splitlines() if line and not re.match(rf"{PROGRESS}|scoring", line)]
    assert re.search(r"^resuming from step 12 of 12$", printed, re.MULTILINE)
    equal(Done(0, printed, said, out), one)
    assert len(tracked(out)) == 1


@pytest.mark.long
def test_workers_killed_while_they_train_and_while_they_score(two, finetune_home):
    states = finetune_home / "runs" / "two-killed" / "states"
    # Validation follows step 3, 6, 9 and 12; what is saved after step 4 is saved between two of them.
    moments = [((states / "step-00000004" / "COMPLETE").exists, 1), ((states / "step-00000008").exists, 0)]
    with killing(moments) as killed:
        done = tiny.call(finetune_home, "pose", *TWO, "output_dir=runs/two-killed")
    assert done.status == 0, done
    assert len(killed) == 2
    equal(done, two)


@pytest.mark.long
def test_a_scoring_worker_killed(two, finetune_home):
    data = tiny.PEOPLE["test"]["path"]
    weights = f"{two.folder}/model"
    how = ["--workers", "2", "--piece-rows", "1", "--out"]
    whole = tiny.evaluate(finetune_home, weights, data, *how, "scored-two")
    assert whole.status == 0, whole
    with killing([(lambda: len(train_workers()) == 2, 0)]) as killed:
        done = tiny.evaluate(finetune_home, weights, data, *how, "scored-two-killed")
    assert done.status == 0, done
    assert len(killed) == 1
    assert tiny.results(done.folder)["metrics"] == tiny.results(whole.folder)["metrics"]


def test_one_worker_and_two_train_on_the_same_rows(one, two):
    """Passes and rates agree; the plan deals the same rows, whose ids the feeds below show step by step."""
    alone, together = numbers(one.folder), numbers(two.folder)
    for name in ("train/epochs/labeled", "train/lr"):
        assert alone[name] == together[name]
    assert tiny.results(one.folder)["labels"] == tiny.results(two.folder)["labels"]
    assert newest(one.folder).identity == newest(two.folder).identity


@pytest.mark.long
@pytest.mark.parametrize("rows", [1, 9])
def test_every_worker_sees_its_share_of_a_steps_rows(two, finetune_home, rows):
    """With one labeled row there are fewer rows than workers."""
    config = build(
        FinetuneConfig,
        merge(tiny.RECIPES["pose"], {"init": "scratch", "num_samples": rows, "task": {"name": "pose"}}),
        "tiny",
    )
    data = [Shards.open(str(finetune_home / tiny.PEOPLE[key]["path"])) for key in ("train", "test")]
    feed = resolve(config, *data, load_encoder_init("scratch", config.encoder, "depth")).train_loader()

    def seen(world: int) -> list[list[str]]:
        """Ids of each step, those of worker 0 first."""
        steps = [[] for _ in range(6)]
        for rank in range(world):
            items = (feed.item(*each) for each in feed.own_items(rank=rank, world=world, first_step=0))
            for step, batch in enumerate(feed.batches(items, rank=rank, world=world, first_step=0, threads=1, ahead=1)):
                steps[step] += batch.ids
        return steps

    assert seen(1) == seen(2)
    assert {id for ids in seen(2) for id in ids} <= {row["id"] for row in feed.sources[0].rows(["id"])}
    assert len(feed.sources[0]) == rows


@pytest.mark.long
def test_a_run_goes_on_with_another_number_of_workers(two, finetune_home):
    out = finetune_home / "runs" / "grown"
    with interrupted_at(out / "states" / "step-00000004" / "COMPLETE"):
        assert tiny.call(finetune_home, "pose", *LONG, "output_dir=runs/grown").status == 130
    done = tiny.call(finetune_home, "pose", *TWO, "output_dir=runs/grown")
    assert done.status == 0, done
    (run,) = tracked(out)
    assert [step for step, _ in run["metrics"]["train/loss"]] == list(range(1, 13))
    assert numbers(out)["train/epochs/labeled"] == numbers(two.folder)["train/epochs/labeled"]


@pytest.mark.long
def test_fewer_labeled_rows_than_workers(two, finetune_home):
    done = tiny.call(
        finetune_home, "pose", *TWO, "num_samples=1", "num_val_rows=1", "output_dir=runs/one-row-two-workers"
    )
    assert done.status == 0, done
    assert numbers(done.folder)["train/epochs/labeled"][-1] == (12, 72)

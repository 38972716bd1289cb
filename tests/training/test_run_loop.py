"""The loop of all trainings: when it reports, saves and calls hooks, and which tracking run it goes by."""

import pytest
import torch

from hcmoco.pretraining.trainer import Pretraining
from hcmoco.training.run_loop import Hook, run_loop, validation_hook
from tests.helpers import local_pretraining as tiny

CPU = torch.device("cpu")


def start(sources, states=None, *, hooks=lambda trainer, context: (), tracking_run="", **over):
    """Runs or resumes; returns the trainer and its context."""
    config = tiny.tiny_config(stages={"stage1_steps": 5, "stage2_steps": 0}, **over)
    loader = tiny.tiny_feed(config, sources)
    context = tiny.StoppingContext(loader, states, num_checkpoints=9)
    trainer = Pretraining(config, loader.plan, CPU, loader.plan.lanes)
    run_loop(trainer, context, hooks(trainer, context), saved=context.restore(), tracking_run=tracking_run)
    return trainer, context


def test_a_hook_runs_at_its_steps_after_the_report_and_before_the_state(sources, tmp_path):
    events = []

    def hooks(trainer, context):
        def what():
            assert context.logged[-1][0] == trainer.step
            events.append((trainer.step, list(context.saved)))
            trainer.history["hook"] = {"step": trainer.step}

        return [Hook(lambda step: step in (1, 3), what, saves=True), Hook(lambda step: step == 4, what)]

    _, context = start(sources, str(tmp_path), hooks=hooks, train={"save_every": 50, "log_every": 50})
    assert events == [(1, []), (3, [1]), (4, [1, 3])]
    assert context.saved == [1, 3, 5], "a state after a hook that saves, and at the end"
    assert [step for step, _ in context.logged] == [1, 3, 4, 5]
    assert context.states.newest().history == {"hook": {"step": 4}}


@pytest.mark.parametrize(("given", "kept"), [("", "first"), ("second", "second")])
def test_the_saved_tracking_run_is_kept_unless_another_is_given(sources, tmp_path, given, kept):
    (tmp_path / "step-00000005").mkdir()
    trainer, _ = start(sources, str(tmp_path), tracking_run="first", train={"save_every": 2})
    assert trainer.tracking_run == "first"
    (tmp_path / "step-00000005" / "COMPLETE").unlink()
    trainer, context = start(sources, str(tmp_path), tracking_run=given, train={"save_every": 2})
    assert context.saved == [5]
    assert trainer.tracking_run == context.states.newest().tracking_run == kept


def test_evaluations_are_recorded_and_take_no_time_of_the_training(sources):
    scores = iter((0.5, 0.25))
    trainer, context = start(
        sources, hooks=lambda trainer, context: [validation_hook(trainer, context, 2, lambda: {"iou": next(scores)})]
    )
    assert trainer.evals == [(2, {"iou": 0.5}), (5, {"iou": 0.25})]
    assert [(step, values) for step, values in context.logged if "val/iou" in values] == [
        (2, {"val/iou": 0.5}),
        (5, {"val/iou": 0.25}),
    ]


def test_numbers_have_their_groups(sources):
    _, context = start(sources)
    names = {name.partition("/")[0] for _, values in context.logged for name in values}
    assert names == {"train", "perf"}
    assert {"train/loss", "train/lr", "train/stage", "train/epochs/room", "perf/samples_per_s"} <= context.logged[0][
        1
    ].keys()


@pytest.mark.parametrize("batch_of", [1, 3])
def test_a_batch_of_another_step_is_refused(sources, batch, batch_of):
    config = tiny.tiny_config()
    trainer = Pretraining(config, tiny.tiny_plan(config, sources), CPU, lanes_here=2)
    trainer.step = batch_of
    with pytest.raises(RuntimeError, match=f"the plan says step {batch_of}, the batch is of step 0"):
        trainer.train_step(batch)

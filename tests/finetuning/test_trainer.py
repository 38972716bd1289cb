import math

import pytest
import torch

from hcmoco.errors import UserError
from hcmoco.finetuning.loop import evaluate
from hcmoco.finetuning.saved_model import load_model, save_model
from hcmoco.finetuning.trainer import make_model
from hcmoco.tasks.registry import make_task
from hcmoco.training.checkpoint import States
from hcmoco.training.run_loop import validation_steps
from tests.helpers import local_finetuning as tiny
from tests.helpers.tolerances import assert_confusion_close


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("stop", [2, 4])
def test_a_resumed_run_ends_in_the_same_weights_validations_and_choice(people_shards, tmp_path, stop):
    _, whole = tiny.start(people_shards)
    folder = str(tmp_path / "states")
    # The schedule knows the whole length; the run is cut by taking its later states away.
    tiny.start(people_shards, {"train": {"num_checkpoints": 5}}, states=folder)
    for name in States(folder).complete():
        if int(name.removeprefix("step-")) > stop:
            (tmp_path / "states" / name / "COMPLETE").unlink()
    assert States(folder).newest_step == stop
    _, resumed = tiny.start(people_shards, states=folder)
    assert same(resumed.model.state_dict(), whole.model.state_dict())
    assert resumed.evals == whole.evals
    assert resumed.best_step == whole.best_step
    assert same(resumed.best, whole.best)


def test_a_state_with_the_old_name_of_the_task_resumes(people_shards, tmp_path):
    _, run = tiny.start(people_shards, states=str(tmp_path / "states"))
    state = States(str(tmp_path / "states")).newest()
    state.identity["task"]["task"] = state.identity["task"].pop("name")
    States(str(tmp_path / "old")).write(state)
    _, resumed = tiny.start(people_shards, states=str(tmp_path / "old"))
    assert resumed.step == run.step
    assert same(resumed.model.state_dict(), run.model.state_dict())
    state.identity["task"]["task"] = "parsing-depth"
    States(str(tmp_path / "other")).write(state)
    with pytest.raises(UserError, match=r"task\.name was 'parsing-depth', now 'parsing-rgb'"):
        tiny.start(people_shards, states=str(tmp_path / "other"))


def test_the_model_is_scored_at_even_steps_and_the_best_is_kept(people_shards):
    host, run = tiny.start(people_shards)
    assert [step for step, _ in run.evals] == [2, 4, 6]
    scores = {step: metrics["mIoU"] for step, metrics in run.evals}
    assert scores[run.best_step] == max(scores.values())
    logged = {step: values["val/mIoU"] for step, values in host.logged if "val/mIoU" in values}
    assert logged == scores
    assert run.select() == run.best_step
    result = evaluate(run.task, run.model, host.evaluation(), host.device)
    assert result.metrics["mIoU"] == pytest.approx(scores[run.best_step], abs=1e-9)


def test_an_undefined_score_is_worse_than_any_other(people_shards):
    """No labeled pixel among the validation rows: NaN. It never beats a score, and any score beats it."""
    _, run = tiny.start(people_shards, {"num_evals": 1})
    run.best, run.evals = {}, []
    for step, score in ((1, math.nan), (2, 0.1), (3, math.nan), (4, 0.05), (5, 0.2)):
        run.step = step
        run.record_validation({"mIoU": score})
        assert run.best_step == {1: 1, 2: 2, 3: 2, 4: 2, 5: 5}[step]


@pytest.mark.parametrize(
    ("steps", "count", "at"), [(6, 3, {2, 4, 6}), (10, 4, {2, 5, 8, 10}), (2, 10, {1, 2}), (7, 1, {7})]
)
def test_moments_of_validation(steps, count, at):
    assert validation_steps(steps, count) == at


def test_few_labels_are_drawn_again_and_again(people_shards):
    host, run = tiny.start(people_shards, {"num_samples": 4, "fraction": 1.0})
    assert run.plan.epochs_at(run.step) == {"labeled": 6 * 6 / 4}
    drawn = [row for step in range(6) for lane in range(2) for row in host.loader.plan.rows(step, lane)]
    assert len(set(drawn)) == 4
    assert {drawn.count(each) for each in set(drawn)} == {9}


def test_scores_do_not_depend_on_pieces_or_workers(people_shards):
    host, run = tiny.start(people_shards)
    feed = host.validation
    results, confusions = [], []
    for rows, world in ((1, 1), (3, 1), (3, 2), (5, 3), (64, 2)):
        piece = type(feed)(feed.task, feed.rows, rows, world)
        metric = feed.task.metric()
        for rank in reversed(range(world)):
            part = feed.task.metric()
            for batch in piece.batches(piece.own_items(rank), threads=1, ahead=1):
                with torch.inference_mode():
                    part.update(batch, run.task.predict(run.model.eval(), batch, torch.device("cpu")))
            metric.merge(part.state())
        results.append(metric.compute())
        confusions.append(metric.state()[0])
    assert {each.rows for each in results} == {8}
    for each in confusions[1:]:
        assert_confusion_close(each, confusions[0])
    assert results[1].metrics == results[2].metrics  # the same pieces: the same bits


def test_the_heads_first_weights_do_not_depend_on_where_the_encoder_starts(tmp_path):
    task = make_task(tiny.tiny_config().task, tiny.about())
    scratch = make_model(tiny.tiny_config(), task, load=True)
    torch.save(scratch.encoder.trunk.state_dict(), tmp_path / "weights.pth")
    with torch.no_grad():
        for each in scratch.encoder.parameters():
            each.add_(1)
    torch.save(scratch.encoder.trunk.state_dict(), tmp_path / "weights.pth")
    loaded = make_model(tiny.tiny_config({"init": str(tmp_path / "weights.pth")}), task, load=True)
    assert same(loaded.encoder.state_dict(), scratch.encoder.state_dict())
    heads = [
        {name: each for name, each in model.state_dict().items() if not name.startswith("encoder.")}
        for model in (scratch, loaded)
    ]
    assert heads[0]
    assert same(*heads)


def test_the_encoder_learns_at_its_own_rate(people_shards):
    _, run = tiny.start(people_shards, {"encoder_lr": 0.0, "optim": {"weight_decay": 0.1}})
    first = make_model(run.config, run.task, load=True)
    learned = {name for name, each in run.model.named_parameters() if not torch.equal(each, first.get_parameter(name))}
    assert learned
    assert not any(name.startswith("encoder.") for name in learned)


def test_a_saved_model_predicts_the_same(people_shards, tmp_path):
    host, run = tiny.start(people_shards)
    folder = str(tmp_path / "model")
    save_model(folder, run.model, run.task, run.config.encoder, training={"seed": 5}, card="card")
    saved = load_model(folder)
    assert saved.training == {"seed": 5}
    result = evaluate(saved.task(people_shards.manifest), saved.model(), host.evaluation(), host.device)
    assert result == evaluate(run.task, run.model, host.evaluation(), host.device)
    for name, message in (
        ("model.safetensors", "does not match its checksum"),
        ("config.json", "is not that of a fine-tuned model"),
    ):
        path = tmp_path / "model" / name
        data = path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        with pytest.raises(UserError, match=message):
            load_model(folder)
        path.write_bytes(data)
    with pytest.raises(UserError, match="holds no fine-tuned model"):
        load_model(str(tmp_path / "elsewhere"))


def test_a_state_of_another_fine_tuning_is_refused(people_shards, tmp_path):
    tiny.start(people_shards, states=str(tmp_path))
    with pytest.raises(UserError, match=r"another config: labels"):
        tiny.start(people_shards, {"num_samples": 9}, states=str(tmp_path))
    with pytest.raises(UserError, match=r"another config: optim.lr"):
        tiny.start(people_shards, {"optim": {"lr": 0.1}}, states=str(tmp_path))

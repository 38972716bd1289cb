"""A run that is stopped and goes on is the run that was never stopped: weights, banks, optimizer and numbers, bit for
bit."""

import math
from functools import cache

import pytest

from hcmoco.errors import UserError
from hcmoco.models.multimodal import HCMoCo
from hcmoco.pretraining.loop import pretrain
from hcmoco.training.checkpoint import States
from hcmoco.training.lr_schedule import learning_rate
from tests.helpers import local_pretraining as tiny

# TINY has stage 1 in steps 0 to 3, stage 2 in 4 to 8, windows of 3 steps, a state every 3 steps and at 4 (between the
# stages) and 9.
STEPS, BOUNDARY = 9, 4
RUNS = {
    "sgd, restarted": {"optim": {"restart": True}},
    "sgd, one cosine": {"optim": {"restart": False}},
    "adamw, one cosine": {"optim": {"name": "adamw", "lr": 0.01, "restart": False, "clip_norm": 1.0}},
    "muon": {"optim": {"name": "muon", "lr": 0.01, "clip_norm": 1.0}},
    # Stochastic depth draws random numbers; a state every step cuts every window and every stretch of numbers.
    "drops layers, bfloat16, states at every step": {
        "model": {"rgb": {"args": {"drop_path_rate": 0.5}}, "depth": {"args": {"drop_path_rate": 0.5}}},
        "train": {"save_every": 1, "precision": "bfloat16"},
    },
    "rows for a third of the people": {"objective": {"bank_rows": 40}},
    "as released": tiny.AS_RELEASED,
}


def run(config, sources, states, **settings):
    """Runs or resumes; gives the run and its host."""
    feed = tiny.tiny_feed(config, sources)
    host = tiny.StoppingContext(feed, str(states), **settings)
    return pretrain(config, feed.plan, host, None, "the record"), host


def die(config, sources, states, stop):
    """A run that dies before step `stop`; gives its host."""
    feed = tiny.tiny_feed(config, sources)
    host = tiny.StoppingContext(feed, str(states), stop=stop)
    with pytest.raises(tiny.DiedError):
        pretrain(config, feed.plan, host, None, "the record")
    return host


@pytest.fixture(scope="session")
def references(sources, tmp_path_factory):
    """name in RUNS -> (config, final state, host) of a run that nothing stopped; each is made once."""

    @cache
    def make(name: str):
        config = tiny.tiny_config(**RUNS[name])
        done, host = run(config, sources, tmp_path_factory.mktemp("never-stopped"))
        return config, done.state_dict(), host

    return make


@pytest.fixture(params=RUNS)
def reference(request, references):
    return references(request.param)


STOPS = {"sgd, restarted": range(1, STEPS), "adamw, one cosine": range(1, STEPS)}


@pytest.mark.parametrize(
    ("reference", "stop"),
    [(name, stop) for name in RUNS for stop in STOPS.get(name, (1, BOUNDARY, 6))],
    indirect=["reference"],
)
def test_stopped_before_any_step_it_ends_with_the_same_bits_and_numbers(reference, sources, tmp_path, stop):
    config, expected, whole = reference
    first = die(config, sources, tmp_path, stop)
    resumed_at = States(str(tmp_path)).newest_step
    assert resumed_at <= stop
    again, second = run(config, sources, tmp_path)
    assert tiny.differences(expected, again.state_dict()) == []
    assert tiny.differences(expected, States(str(tmp_path)).newest()) == [], "the state on disk too"
    logged = tiny.without_times(whole.logged)
    assert tiny.without_times(first.logged) == [each for each in logged if each[0] <= stop]
    assert tiny.without_times(second.logged) == [each for each in logged if each[0] > resumed_at]
    assert second.saved == [step for step in whole.saved if step > resumed_at], "no state is written twice"


def test_a_resumed_run_holds_nothing_twice(references, sources, tmp_path, monkeypatch):
    """Banks and weights of the state that it went on from are not kept beside its own."""
    config, _, _ = references("sgd, restarted")
    die(config, sources, tmp_path, 6)
    restored = []
    monkeypatch.setattr(
        tiny.StoppingContext, "restore", lambda self: restored.append(self.states.newest()) or restored[-1]
    )
    run(config, sources, tmp_path)
    (state,) = restored
    assert state.step == 6
    assert (state.model, state.optimizer, state.bank, state.best) == ({}, {}, {}, {})


def test_stopped_again_and_again(reference, sources, tmp_path):
    config, expected, _ = reference
    for stop in (2, 5, 4, 7, 8, 8):
        die(config, sources, tmp_path, max(stop, States(str(tmp_path)).newest_step))
    again, _ = run(config, sources, tmp_path)
    assert tiny.differences(expected, again.state_dict()) == []


def test_the_reference_trains_at_all(reference):
    config, expected, host = reference
    start = HCMoCo(config.model, seed=config.seed).state_dict()
    unmoved = [name for name, value in start.items() if tiny.same_bits(value, expected.model[name])]
    assert unmoved == []
    assert expected.stage == 2
    assert expected.bank["rgb.visited"].any()
    assert {step for step, _ in host.logged} >= {2, 4, 6, 8, 9}


def test_a_finished_run_is_left_alone(reference, sources, tmp_path):
    config, expected, _ = reference
    run(config, sources, tmp_path)
    again, host = run(config, sources, tmp_path)
    assert (host.logged, host.saved) == ([], [])
    assert tiny.differences(expected, again.state_dict()) == []


def test_it_takes_the_state_before_where_the_last_was_not_written_to_its_end(reference, sources, tmp_path):
    config, expected, _ = reference
    die(config, sources, tmp_path, 8)
    newest = States(str(tmp_path)).complete()[-1]
    (tmp_path / newest / "COMPLETE").unlink()
    assert 0 < States(str(tmp_path)).newest_step < int(newest.removeprefix("step-"))
    again, _ = run(config, sources, tmp_path)
    assert tiny.differences(expected, again.state_dict()) == []


def test_probes_are_part_of_the_state_between_the_stages(sources, tmp_path):
    config = tiny.tiny_config(probe={"every": 2})
    feed = tiny.tiny_feed(config, sources)

    def start(states, stop=None):
        host = tiny.StoppingContext(feed, str(states), stop=stop)
        return host, lambda: pretrain(config, feed.plan, host, tiny.tiny_views())

    whole, go = start(tmp_path / "whole")
    expected = go().state_dict()
    assert list(expected.history) == ["after stage 1", "after stage 2"]
    assert set(whole.pictures) == {"features-after-stage-1", "features-after-stage-2"}
    for stop in (BOUNDARY, BOUNDARY + 1):
        host, go = start(tmp_path / f"at {stop}", stop)
        with pytest.raises(tiny.DiedError):
            go()
        host, go = start(tmp_path / f"at {stop}")
        assert tiny.differences(expected, go().state_dict()) == []
        assert tiny.without_times(host.logged) == [
            each for each in tiny.without_times(whole.logged) if each[0] > BOUNDARY
        ]
        assert set(host.pictures) == {"features-after-stage-2"}


def test_as_many_bank_rows_as_people_are_the_run_without_a_bound(references, sources, tmp_path):
    """Bits, numbers and files; only the identity says that a bound was set."""
    _, expected, whole = references("sgd, restarted")
    people = sum(len(each) for each in sources)
    config = tiny.tiny_config(**RUNS["sgd, restarted"], objective={"bank_rows": people})
    bounded, host = run(config, sources, tmp_path)
    assert tiny.differences(expected, bounded.state_dict()) == ["identity"]
    assert tiny.without_times(host.logged) == tiny.without_times(whole.logged)


def test_another_bound_is_another_run(sources, tmp_path):
    die(tiny.tiny_config(objective={"bank_rows": 40}), sources, tmp_path, 4)
    for other, was in ((41, "40"), (None, "40")):
        with pytest.raises(UserError, match=rf"objective\.bank_rows was {was}, now {other}") as error:
            run(tiny.tiny_config(objective={"bank_rows": other}), sources, tmp_path)
        assert "\n" not in str(error.value)


def test_what_only_watches_the_run_changes_no_bit(sources, tmp_path):
    """Reports, states, probes, the threads that decode and the place of decoding are free: they may even change between
    two starts."""
    config = tiny.tiny_config()
    plain, _ = run(config, sources, tmp_path / "plain")
    watched = tiny.tiny_config(
        probe={"every": 1}, train={"log_every": 1, "save_every": 1, "num_checkpoints": 1, "threads_per_worker": 2}
    )
    for decode, threads in (("worker", 3), ("tasks", 1)):
        feed = tiny.tiny_feed(watched, sources, decode)
        host = tiny.LocalContext(feed, str(tmp_path / decode), threads=threads)
        other = pretrain(watched, feed.plan, host, tiny.tiny_views())
        other.history = {}
        assert tiny.differences(plain.state_dict(), other.state_dict()) == []


def test_rates_follow_the_schedule_of_each_stage_or_of_the_whole_run(sources):
    for restart in (True, False):
        config = tiny.tiny_config(optim={"restart": restart, "warmup_steps": 1}, train={"log_every": 1})
        feed = tiny.tiny_feed(config, sources)
        host = tiny.StoppingContext(feed)
        pretrain(config, feed.plan, host, None)
        logged = [values["train/lr"] for _, values in host.logged]
        if restart:
            expected = [learning_rate(config.optim, k, 4) for k in range(4)] + [
                learning_rate(config.optim, k, 5) for k in range(5)
            ]
        else:
            expected = [learning_rate(config.optim, k, 9) for k in range(9)]
        assert logged == pytest.approx(expected, rel=1e-6)


def test_one_stage_alone(sources, tmp_path):
    sample, host = run(tiny.tiny_config(stages={"stage1_steps": 3, "stage2_steps": 0}), sources, tmp_path / "sample")
    assert (sample.stage, sample.step, host.saved) == (1, 3, [3])
    second, host = run(tiny.tiny_config(stages={"stage1_steps": 0, "stage2_steps": 3}), sources, tmp_path / "full")
    assert (second.stage, second.step, host.saved) == (2, 3, [3])
    assert all("train/level/d" in values for _, values in host.logged)


def test_the_plan_decides_nothing_beyond_its_length(sources, tmp_path):
    """Stage 1 of a short run and of a long one are the same where the schedule is."""
    short, _ = run(tiny.tiny_config(stages={"stage1_steps": 4, "stage2_steps": 0}), sources, tmp_path / "short")
    long = die(tiny.tiny_config(), sources, tmp_path / "long", BOUNDARY)
    at_boundary = long.states.newest()
    at_boundary.identity = short.identity
    assert tiny.differences(at_boundary, short.state_dict()) == []


@pytest.mark.parametrize(
    ("over", "line"),
    [
        ({"seed": 6}, "seed was 5, now 6|plan.seed was 5"),
        ({"objective": {"tau_g": 0.1}}, "objective.tau_g was 0.07, now 0.1"),
        ({"optim": {"lr": 0.1}}, "optim.lr was 0.05, now 0.1"),
        ({"stages": {"stage2_steps": 6}}, "stages.stage2_steps was 5, now 6"),
        ({"augment": {"rotation": 5.0}}, "augment.rotation was 30.0, now 5.0"),
        ({"train": {"window_steps": 4}}, "window_steps was 3, now 4"),
        ({"model": {"embedding": 8}}, "model.embedding was 16, now 8"),
        ({"data": {"sources": {"room": {"weight": 2.0}}}}, r"plan.sources.0.weight was 1.0, now 2.0"),
    ],
)
def test_another_run_in_the_same_folder_is_refused_by_key_and_both_values(sources, tmp_path, over, line):
    die(tiny.tiny_config(), sources, tmp_path, 4)
    with pytest.raises(UserError, match=line) as caught:
        run(tiny.tiny_config(**over), sources, tmp_path)
    assert "\n" not in str(caught.value)


def test_other_data_under_the_same_name_is_refused(sources, tmp_path):
    die(tiny.tiny_config(), sources, tmp_path / "run", 4)
    other = tiny.write_blobs(tmp_path, "room", 70, depth_of=(True,))
    with pytest.raises(UserError, match=r"plan.sources.0.content was '[0-9a-f]{64}', now '[0-9a-f]{64}'"):
        run(tiny.tiny_config(), (other, sources[1]), tmp_path / "run")


def test_a_state_whose_tensors_are_another_models_is_one_line(sources, tmp_path):
    done, host = run(tiny.tiny_config(stages={"stage1_steps": 1, "stage2_steps": 0}), sources, tmp_path)
    for change in (
        {"model": {name: value for name, value in done.state_dict().model.items() if "conv1" not in name}},
        {"optimizer": {"rgb.renamed|momentum_buffer": done.state_dict().optimizer.popitem()[1]}},
    ):
        state = done.state_dict()
        for name, value in change.items():
            setattr(state, name, value)
        host.states.write(state)
        with pytest.raises(UserError, match="does not fit this model") as caught:
            run(tiny.tiny_config(stages={"stage1_steps": 1, "stage2_steps": 0}), sources, tmp_path)
        assert "\n" not in str(caught.value)


def test_weights_that_are_no_longer_numbers_are_never_kept(sources, tmp_path):
    """A rate beyond all reason: the loss of the step is still a number when the weights have ceased to be."""
    config = tiny.tiny_config(optim={"lr": 1e38, "warmup_steps": 0}, train={"save_every": 1, "log_every": 50})
    with pytest.raises(UserError, match=r"no longer finite|became (nan|inf)"):
        run(config, sources, tmp_path)
    saved = States(str(tmp_path)).newest()
    assert saved is None or all(value.isfinite().all() for value in saved.model.values())
    assert saved is None or not math.isnan(sum(value.sum().item() for value in saved.bank.values()))

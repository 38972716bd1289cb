"""What a run shows and records on its way, and how it stops where numbers end."""

import math
import re
import time

import pytest
import torch

from hcmoco.errors import UserError
from hcmoco.pretraining.loop import pretrain
from hcmoco.training.checkpoint import States
from hcmoco.training.metrics import MetricsProcessor
from tests.helpers import local_pretraining as tiny


def start(sources, host_class=tiny.StoppingContext, states=None, views=None, over=None, **settings):
    config = tiny.tiny_config(**(over or {}))
    feed = tiny.tiny_feed(config, sources)
    host = host_class(feed, states, **settings)
    return host, pretrain(config, feed.plan, host, views)


def test_the_line_of_progress_says_where_the_run_is(sources):
    lines = []
    host, _ = start(sources, show=lines.append)
    assert len(lines) == len(host.logged) == 6, "at 2, 4, 6, 8 and 9, and at the state of step 3"
    pattern = r"step (\d)/9  stage ([12])  loss (\d+\.\d{3})  g (\d+\.\d{3})(  d \d+\.\d{3}  s \d+\.\d{3})?  "
    pattern += r"(\d+) samples/s  waiting (\d+)%(  \d+:\d\d left)?"
    for line, (step, values) in zip(lines, host.logged, strict=True):
        found = re.fullmatch(pattern, line)
        assert found, line
        assert (int(found[1]), int(found[2])) == (step, 1 if step <= 4 else 2)
        assert float(found[3]) == pytest.approx(values["train/loss"], abs=6e-4)
        assert bool(found[5]) == (step > 4)
        assert bool(found[8]) == (line != lines[0])  # from the first report alone nothing is estimated
    assert lines[-1].endswith("0:00 left")


def test_what_is_logged_is_the_mean_over_the_steps_since_the_last_report(sources):
    every, _ = start(sources, over={"train": {"log_every": 1}})
    some, _ = start(sources, over={"train": {"log_every": 3}})
    assert [step for step, _ in every.logged] == list(range(1, 10))
    assert [step for step, _ in some.logged] == [3, 4, 6, 9], "also where stage 1 ends"
    single = dict(every.logged)
    for (step, values), stretch in zip(some.logged, [(1, 2, 3), (4,), (5, 6), (7, 8, 9)], strict=True):
        for name in (
            "train/loss",
            "train/grad_norm",
            "train/lr",
            "train/num_anchors/g/rgb-depth",
            "train/loss/g/keypoints-rgb",
            "train/rows/g/rgb-keypoints/street",
        ):
            assert values[name] == pytest.approx(sum(single[k][name] for k in stretch) / len(stretch), rel=1e-5), (
                step,
                name,
            )
        assert values["train/stage"] == (1 if step <= 4 else 2)
        # 2 lanes of 3 rows, half and half over two steps, of 70 and 50 rows.
        assert values["train/epochs/room"] * 70 + values["train/epochs/street"] * 50 == pytest.approx(6 * step)


class SlowContext(tiny.StoppingContext):
    """Every batch takes a while to come."""

    def batches(self, first_step):
        for batch in super().batches(first_step):
            time.sleep(0.15)
            yield batch


def test_waiting_for_data_is_seen(sources):
    slow, _ = start(sources, SlowContext, over={"train": {"save_every": 50}})
    for step, values in slow.logged:
        steps = 2 if step < 9 else 1
        waited = values["perf/data_wait_share"] * (6 * steps / values["perf/samples_per_s"])
        assert 0 < values["perf/data_wait_share"] < 1
        assert waited >= 0.15 * steps


class NanContext(tiny.StoppingContext):
    """At step 6 one joint is nowhere."""

    def batches(self, first_step):
        for batch in super().batches(first_step):
            if batch.step == 6:
                batch.keypoints[2, 3, 0] = math.nan
            yield batch


@pytest.mark.parametrize(
    ("train", "kept"),
    [
        ({"save_every": 2, "log_every": 50}, 6),
        ({"save_every": 3, "log_every": 1}, 6),
        ({"save_every": 50, "log_every": 50}, 4),
    ],
)
def test_a_term_that_is_no_number_stops_the_run_and_nothing_after_it_is_kept(sources, tmp_path, train, kept):
    with pytest.raises(
        UserError, match=r"^loss/g/rgb-keypoints became nan in step 7; the last train state is good: lower optim.lr"
    ) as caught:
        start(sources, NanContext, str(tmp_path), over={"train": train})
    assert "\n" not in str(caught.value)
    states = States(str(tmp_path))
    assert states.newest_step == kept
    assert all(
        value.isfinite().all()
        for part in ("model", "optimizer", "bank")
        for value in getattr(states.newest(), part).values()
    )
    # With the fault gone the run goes on as if nothing had been.
    _, run = start(sources, states=str(tmp_path))
    _, whole = start(sources)
    assert tiny.differences(run.state_dict(), whole.state_dict()) == []


class Plain:
    """As much of a context as a MetricsProcessor uses."""

    rank, world = 0, 1


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ({"loss": math.inf, "loss/d/rgb-depth": math.inf}, "loss/d/rgb-depth became inf"),
        ({"grad_norm": math.nan, "level/d": 2.0}, "grad_norm became nan"),
        ({"loss": -math.inf, "level/d": math.nan}, "loss became -inf"),
    ],
)
def test_the_term_is_named_before_the_sum_and_the_first_step_before_the_others(bad, named):
    meter = MetricsProcessor(Plain(), 10, 20)
    good = {"loss": 1.0, "grad_norm": 1.0, "level/d": 1.0, "loss/d/rgb-depth": 1.0}
    for values in (good, {**good, **bad}, good, dict.fromkeys(good, math.nan)):
        meter.add({name: torch.tensor(value) for name, value in values.items()}, 4)
    with pytest.raises(UserError, match=f"^{named} in step 12; "):
        meter.means()


def test_probes_come_at_their_steps_and_at_the_end_of_each_stage(sources, tmp_path):
    host, run = start(sources, states=str(tmp_path), views=tiny.tiny_views(), over={"probe": {"every": 3}})
    probed = {
        step: {name.partition("/retrieval")[0] for name in values if "retrieval" in name}
        for step, values in host.logged
    }
    # The small probe at 3 and 6; not at 9, the last step, which has the full one.
    assert {step: moments for step, moments in probed.items() if moments} == {
        3: {"probe"}, 4: {"after-stage-1"}, 6: {"probe"}, 9: {"after-stage-2"}
    }  # fmt: skip
    assert list(run.history) == ["after stage 1", "after stage 2"]
    assert run.history == States(str(tmp_path)).newest().history
    assert all(picture.dtype == "uint8" and picture.ndim == 3 for picture in host.pictures.values())
    assert run.model.training


def test_without_held_out_people_nothing_is_probed(sources):
    host, run = start(sources, over={"probe": {"every": 1}})
    assert run.history == {}
    assert host.pictures == {}
    assert not any("retrieval" in name for _, values in host.logged for name in values)


def test_how_hard_each_term_pulls_is_logged_beside_the_small_probes(sources):
    for views in (None, tiny.tiny_views()):
        host, _ = start(sources, views=views, over={"probe": {"every": 3}})
        norms = {step: values for step, values in host.logged if "probe/grad_norm/all" in values}
        assert list(norms) == [3, 6]
        for step, values in norms.items():
            named = {name.removeprefix("probe/grad_norm/") for name in values if "probe/grad_norm/" in name}
            terms = {name.removeprefix("train/loss/") for name in dict(host.logged)[step] if "train/loss/" in name}
            assert named == {"all"} | (terms or named)
            assert {name.partition("/")[0] for name in named} == {"all", "g"} | ({"d", "s"} if step == 6 else set())
            assert ("probe/effective_rank/rgb" in values) == (views is not None)


class Watching(tiny.StoppingContext):
    """Notes which probes were logged when a state was saved."""

    def save(self, state):
        self.at_save = {**getattr(self, "at_save", {}), state.step: set(probed(self))}
        super().save(state)


def probed(host) -> dict[tuple[int, str], float]:
    return {
        (step, name): value
        for step, values in host.logged
        for name, value in values.items()
        if name.startswith("probe/") and "grad_norm" not in name
    }


def test_probes_beside_the_steps_find_the_same_and_change_nothing(sources, tmp_path):
    over = {"probe": {"every": 2}, "train": {"save_every": 2}}
    between, plain = start(sources, views=tiny.tiny_views(), over=over)
    host, run = start(
        sources,
        host_class=Watching,
        states=str(tmp_path),
        views=tiny.tiny_views(),
        over={**over, "probe": {"every": 2, "beside": True}},
    )
    expected, found = probed(between), probed(host)
    assert {step for step, _ in expected} == {2, 4, 6, 8}
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-6)
    for name, value in plain.model.state_dict().items():
        assert torch.equal(run.model.state_dict()[name], value), name
    for step, logged in host.at_save.items():
        assert {at for at, _ in logged} == {at for at in (2, 4, 6, 8) if at <= step}, (
            "a kill after the state loses none"
        )

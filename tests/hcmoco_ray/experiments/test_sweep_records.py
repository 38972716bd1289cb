"""What a sweep's folder says after whatever happened."""

from types import SimpleNamespace

import pytest

from hcmoco.errors import UserError
from hcmoco.training.checkpoint import TrainState
from hcmoco_ray.experiments.sweep.config import SweepConfig
from hcmoco_ray.experiments.sweep.records import DONE, STOPPED, Progress, Records
from hcmoco_ray.experiments.sweep.suggest import draw
from hcmoco_ray.experiments.sweep.trial_state import with_identity
from hcmoco_ray.experiments.sweep.tune import Queue, successive_halving

CONFIG = SweepConfig(recipe="r", output_dir="o", num_trials=5, space={"optim.lr": {"loguniform": (0.001, 0.1)}})


@pytest.fixture
def records(tmp_path) -> Records:
    return Records(str(tmp_path))


def test_another_sweep_is_refused(records):
    key = records.open({"sweep": {"seed": 0, "space": {"a": [1, 2]}}})
    assert records.open({"sweep": {"seed": 0, "space": {"a": (1, 2)}}}) == key
    with pytest.raises(UserError, match=r"another config: sweep\.space\.a\.1 was 2, now 3; .*output_dir=") as caught:
        records.open({"sweep": {"seed": 0, "space": {"a": [1, 3]}}})
    assert "\n" not in str(caught.value)


def test_a_folder_of_something_else_is_refused(records):
    records.folder.write("config.yaml", b"name: run")
    with pytest.raises(UserError, match=r"holds other files \(config.yaml\)"):
        records.open({})


def test_the_queue_goes_on_and_repeats_nothing(records):
    first = Queue(CONFIG, records)
    taken = [first.take() for _ in range(4)]
    assert [each["number"] for each in taken] == [0, 1, 2, 3]
    assert taken[2] == {"number": 2, **draw(CONFIG.space, 0, 2)}
    records.end(1, DONE, score=3.0, steps=6)
    records.clear(1)
    records.end(3, "failed: loss", steps=2)  # killed before its folder was deleted

    again = Queue(CONFIG, records)
    assert len(again) == 3
    assert [again.take() for _ in range(4)] == [taken[0], taken[2], {"number": 4, **draw(CONFIG.space, 0, 4)}, None]
    assert [(each.score, each.finished) for each in records.tried()] == [
        (None, False),
        (3.0, True),
        (None, False),
        (None, True),
        (None, False),
    ]


def test_a_trial_whose_result_is_deleted_runs_again_with_its_values(records):
    queue = Queue(CONFIG, records)
    values = [queue.take() for _ in range(5)]
    for number in range(5):
        records.end(number, DONE, score=1.0, steps=6)
        records.clear(number)
    assert len(Queue(CONFIG, records)) == 0
    (records.folder.local_path / "trials" / "0002.json").unlink()
    assert Queue(CONFIG, records).take() == values[2]


def test_more_trials_can_be_asked_for(records):
    for number in range(5):
        records.begin(number, {"optim.lr": 0.1})
        records.end(number, DONE, score=1.0, steps=6)
    more = Queue(CONFIG.model_copy(update={"num_trials": 7}), records)
    assert [more.take()["number"] for _ in range(2)] == [5, 6]
    # Fewer are no reason to leave one half done.
    assert [Queue(CONFIG.model_copy(update={"num_trials": 2}), records).take()["number"] for _ in range(2)] == [5, 5]


def test_a_trial_goes_on_with_the_newest_values_of_its_schedule(records):
    records.begin(0, {"optim.lr": 0.1})
    schedule = [{"step": 0, "values": {"optim.lr": 0.1}}, {"step": 4, "from": 2, "values": {"optim.lr": 0.05}}]
    records.keep(0, Progress(schedule=schedule, generation=1))
    assert Queue(CONFIG, records).take() == {"number": 0, "optim.lr": 0.05}
    assert records.end(0, DONE, score=1.0, steps=6)["values"] == {"optim.lr": 0.05}


def test_a_step_repeated_after_a_restart_is_one_report():
    progress = Progress()
    for step in (2, 4, 4, 6):
        progress.report(step, float(step))
    assert [step for step, _ in progress.reports] == [2, 4, 6]


def test_only_values_that_may_change_on_the_way_may_differ():
    identity = {"objective": {"lambda_d": 1.0, "num_negatives": 8}, "optim": {"lr": 0.1, "name": "sgd"}, "plan": "p"}
    state = TrainState(step=4, stage=2, identity=identity, model={}, optimizer={})
    now = {"objective": {"lambda_d": 2.0, "num_negatives": 8}, "optim": {"lr": 0.2, "name": "sgd"}, "plan": "p"}
    assert with_identity(state, now, "here").identity == now
    assert state.identity == identity
    for other in (
        {**now, "plan": "q"},
        {**now, "objective": {"lambda_d": 2.0, "num_negatives": 9}},
        {**now, "optim": {"lr": 0.2, "name": "adam"}},
    ):
        with pytest.raises(UserError, match="another config"):
            with_identity(state, other, "here")


REPORTS = {0: [5, 6, 7, 8], 1: [1, 2, 3, 9], 2: [4, 7, 6, 5], 3: [6, 5, 4, 3]}


def decisions(scheduler, records, upto: dict[int, int]) -> list[tuple[int, int, str]]:
    """What a scheduler says to the reports that its trials have not made yet, trial by trial."""
    said = []
    for number, figures in REPORTS.items():
        trial = SimpleNamespace(trial_id=f"new-{number}", config={"number": number})
        if number not in records.finished():
            scheduler.on_trial_add(None, trial)
            for step, figure in list(enumerate(figures, 1))[upto.get(number, 0) :]:
                said.append((number, step, scheduler.on_trial_result(None, trial, {"step": step, "figure": figure})))
    return said


def test_early_stopping_has_seen_what_was_reported_before(records, monkeypatch):
    config = CONFIG.model_copy(update={"early_stopping": SimpleNamespace(first=1, factor=2.0)})
    job = SimpleNamespace(config=config, records=records)
    monkeypatch.setattr("hcmoco_ray.experiments.sweep.tune._steps", lambda job: 4)
    figures = {"time_attr": "step", "metric": "figure", "mode": "max"}
    for number in REPORTS:
        records.begin(number, {"optim.lr": 0.1})
    whole = decisions(successive_halving(job, figures), records, {})
    assert {said for _, _, said in whole} == {"CONTINUE", "STOP"}

    # Killed when 0 was over, 1 stopped and 2 had made two reports.
    for number, upto, status in ((0, 4, DONE), (1, 4, STOPPED), (2, 2, None)):
        records.keep(
            number, Progress(reports=[[step, float(value)] for step, value in enumerate(REPORTS[number][:upto], 1)])
        )
        if status:
            records.end(number, status, score=1.0, steps=upto)
    assert decisions(successive_halving(job, figures), records, {2: 2}) == [
        each for each in whole if each[0] == 3 or (each[0] == 2 and each[1] > 2)
    ]

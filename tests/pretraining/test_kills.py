"""A process that is killed in the middle of anything, by a signal that nobody can catch."""

import pytest

from hcmoco.training.checkpoint import States
from tests.helpers import forked_runs
from tests.helpers import local_pretraining as tiny

pytestmark = pytest.mark.slow
KILLED = -9


@pytest.mark.parametrize("keep", [1, 2])
def test_killed_at_any_file_of_a_save_there_is_always_a_whole_state(tmp_path, keep):
    """Before every file that is opened, renamed or deleted while the third state is written."""
    points = 20
    jobs = []
    for number in range(points):
        folder = tmp_path / str(number)
        for step in (1, 2):
            States(str(folder), keep).write(forked_runs.numbered_state(step))
        jobs.append(
            {
                "call": "write_state",
                "world": 1,
                "arguments": {"folder": str(folder), "keep": keep, "step": 3, "kill_at_file": number},
            }
        )
    codes = [code for (code,) in forked_runs.run_jobs(tmp_path, jobs)]
    assert codes == [KILLED] * 18 + [0] * 2, "six files, each opened, renamed and its temporary name taken away"
    for number in range(points):
        states = States(str(tmp_path / str(number)), keep)
        assert states.newest_step == (2 if number <= 16 else 3), (
            "the renaming of COMPLETE, the seventeenth, is what counts"
        )
        assert tiny.differences(states.newest(), forked_runs.numbered_state(states.newest_step)) == []
        states.write(forked_runs.numbered_state(3))
        left = sorted(each.name for each in (tmp_path / str(number)).iterdir())
        assert left == states.complete() == [f"step-{step:08d}" for step in range(4 - keep, 4)]
        assert len(list((tmp_path / str(number) / "step-00000003").iterdir())) == 6


@pytest.fixture(scope="module")
def settings(sources):
    over = {
        "stages": {"stage1_steps": 2, "stage2_steps": 2},
        "train": {"save_every": 1, "num_checkpoints": 1},
        "optim": {"name": "adamw"},
        "probe": {"every": 2},
    }
    return {"sources": [each.uri for each in sources], "over": over}


def test_a_run_killed_in_any_save_and_started_again_ends_with_the_same_bits(settings, tmp_path):
    """With one state kept, at every seventh of the 72 files that the run's four saves touch, in each save at another
    place.

    The second save is the one between the stages.
    """
    points = range(0, 78, 7)
    jobs = [{"call": "train", "world": 1, "arguments": {**settings, "states": str(tmp_path / "whole"), "out": None}}]
    for number in points:
        fixed = {**settings, "states": str(tmp_path / str(number)), "out": None}
        jobs += [
            {"call": "train", "world": 1, "arguments": {**fixed, **more}} for more in ({"kill_at_file": number}, {})
        ]
    codes = [code for (code,) in forked_runs.run_jobs(tmp_path, jobs)]
    assert codes[1::2] == [KILLED] * 11 + [0], "eighteen operations a save"
    assert codes[2::2] == [0] * len(points)
    whole = States(str(tmp_path / "whole")).newest()
    assert whole.step == 4
    assert len(whole.history) == 2
    for number in points:
        assert tiny.differences(whole, States(str(tmp_path / str(number))).newest()) == []
        assert [each.name for each in (tmp_path / str(number)).iterdir()] == ["step-00000004"]


def test_a_run_that_dies_in_every_save_on_its_way_ends_with_the_same_bits(settings, tmp_path):
    """Five deaths, each a little later than the one before."""
    fixed = {**settings, "states": str(tmp_path / "dying"), "out": None}
    jobs = [{"call": "train", "world": 1, "arguments": {**settings, "states": str(tmp_path / "whole"), "out": None}}]
    jobs += [
        {"call": "train", "world": 1, "arguments": {**fixed, "kill_at_file": number}} for number in (2, 9, 13, 14, 17)
    ]
    jobs += [{"call": "train", "world": 1, "arguments": fixed}]
    codes = [code for (code,) in forked_runs.run_jobs(tmp_path, jobs)]
    assert codes == [0, *[KILLED] * 5, 0]
    assert tiny.differences(States(str(tmp_path / "whole")).newest(), States(str(tmp_path / "dying")).newest()) == []

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch

from hcmoco.errors import UserError
from hcmoco.storage import Folder
from hcmoco.training.checkpoint import STATE_VERSION, States, TrainState, check_identity
from tests.helpers import local_pretraining as tiny

FILES = ["model.safetensors", "optimizer.safetensors", "bank.safetensors", "best.safetensors", "state.json", "COMPLETE"]


def make_state(step: int = 7, seed: int = 0, **over) -> TrainState:
    """A state with tensors of every kind that a run has."""
    draw = torch.Generator().manual_seed(seed)
    weight = torch.randn(6, 4, 3, 3, generator=draw).to(memory_format=torch.channels_last)
    return TrainState(
        **{
            "step": step,
            "stage": 2,
            "identity": {
                "seed": 3,
                "optim": {"lr": 0.1, "name": "sgd"},
                "plan": {"sources": [{"name": "a"}, {"name": "b"}]},
            },
            "model": {
                "conv.weight": weight,
                "norm.num_batches_tracked": torch.tensor(5),
                "nan": torch.tensor([float("nan"), -0.0]),
            },
            "optimizer": {
                "conv.weight|momentum_buffer": torch.randn(6, 4, 3, 3, generator=draw),
                "conv.weight|step": torch.tensor(3.0),
            },
            "bank": {
                "rgb.visited": torch.tensor([True, False]),
                "rgb.order": torch.arange(3),
                "half": torch.ones(2, dtype=torch.bfloat16),
            },
            "tracking_run": "abc",
            "history": {"after stage 1": {"x": 0.1 + 0.2}},
            **over,
        }
    )


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder of states with one state in it, of step 7."""
    States(str(tmp_path / "states")).write(make_state())
    return tmp_path / "states"


def rewrite(folder: Path, file: str, data: bytes, *, sums: bool) -> None:
    """Puts `data` into a file of the state, and its checksum into COMPLETE if asked."""
    state = folder / "step-00000007"
    (state / file).write_bytes(data)
    if sums:
        complete = json.loads((state / "COMPLETE").read_text())
        (state / "COMPLETE").write_text(json.dumps({**complete, file: hashlib.sha256(data).hexdigest()}))


@pytest.mark.parametrize("place", ["disk", "memory"])
def test_what_is_written_comes_back_bit_for_bit(tmp_path, place):
    uri = str(tmp_path / "deep" / "states") if place == "disk" else f"memory://{tmp_path.name}/states"
    states = States(uri)
    assert (states.newest(), states.newest_step, states.complete()) == (None, 0, [])
    states.write(make_state())
    again = States(uri)
    assert tiny.differences(make_state(), again.newest()) == []
    assert (again.newest_step, again.newest().tracking_run) == (7, "abc")


def test_a_run_without_bank_and_optimizer_slots_has_a_state_too(tmp_path):
    states = States(str(tmp_path))
    states.write(make_state(bank={}, optimizer={}, tracking_run="", history={}))
    assert tiny.differences(make_state(bank={}, optimizer={}, history={}), states.newest()) == []


def test_the_newest_is_the_one_with_the_most_steps(tmp_path):
    states = States(str(tmp_path), num_checkpoints=10)
    for step in (5, 100_000_000, 40, 99_999_999):
        states.write(make_state(step))
    assert [int(name.removeprefix("step-")) for name in states.complete()] == [5, 40, 99_999_999, 100_000_000]
    assert states.newest().step == states.newest_step == 100_000_000


@pytest.mark.parametrize("count", range(len(FILES)))
def test_a_state_that_was_not_written_to_its_end_is_not_seen(tmp_path, folder, count):
    states = States(str(folder))
    States(str(tmp_path / "later")).write(make_state(9))
    broken = folder / "step-00000009"
    broken.mkdir()
    for file in FILES[:count]:
        shutil.copy(tmp_path / "later" / "step-00000009" / file, broken)
    (broken / "state.json.writing-12345").write_bytes(b"{")
    assert (states.complete(), states.newest_step, states.newest().step) == (["step-00000007"], 7, 7)
    # Whoever writes next takes its place, or takes it away.
    if count % 2:
        states.write(make_state(9, seed=1))
        assert sorted(each.name for each in broken.iterdir()) == sorted(FILES)
        assert tiny.differences(states.newest(), make_state(9, seed=1)) == []
    else:
        states.write(make_state(11))
        assert [each.name for each in sorted(folder.iterdir())] == ["step-00000007", "step-00000011"]


@pytest.mark.parametrize("place", ["disk", "memory"])
@pytest.mark.parametrize("keep", [1, 2, 3])
def test_as_many_states_stay_as_asked(tmp_path, keep, place):
    uri = str(tmp_path) if place == "disk" else f"memory://{tmp_path.name}"
    states = States(uri, num_checkpoints=keep)
    for step in range(1, 6):
        states.write(make_state(step))
        assert states.complete() == [f"step-{k:08d}" for k in range(max(1, step - keep + 1), step + 1)]
        assert Folder(uri).folders() == states.complete()


def test_a_state_that_was_deleted_by_half_is_not_one(tmp_path, monkeypatch):
    """Its COMPLETE goes first: what a killed process leaves must not look whole."""
    states = States(str(tmp_path), num_checkpoints=1)
    states.write(make_state(1))

    def dies_inside(folder, name):
        (tmp_path / name / "model.safetensors").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as dying:
        dying.setattr(
            Folder,
            "delete_folder",
            lambda folder, name: dies_inside(folder, name) if (tmp_path / name).is_dir() else None,
        )
        with pytest.raises(KeyboardInterrupt):
            states.write(make_state(2))
    assert (tmp_path / "step-00000001" / "bank.safetensors").exists()
    assert states.complete() == ["step-00000002"]
    states.write(make_state(3))
    assert [each.name for each in tmp_path.iterdir()] == ["step-00000003"]


def test_folders_of_others_stay(tmp_path):
    for name in ("mine", "step-final", "step-7", "backup-step-00000001"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "COMPLETE").write_text("{}")
    states = States(str(tmp_path), num_checkpoints=1)
    for step in (3, 4):
        states.write(make_state(step))
    assert states.complete() == ["step-00000004"]
    assert {each.name for each in tmp_path.iterdir()} == {
        "mine",
        "step-final",
        "step-7",
        "backup-step-00000001",
        "step-00000004",
    }


def test_the_same_state_again_touches_no_file_and_another_replaces_it(folder):
    def stamps() -> dict:
        return {
            each.name: (each.stat().st_mtime_ns, each.stat().st_ino) for each in (folder / "step-00000007").iterdir()
        }

    before, states = stamps(), States(str(folder), num_checkpoints=1)
    states.write(make_state())
    assert stamps() == before
    states.write(make_state(history={"after stage 2": {}}))
    assert states.newest().history == {"after stage 2": {}}


@pytest.mark.parametrize("file", FILES[:-1])
def test_one_changed_byte_is_refused_by_name(folder, file):
    data = bytearray((folder / "step-00000007" / file).read_bytes())
    data[len(data) // 2] ^= 1
    rewrite(folder, file, bytes(data), sums=False)
    with pytest.raises(
        UserError, match=rf"step-00000007: {file} does not match its checksum; delete that folder"
    ) as caught:
        States(str(folder)).newest()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("how", ["changed", "missing"])
def test_without_the_damaged_folder_it_goes_on_from_the_state_before(folder, how):
    """The advice of both lines: delete that folder."""
    States(str(folder)).write(make_state(step=9))
    damaged = folder / "step-00000009" / "model.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1]) if how == "changed" else damaged.unlink()
    with pytest.raises(UserError, match="delete that folder to resume from the state before it") as caught:
        States(str(folder)).newest()
    named = str(caught.value).split()[2].rstrip(":")
    shutil.rmtree(named)
    assert States(str(folder)).newest().step == 7


@pytest.mark.parametrize("file", FILES[:-1])
def test_a_missing_file_is_refused(folder, file):
    (folder / "step-00000007" / file).unlink()
    with pytest.raises(UserError, match="cannot be read"):
        States(str(folder)).newest()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe\x00",
        b"{",
        b"[]",
        b"3",
        b"null",
        b'"done"',
        b"[" * 100_000,
        b"{}",
        b'{"state.json": 3}',
        b'{"model.safetensors": null}',
    ],
)
def test_a_complete_file_of_something_else_is_one_line(folder, content):
    (folder / "step-00000007" / "COMPLETE").write_bytes(content)
    with pytest.raises(UserError, match="step-00000007") as caught:
        States(str(folder)).newest()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"[]",
        b"7",
        b"{}",
        b"not json",
        b"\xff",
        json.dumps({"version": STATE_VERSION}).encode(),
        json.dumps({"version": STATE_VERSION, "step": 7, "stage": 2, "identity": {}, "extra": 1}).encode(),
        json.dumps({"version": STATE_VERSION, "step": "7", "stage": 2, "identity": {}}).encode(),
        json.dumps({"version": STATE_VERSION, "step": 8, "stage": 2, "identity": {}}).encode(),
        json.dumps({"version": STATE_VERSION, "step": 7, "stage": 3, "identity": {}}).encode(),
        json.dumps({"version": STATE_VERSION, "step": 7, "stage": 2, "identity": []}).encode(),
    ],
)
def test_facts_of_something_else_are_one_line_even_with_a_checksum_that_fits(folder, content):
    rewrite(folder, "state.json", content, sums=True)
    with pytest.raises(UserError, match="step-00000007 cannot be read") as caught:
        States(str(folder)).newest()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"\x00" * 8, b"\x80\x04\x95" + b"pickle", (2**40).to_bytes(8, "little") + b"{}"]
)
def test_tensors_of_something_else_are_one_line_even_with_a_checksum_that_fits(folder, content):
    rewrite(folder, "model.safetensors", content, sums=True)
    with pytest.raises(UserError, match="step-00000007 cannot be read") as caught:
        States(str(folder)).newest()
    assert "\n" not in str(caught.value)


def test_another_version_is_named(folder):
    facts = json.loads((folder / "step-00000007" / "state.json").read_text())
    rewrite(folder, "state.json", json.dumps({**facts, "version": STATE_VERSION + 1}).encode(), sums=True)
    with pytest.raises(
        UserError, match=f"has version {STATE_VERSION + 1}, this program reads {STATE_VERSION}: resume with"
    ):
        States(str(folder)).newest()


def test_a_state_of_the_version_before_says_what_to_do(folder):
    facts = json.loads((folder / "step-00000007" / "state.json").read_text())
    older = {**facts, "version": 2, "full": facts.pop("stage") == 2}
    rewrite(folder, "state.json", json.dumps(older).encode(), sums=True)
    with pytest.raises(UserError, match=r"finish the run with hcmoco 0\.1, or start again .* still loads$") as caught:
        States(str(folder)).newest()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"seed": 4}, "seed was 3, now 4"),
        ({"optim": {"lr": 0.2, "name": "sgd"}}, r"optim.lr was 0.1, now 0.2"),
        ({"plan": {"sources": [{"name": "a"}, {"name": "c"}]}}, r"plan.sources.1.name was 'b', now 'c'"),
        ({"plan": {"sources": [{"name": "a"}]}}, r"plan.sources was \[.*\], now \[.*\]"),
        ({"optim": {"name": "sgd"}}, r"optim.lr was 0.1, now None"),
        ({"new": 1}, r"new was None, now 1"),
    ],
)
def test_a_run_of_another_config_is_told_what_differs(change, line):
    identity = make_state().identity
    with pytest.raises(
        UserError, match=rf"^runs/x holds a run with another config: {line}; take the same config again"
    ) as caught:
        check_identity(identity, {**identity, **change}, "runs/x")
    assert "\n" not in str(caught.value)


def test_tuples_and_lists_are_the_same_config():
    check_identity({"scale": [1.0, 1.4]}, {"scale": (1.0, 1.4)}, "runs/x")


def test_a_writer_of_an_earlier_start_changes_nothing(tmp_path):
    """It is cut off before it writes, or while it writes: then what it has begun is never a state."""
    uri = str(tmp_path)
    first = States(uri, 1, States(uri).begin_attempt())
    first.write(make_state(3))
    second = States(uri, 1, States(uri).begin_attempt())
    before = tree(tmp_path)
    with pytest.raises(UserError, match=r"the run was started again \(start 2\) while this worker belongs to start 1"):
        first.write(make_state(6))
    assert tree(tmp_path) == before
    second.write(make_state(6))
    assert States(uri).complete() == ["step-00000006"]


def test_a_start_goes_on_from_the_step_that_was_decided(tmp_path):
    states = States(str(tmp_path))
    assert states.at(0) is None
    states.write(make_state(3))
    states.write(make_state(6))
    assert states.at(3).step == 3
    with pytest.raises(UserError, match="step-00000009 is gone since the workers were started; run the"):
        states.at(9)


def tree(folder):
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}

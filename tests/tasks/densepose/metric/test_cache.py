"""The cache of computed arrays: whole or not at all."""

import multiprocessing
import os

import numpy as np
import pytest

from hcmoco.tasks.densepose.metric.cache import cache_folder, cached, fingerprint

KEY = "0123456789abcdef" * 4
ARRAYS = {"a": np.arange(6, dtype=np.float16).reshape(2, 3), "b": np.array([3], np.int32)}


def never():
    raise AssertionError("it is computed although it is there")


def test_what_was_computed_is_read_back(tmp_path):
    assert cached("thing", KEY, lambda: ARRAYS, tmp_path) is ARRAYS
    found = cached("thing", KEY, never, tmp_path)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
    assert not list(tmp_path.glob("*.part"))


def test_another_key_is_another_file(tmp_path):
    cached("thing", KEY, lambda: ARRAYS, tmp_path)
    other = {"a": np.zeros(1, np.float32)}
    assert cached("thing", "f" * 64, lambda: other, tmp_path) is other
    # the same beginning, another key
    assert cached("thing", KEY[:32] + "f" * 32, lambda: other, tmp_path) is other


@pytest.mark.parametrize(
    "damage",
    [lambda data: data[:-7], lambda data: data[:-1] + bytes([data[-1] ^ 1]), lambda data: b"", lambda data: b"x" * 99],
)
def test_a_damaged_file_is_computed_again(tmp_path, damage, caplog):
    cached("thing", KEY, lambda: ARRAYS, tmp_path)
    (file,) = tmp_path.glob("*.safetensors")
    file.write_bytes(damage(file.read_bytes()))
    assert cached("thing", KEY, lambda: ARRAYS, tmp_path) is ARRAYS
    assert "is damaged and computed again" in caplog.text
    cached("thing", KEY, never, tmp_path)


def test_a_failed_computation_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError):
        cached("thing", KEY, lambda: 1 / 0, tmp_path)
    assert not list(tmp_path.glob("*.safetensors"))
    assert cached("thing", KEY, lambda: ARRAYS, tmp_path) is ARRAYS


def test_a_folder_that_cannot_be_written_is_told(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    assert cached("thing", KEY, lambda: ARRAYS, tmp_path / "file" / "cache") is ARRAYS
    assert "is computed and not stored" in caplog.text


def _compute_once(folder):
    def compute():
        with open(folder / "computed", "a") as file:
            file.write(f"{os.getpid()}\n")
        return ARRAYS

    cached("thing", KEY, compute, folder)


def test_of_several_processes_one_computes(tmp_path):
    fork = multiprocessing.get_context("fork")
    workers = [fork.Process(target=_compute_once, args=(tmp_path,)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert len((tmp_path / "computed").read_text().splitlines()) == 1


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("HCMOCO_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("HCMOCO_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "hcmoco"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "hcmoco"


def test_a_fingerprint_is_of_names_types_shapes_and_values():
    changed = [
        {"a": ARRAYS["a"]},
        {"a": ARRAYS["a"].astype(np.float32), "b": ARRAYS["b"]},
        {"a": ARRAYS["a"].reshape(3, 2), "b": ARRAYS["b"]},
        {"a": ARRAYS["a"], "b": ARRAYS["b"] + 1},
        {"a": ARRAYS["a"], "c": ARRAYS["b"]},
    ]
    assert len({fingerprint(each) for each in [ARRAYS, *changed]}) == 6
    assert fingerprint(dict(reversed(ARRAYS.items()))) == fingerprint(ARRAYS)

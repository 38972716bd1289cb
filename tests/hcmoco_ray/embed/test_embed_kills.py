"""Real kills: of the whole program, and of the actors under it. The files are those of a run that nobody disturbed."""

import os
import signal
from pathlib import Path

import psutil
import pytest

from hcmoco.data.shards.manifest import About, Provenance
from hcmoco.data.shards.writer import write_shards
from hcmoco.synthetic import DEPTH_CODEC, PeopleConfig, make_person
from tests.helpers.started import Started

PEOPLE = 1600  # 7 parts


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Forty people again and again, under other ids."""
    folder = tmp_path_factory.mktemp("data") / "people"
    few = [make_person(PeopleConfig(size=64, seed=1), k, dataset="people", split="train") for k in range(40)]
    rows = [{**few[k % 40].to_row(0), "id": f"people/{k}"} for k in range(PEOPLE)]
    about = {"joints": "people-31", "joints3d": "people-31", "depth_codec": DEPTH_CODEC, "depth_masking": "masked"}
    write_shards(str(folder), rows, About(dataset="people", size=64, provenance=Provenance(program="tests"), **about))
    return folder


def started(data: Path, out: Path) -> Started:
    return Started("pipelines/embed.py", "people-small", str(data), f"--out={out}", "--size=64", "--workers=2")


def finished(process: Started) -> str:
    """Wait for the end of a program; returns what it said."""
    status = process.process.wait(1500)
    said = process.said
    process.kill()
    assert status == 0, said
    return said


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory) -> Path:
    """What an undisturbed run writes."""
    out = tmp_path_factory.mktemp("whole") / "out"
    finished(started(data, out))
    return out


def assert_same(out: Path, whole: Path) -> None:
    names = sorted(each.name for each in whole.iterdir())
    assert sorted(each.name for each in out.iterdir()) == names
    assert sum(name.startswith("part-") for name in names) == 7
    for name in names:
        assert (out / name).read_bytes() == (whole / name).read_bytes(), name


def parts(out: Path) -> list[Path]:
    return list((out / "_parts").glob("part-*.json"))


@pytest.mark.slow
@pytest.mark.long
def test_killed_and_started_again(data, whole, tmp_path):
    out, kept = tmp_path / "out", {}
    for least in (1, 3):
        process = started(data, out).until(lambda least=least: len(parts(out)) >= least)
        os.killpg(process.process.pid, signal.SIGKILL)
        process.kill()
        assert not (out / "manifest.json").exists()
        for path in parts(out):
            file = path.with_suffix(".parquet").name
            if (out / file).exists():
                inode = (out / file).stat().st_ino
                assert kept.setdefault(file, inode) == inode  # what counts is not written again
    finished(started(data, out))
    for file, inode in kept.items():
        assert (out / file).stat().st_ino == inode
    assert_same(out, whole)
    assert "already embedded, 1600 people in 7 files" in finished(started(data, out))


@pytest.mark.slow
@pytest.mark.long
def test_an_actor_is_lost(data, whole, tmp_path):
    out = tmp_path / "out"
    process = started(data, out).until(lambda: len(parts(out)) >= 1)
    actors = [each for each in process.family() if "Embedder" in " ".join(_command(each))]
    assert actors
    actors[0].kill()
    said = finished(process)
    assert "a process that embeds was lost" in said
    assert_same(out, whole)


@pytest.mark.slow
@pytest.mark.long
def test_a_ctrl_c_keeps_what_is_written(data, whole, tmp_path):
    out = tmp_path / "out"
    process = started(data, out).until(lambda: len(parts(out)) >= 1)
    status, said = process.stop(signal.SIGINT)
    assert status == 130
    assert "keeps what is written, the same command resumes" in said
    finished(started(data, out))
    assert_same(out, whole)


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []

"""What `prepare` advises about the folder that it writes to is done here, and it helps."""

import shutil

import pytest

from hcmoco_ray.commands.prepare import main
from tests.helpers import recording_files


@pytest.fixture
def call(ray_session, tmp_path, capsys):
    """Prepare the same recording: exit status and stderr."""
    recording_files.write_plain(tmp_path / "it", 1)

    def run(out, *options: str) -> tuple[int, str]:
        status = main(["recording", "--path", str(tmp_path / "it"), "--out", str(tmp_path / out), *options])
        return status, capsys.readouterr().err

    return run


def test_a_folder_of_something_else(call, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    status, err = call("out")
    assert status == 2
    assert err.endswith("is not empty and holds no data set; choose another --out\n")
    assert call("other")[0] == 0
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


def test_a_folder_of_another_data_set(call, tmp_path):
    assert call("out")[0] == 0
    status, err = call("out", "--size=64")
    assert status == 2
    assert err.endswith(
        "already holds a data set with size = 320, not 64 as requested; choose another --out or delete it\n"
    )
    assert call("other", "--size=64")[0] == 0
    shutil.rmtree(tmp_path / "out")
    assert call("out", "--size=64")[0] == 0

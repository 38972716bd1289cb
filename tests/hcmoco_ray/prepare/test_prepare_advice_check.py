"""What the commands of `prepare`, and the programs on pictures, advise is done here, and it helps."""

import pytest

from hcmoco.errors import UserError
from hcmoco.inference.inputs import find_inputs
from hcmoco.inference.writer import check_out
from hcmoco_ray.commands.prepare import main
from tests.helpers import humman_files, static_camera


@pytest.fixture
def call(capsys):
    def run(*command) -> tuple[int, str]:
        status = main([str(each) for each in command])
        return status, capsys.readouterr().err

    return run


def test_files_that_are_missing_are_downloaded_again_or_found_elsewhere(call, tmp_path):
    humman_files.write_humman(tmp_path / "there", kinects=1)
    humman_files.write_humman(tmp_path / "cut", kinects=1)
    lost = next((tmp_path / "cut").rglob("kinect_mask/*/*.png"))
    whole = lost.read_bytes()
    lost.unlink()
    status, err = call("humman", "--source", tmp_path / "cut", "--check")
    assert status == 2
    assert err.endswith("as listed above; download it again or fix it, or look at where --source points\n")
    assert call("humman", "--source", tmp_path / "there", "--check")[0] == 0
    lost.write_bytes(whole)
    assert call("humman", "--source", tmp_path / "cut", "--check")[0] == 0


def test_records_that_are_rejected_are_mended_as_their_lines_say(call, tmp_path, capsys):
    static_camera.write(tmp_path, static_camera.frames(2))
    command = ["recording", "--path", tmp_path, "--check"]
    assert main([str(each) for each in (*command, "--depth-masking=masked")]) == 2
    out, err = capsys.readouterr()
    assert err.endswith("are rejected, as listed above; do what the lines say\n")
    assert "or --depth-masking unmasked" in out
    assert call(*command, "--depth-masking=unmasked")[0] == 0


def test_pictures_are_given_or_converted_as_the_lines_say(tmp_path):
    with pytest.raises(UserError, match="give a picture, a video, or a folder of them"):
        find_inputs([str(tmp_path / "nowhere")], "about.json")
    (tmp_path / "a.heic").write_bytes(b"x")
    with pytest.raises(UserError, match="convert them first"):
        find_inputs([str(tmp_path)], "about.json")
    (tmp_path / "a.jpg").write_bytes(b"x")
    for given in (tmp_path, tmp_path / "a.jpg"):
        assert len(find_inputs([str(given)], "about.json").files) == 1


def test_predictions_go_to_an_empty_or_a_new_folder(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="give an empty or a new folder"):
        check_out(tmp_path)
    (tmp_path / "empty").mkdir()
    check_out(tmp_path / "empty")
    check_out(tmp_path / "new")

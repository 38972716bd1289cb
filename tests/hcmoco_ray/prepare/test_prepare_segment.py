"""--segment by the command: what a recording becomes, and what the manifest and the card say of it."""

import json

import numpy as np

from hcmoco.data import codecs
from hcmoco.data.shards.reader import Shards
from hcmoco_ray.commands.prepare import main
from tests.helpers import static_camera


def test_a_recording_of_a_static_camera(ray_session, tmp_path, capsys):
    seen = static_camera.frames(12)
    static_camera.write(tmp_path / "it", seen)
    command = ["recording", "--path", str(tmp_path / "it"), "--segment", "background", "--background-tolerance", "60"]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0, capsys.readouterr()
    assert "12 rows in 1 files" in capsys.readouterr().out
    shards = Shards.open(str(tmp_path / "out"))
    manifest = shards.manifest
    assert manifest.depth_masking == "masked"
    facts = manifest.calibrations["segmentation"]
    assert (facts["by"], facts["pictures"], facts["tolerance_mm"]) == ("background of the frames themselves", 12, 60.0)
    assert manifest.provenance.arguments["segment"] == "background"
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| depth is | masked to the person |" in card
    assert "| segmentation | background of the frames themselves | 12 | 60 |" in card
    assert "png16" not in card.split("What was measured")[1]
    rows = [row for group in range(len(shards.group_rows)) for row in shards.read_group(group).to_pylist()]
    for row in rows:
        frame = seen[int(row["id"].partition("/")[2])]
        readings = np.unique(codecs.decode_depth(row["depth"], "png16"))[1:]
        assert np.isin(readings, frame.depth[frame.person]).mean() > 0.97
    # Without it the rows themselves tell what they show.
    assert main([*command[:3], "--out", str(tmp_path / "whole")]) == 0
    assert Shards.open(str(tmp_path / "whole")).manifest.depth_masking == "unmasked"
    assert main([*command, "--out", str(tmp_path / "whole")]) == 2
    assert "already holds a data set with segment = ''" in capsys.readouterr().err


def test_a_folder_of_masks_that_lacks_all_is_a_line(ray_session, tmp_path, capsys):
    static_camera.write(tmp_path / "it", static_camera.frames(6))
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "other.png").write_bytes(codecs.encode_labels(static_camera.frames(1)[0].person.astype("u1")))
    line = {"rgb": "rgb/0000.jpg", "depth": "depth/0000.png"}
    (tmp_path / "it" / "people.jsonl").write_text(json.dumps(line))
    given = ["folder", "--path", str(tmp_path / "it"), "--segment", str(tmp_path / "masks"), "--out"]
    assert main([*given, str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "mask: its picture 'rgb/0000' does not exist in" in said
    assert "Traceback" not in said

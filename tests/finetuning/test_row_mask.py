"""--mask of evaluate on prepared rows: what is known of a whole picture is cut as the rows were."""

import json

import numpy as np
import pytest

from hcmoco.data import codecs
from hcmoco.data.shards.manifest import About, Provenance
from hcmoco.data.shards.writer import write_shards
from hcmoco.datasets import folder
from hcmoco.datasets.base import read_all
from hcmoco.datasets.segmentation import parse
from hcmoco.errors import UserError
from hcmoco.finetuning.row_mask import ROWS, RowMask, make_row_mask
from tests.helpers import static_camera

SETTINGS = {"tolerance_mm": 50.0, "min_score": 0.5, "side": 800}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Three people, prepared with and without their masks; small, so that the rows are shrunk."""
    root = tmp_path_factory.mktemp("rows")
    seen = static_camera.frames(3)
    static_camera.write(root, seen, masks="masks")
    (root / "empty.png").write_bytes(codecs.encode_depth(static_camera.empty(), "png16"))
    boxes = [[float(v) for v in (x.min(), y.min(), x.max() + 1, y.max() + 1)] for y, x in
             (np.nonzero(each.person) for each in seen)]  # fmt: skip
    lines = [
        {"rgb": f"rgb/{number:04d}.jpg", "depth": f"depth/{number:04d}.png", "box": box, "id": f"{number:04d}.jpg"}
        for number, box in enumerate(boxes)
    ]
    (root / "people.jsonl").write_text("\n".join(map(json.dumps, lines)))
    about = About(dataset="folder", joints="coco-17", size=48, provenance=Provenance(program="tests"))
    found = {}
    for name, options in (("whole", {}), ("masked", {"segment": str(root / "masks")})):
        people = list(read_all(folder.READER, folder.FolderConfig(path=str(root), size=48, **options)))
        found[name] = (
            write_shards(str(root / name), people, about),
            [each.to_row(number) for number, each in enumerate(people)],
        )
    return root, found


@pytest.mark.parametrize("way", ["masks", "empty.png"])
def test_a_row_becomes_what_it_is_if_it_is_prepared_with_the_mask(prepared, way):
    root, found = prepared
    (manifest, whole), (_, masked) = found["whole"], found["masked"]
    assert {row["size"] for row in whole} == {48}
    mask = make_row_mask(way, parse(str(root / way), "--mask"), manifest, SETTINGS)
    for row, right in zip(whole, masked, strict=True):
        one, other = (codecs.decode_depth(each["depth"], "png16") for each in (mask.apply(row), right))
        agreement = ((one > 0) & (other > 0)).sum() / ((one > 0) | (other > 0)).sum()
        assert agreement == 1 if way == "masks" else agreement > 0.93
        np.testing.assert_array_equal(one[(one > 0) & (other > 0)], other[(one > 0) & (other > 0)])


def test_rows_with_masks_need_nothing_else(prepared):
    _, found = prepared
    (manifest, masked), (_, whole) = found["masked"], found["whole"]
    mask = make_row_mask(ROWS, None, manifest, SETTINGS)
    for row, right in zip(whole, masked, strict=True):
        left = mask.apply({**row, "mask": right["mask"]})["depth"]
        np.testing.assert_array_equal(codecs.decode_depth(left, "png16"), codecs.decode_depth(right["depth"], "png16"))


def test_what_rows_lack_is_told(prepared):
    root, found = prepared
    manifest, (row, *_) = found["whole"]
    with pytest.raises(UserError, match=r"--mask rows: 0 of the 3 rows with depth have a mask; give a folder of masks"):
        make_row_mask(ROWS, None, manifest, SETTINGS)
    with pytest.raises(UserError, match="prepared rows are cuts, which do not tell what stays behind"):
        make_row_mask("background", parse("background", "--mask"), manifest, SETTINGS)
    empty = make_row_mask("empty.png", parse(str(root / "empty.png"), "--mask"), manifest, SETTINGS)
    with pytest.raises(UserError, match=r"record .folder/0000\.jpg.: the row does not say what of its picture it is"):
        empty.apply({**row, "crop": None})
    with pytest.raises(UserError, match="its picture was 90 x 72, the mask's is 96 x 72 pixels"):
        empty.apply({**row, "crop": [*row["crop"][:3], 90, 72]})
    with pytest.raises(UserError, match="no pixel on the mask has a depth reading"):
        RowMask("png16").apply({**row, "mask": codecs.encode_labels(np.zeros((48, 48), np.uint8))})

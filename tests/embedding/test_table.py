"""Files of embeddings: what other programs read of them, and how many people each has."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hcmoco.embedding.crops import Crop
from hcmoco.embedding.encode import Collected, Kinds
from hcmoco.embedding.table import EmbeddingSet, part_rows, to_numpy, to_table, write_part
from hcmoco.errors import UserError
from hcmoco.storage import Folder
from tests.helpers.embedding_sets import write_embeddings

SHAPES = {"rgb": (8,), "keypoints": (8,), "rgb_joints": (3, 8), "keypoints_joints": (3, 8), "rgb_dense": (8, 2, 4)}


def test_a_part_as_other_programs_read_it(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {name: rng.standard_normal((5, *shape)).astype(np.float16) for name, shape in SHAPES.items()}
    arrays |= {"joints_visible": rng.random((5, 3)) < 0.5, "present": rng.random((5, 3)) < 0.5}
    crops = [Crop(10 + k, f"people/{k}", "people", "", None, None, None) for k in range(4)]  # the fifth is rejected
    table = to_table(Collected(5, Kinds(joints=True, dense=True), crops, arrays), SHAPES)
    file = write_part(Folder(str(tmp_path)), "part-00000.parquet", table, SHAPES)
    assert file.bytes == (tmp_path / file.name).stat().st_size
    stored = pq.read_table(tmp_path / file.name)
    assert stored.schema.field("rgb").type == pa.list_(pa.field("item", pa.float16(), nullable=False), 8)
    for name, shape in SHAPES.items():
        assert json.loads(stored.schema.field(name).metadata[b"shape"]) == list(shape)
        assert np.array_equal(to_numpy(stored[name], shape), arrays[name][:4])
    frame = pd.read_parquet(tmp_path / file.name)
    assert frame["index"].tolist() == [10, 11, 12, 13]
    assert frame["has_depth"].tolist() == arrays["present"][:4, 1].tolist()
    assert np.array_equal(np.stack(frame["rgb_dense"]).reshape(-1, *SHAPES["rgb_dense"]), arrays["rgb_dense"][:4])
    assert np.array_equal(np.stack(frame["joints_visible"]), arrays["joints_visible"][:4])


@pytest.mark.parametrize(
    ("rows", "columns", "expected"),
    [
        (10, {"rgb": (128,)}, 256),
        (100_000, {"rgb": (128,)}, 2048),
        (100_000_000, {"rgb": (128,)}, 16384),
        (100_000, {"rgb": (128,), "rgb_dense": (128, 24, 24)}, 512),  # 148 kB a row, 128 MB a file
        (100_000, {"rgb_dense": (128, 320, 320)}, 4),
    ],
)
def test_files_are_neither_many_nor_large(rows, columns, expected):
    assert part_rows(rows, columns) == expected


def test_a_damaged_file_is_named(tmp_path):
    write_embeddings(tmp_path, {"rgb": np.eye(9, dtype=np.float16)})
    path = tmp_path / "part-00007.parquet"
    data, group = bytearray(path.read_bytes()), pq.read_metadata(path).row_group(0)
    column = group.column(group.num_columns - 1)  # the embeddings
    data[column.data_page_offset + column.total_compressed_size - 1] ^= 255
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"part-00007\.parquet is damaged"):
        list(EmbeddingSet.open(str(tmp_path)).read(["id", "rgb"]))
    path.write_bytes(data[:-1])
    with pytest.raises(UserError, match=r"part-00007\.parquet is missing or not of the"):
        EmbeddingSet.open(str(tmp_path))
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(UserError, match="is not of embeddings"):
        EmbeddingSet.open(str(tmp_path))

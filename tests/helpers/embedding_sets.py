"""Folders of embeddings whose vectors a test chooses."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hcmoco.embedding.crops import Crop
from hcmoco.embedding.encode import Collected, Kinds
from hcmoco.embedding.table import EmbeddingSet, Manifest, to_table, write_part
from hcmoco.storage import Folder

PRESENT = ("rgb", "depth", "keypoints")


def write_embeddings(
    path: Path,
    columns: dict[str, np.ndarray],
    *,
    ids: Sequence[str] | None = None,
    subjects: Sequence[str] | None = None,
    present: dict[str, np.ndarray] | None = None,
    part: int = 7,
    weights: str = "a",
) -> EmbeddingSet:
    """Write a finished folder of embeddings, float [N, D] by modality, in parts of a few rows.

    Args:
        path: the folder.
        columns: the embeddings.
        ids, subjects: of the people; None: their numbers, and none.
        present: bool [N] by modality; None: everybody has all of `columns`.
        part: rows of a file.
        weights: stands for their digest.
    """
    count = len(next(iter(columns.values())))
    shapes = {name: values.shape[1:] for name, values in columns.items()}
    folder, files = Folder(str(path)), []
    for first in range(0, count, part):
        rows = range(first, min(first + part, count))
        crops = [
            Crop(k, ids[k] if ids else f"people/{k}", "people", subjects[k] if subjects else "", None, None, None)
            for k in rows
        ]
        has = np.array(
            [
                [
                    name in columns and (present is None or bool(present.get(name, np.ones(count))[k]))
                    for name in PRESENT
                ]
                for k in rows
            ]
        )
        found = Collected(len(rows), Kinds(), crops)
        found.arrays = {"present": has} | {
            name: values[list(rows)].astype(np.float16) for name, values in columns.items()
        }
        files.append(write_part(folder, f"part-{first:05d}.parquet", to_table(found, shapes), shapes))
    manifest = Manifest(
        hcmoco="0",
        request={},
        weights={"name": weights, "sha256": weights},
        data={"uri": "nowhere", "content": "none"},
        embedding_size=next(iter(shapes.values()))[0],
        image_size=32,
        joint_set="mpii-16",
        joints=(),
        shapes=shapes,
        rows=count,
        modalities={},
        rejected=0,
        files=tuple(files),
    )
    folder.write("manifest.json", manifest.model_dump_json().encode())
    return EmbeddingSet.open(str(path))

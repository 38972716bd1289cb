"""One modality of a set of embeddings as the queries or the gallery of a search: who they are, and their embeddings."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hcmoco.data.schema import Modality
from hcmoco.embedding.table import EmbeddingSet, to_numpy

MATCHES = ("id", "name", "subject")


@dataclass(frozen=True)
class Side:
    """One modality of a set of embeddings: the queries, or the gallery.

    Attributes:
        embeddings: the set.
        modality: whose pooled embeddings are compared.
    """

    embeddings: EmbeddingSet
    modality: Modality

    def keys(self, match: str) -> pa.Table:
        """Return `row`, `id`, `index` and `key` of everybody who has the modality, in order.

        Args:
            match: what makes two rows the same person, of MATCHES. A key is null where it is not known.
        """
        first, tables = 0, []
        columns = ["id", "index", "subject", f"has_{self.modality}"]
        for table in self.embeddings.read(columns):
            rows = pa.array(np.arange(first, first + len(table)))
            first += len(table)
            tables.append(
                table.append_column("row", rows)
                .filter(table[f"has_{self.modality}"])
                .select(["row", "id", "index", "subject"])
            )
        found = pa.concat_tables(tables).combine_chunks()
        if match == "subject":
            key = pc.if_else(pc.equal(found["subject"], ""), pa.scalar(None, pa.string()), found["subject"])
        elif match == "name":
            key = pa.array([name_of(each) for each in found["id"].to_pylist()], pa.string())
        else:
            key = found["id"]
        return found.append_column("key", key).drop_columns(["subject"])

    def blocks(self, rows: int) -> Iterator[np.ndarray]:
        """Yield the embeddings of everybody who has the modality, float16 [at most `rows`, D], in order."""
        shape = self.embeddings.manifest.shapes[self.modality]
        for table in self.embeddings.read([self.modality, f"has_{self.modality}"]):
            present = table[f"has_{self.modality}"].to_numpy()
            values = to_numpy(table[self.modality], shape)[present]
            for first in range(0, len(values), rows):
                yield values[first : first + rows]


def name_of(id: str) -> str:
    """Return what pictures of one person in two folders have in common: their path without the ending of the file.

    Args:
        id: `<data set>/<path>`, with `#2` and so on for further people of a picture.
    """
    path, number, which = id.partition("/")[2].partition("#")
    return str(PurePosixPath(path).with_suffix("")) + number + which if path else id

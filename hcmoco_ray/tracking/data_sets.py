"""Describe prepared data sets as MLflow's data set inputs: name, digest, source, columns, number of rows.

MLflow knows a data set by name and digest. The name is that of its folder. The digest is the first 32 of the 64 digits
of `Manifest.content`, since MLflow takes 36 at most; the tag `hcmoco.content` has all of them.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pyarrow as pa

from hcmoco.data.shards.manifest import Manifest
from hcmoco.data.shards.reader import Shards
from hcmoco.license_terms import of_data
from hcmoco.masking import masked
from hcmoco.storage import base_name
from hcmoco.training.config import SourceConfig
from hcmoco_ray.tracking.records import DataSet

Context = Literal["train", "test"]
CONTEXTS: tuple[Context, Context] = ("train", "test")
_CONTEXT = "mlflow.data.context"
_DIGEST_DIGITS = 32
_TAG_LENGTH = 500  # characters, of an input's tag
_TYPES = {
    pa.string(): "string",
    pa.binary(): "binary",
    pa.int64(): "long",
    pa.int32(): "integer",
    pa.float32(): "float",
    pa.bool_(): "boolean",
}


def describe(shards: Shards, context: Context, **tags: str) -> DataSet:
    """Describe an opened data set.

    Args:
        shards: the data set.
        context: "train" if its rows are trained on, "test" if they are scored on.
        tags: more tags, such as the key in the config.
    """
    manifest, uri = shards.manifest, masked(shards.uri)
    scheme, separator, _ = uri.partition("://")
    terms = of_data(manifest)
    own = {
        _CONTEXT: context,
        "license": terms.terms,
        **({"page": terms.page} if terms.page else {}),
        "hcmoco.dataset": manifest.dataset,
        "hcmoco.content": manifest.content,
        **{f"hcmoco.{key}": value for key, value in tags.items()},
    }
    return DataSet(
        name=base_name(uri),
        digest=digest_of(manifest),
        source_type=scheme if separator and scheme != "file" else "local",
        source=json.dumps({"uri": uri}),
        columns=json.dumps({"mlflow_colspec": [_column(each) for each in manifest.schema]}),
        profile=json.dumps({"num_rows": manifest.rows, "modalities": manifest.modalities, "splits": manifest.splits}),
        tags={key: masked(value)[:_TAG_LENGTH] for key, value in own.items()},
    )


def describe_mixture(
    sources: Mapping[str, SourceConfig], opened: Sequence[Shards], held_out: Shards | None
) -> tuple[DataSet, ...]:
    """Describe the data sets of a pre-training.

    Args:
        sources: their config, by name.
        opened: the same data sets.
        held_out: the data set of the probes; None if there is none.
    """
    trained = [
        describe(shards, "train", key=f"data.sources.{name}", weight=f"{source.weight:g}")
        for (name, source), shards in zip(sources.items(), opened, strict=True)
    ]
    return (*trained, *([] if held_out is None else [describe(held_out, "test", key="data.held_out")]))


def digest_of(manifest: Manifest) -> str:
    """Return the digest of a data set in MLflow."""
    return manifest.content[:_DIGEST_DIGITS]


def _column(column: pa.Field) -> dict[str, Any]:
    return {"name": column.name, "required": not column.nullable, **_type(column.type)}


def _type(kind: pa.DataType) -> dict[str, Any]:
    """The type of a column as MLflow's schema has it."""
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        return {"type": "array", "items": _type(kind.value_type)}
    if pa.types.is_struct(kind):
        properties = {each.name: {**_type(each.type), "required": not each.nullable} for each in kind}
        return {"type": "object", "properties": properties}
    return {"type": _TYPES[kind]}

"""The manifest of a prepared data set.

<folder>/
  part-00000.parquet   rows in the order in which they were shuffled, 16 to 32 per row group
  ...
  rejected.jsonl       every rejected record, one line {"id": ..., "reason": ...} each; only if there are any
  README.md            the same for people: what it is, its terms, what was rejected
  manifest.json        written last, at once: a folder without it is not a data set
"""

import hashlib
import json
import re
from typing import Annotated, Any, ClassVar, Literal

import pyarrow as pa
from pydantic import Field, JsonValue, SerializerFunctionWrapHandler, model_serializer, model_validator

from hcmoco.config import Config, build, upgrade
from hcmoco.data.codecs import DepthCodec
from hcmoco.data.depth_masking import DepthMasking
from hcmoco.data.label_maps import DEFAULT_LABEL_MAP, label_map
from hcmoco.data.schema import SCHEMA_VERSION, person_schema, scene_schema
from hcmoco.data.skeletons import joint_set
from hcmoco.errors import UserError, one_line
from hcmoco.storage import Folder, join

MANIFEST = "manifest.json"
REJECTED = "rejected.jsonl"
EXAMPLES = 20

# A name that matches cannot leave the folder.
FileName = Annotated[str, Field(pattern=r"^part-[0-9]{5,}\.parquet$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class File(Config):
    """One Parquet file."""

    name: FileName
    bytes: Count
    sha256: Sha256
    group_rows: tuple[Annotated[int, Field(ge=1)], ...] = Field(description="rows of each row group")
    offsets: tuple[Count, ...] = Field(description="first byte of each row group, and the first byte after the last")

    @model_validator(mode="after")
    def _consistent(self) -> "File":
        steps = zip(self.offsets, self.offsets[1:], strict=False)
        if (
            len(self.offsets) != len(self.group_rows) + 1
            or any(a >= b for a, b in steps)
            or self.offsets[-1] > self.bytes
        ):
            raise ValueError(
                f"offsets of {self.name} do not fit its {len(self.group_rows)} row groups and {self.bytes} bytes"
            )
        return self

    @property
    def rows(self) -> int:
        """Return the number of rows of all row groups."""
        return sum(self.group_rows)


class RejectedRecord(Config):
    """An invalid record."""

    id: str
    reason: str


class RejectedFile(Config):
    """The list of all rejected records."""

    name: Literal["rejected.jsonl"] = "rejected.jsonl"
    bytes: Count
    sha256: Sha256


class Provenance(Config):
    """What wrote the data set: enough to write it again."""

    program: str
    arguments: dict[str, str | int | float | bool | None] = Field(default_factory=dict)
    version: str = Field("", description="of hcmoco")
    raycaster: str = Field(
        "", description="embree or numpy; of synthetic records, where an older hcmoco says none: embree"
    )


class About(Config):
    """What is known of a data set before a row is written."""

    renamed: ClassVar = {"licence": "license", "made_by": "provenance"}

    kind: Literal["person", "scene"] = "person"
    dataset: Name
    joints: str = Field("", description="name of the joint set of `keypoints`; of persons; empty: there are none")
    joints3d: str = Field("", description="name of the joint set of `joints3d`; empty: there are none")
    label_map: str = Field(DEFAULT_LABEL_MAP, description="what the numbers of `parts` mean; not written if human3.6m")
    depth_codec: DepthCodec = "png16"
    depth_masking: DepthMasking = Field(
        "",
        description="masked: depth shows the person alone; unmasked: the background, too; mixed: rows of both kinds; "
        "empty: there is no depth, or an older hcmoco did not say",
    )
    size: Count = Field(0, description="largest side of an image, pixels; of persons")
    license: str = ""
    unit: str = Field("records", description="what its source consists of; a video or a clip gives several records")
    page: str = Field("", description="where the source is described and asked for")
    provenance: Provenance

    @model_serializer(mode="wrap")
    def _without_default_map(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Files of the default map stay as programs that know no other one write and read them."""
        values: dict[str, Any] = write(self)
        if values.get("label_map") == DEFAULT_LABEL_MAP:
            del values["label_map"]
        return values

    @property
    def joint_count(self) -> int:
        """Return the number of 2D joints of a person; raise UserError for an unknown joint set."""
        return len(joint_set(self.joints)) if self.joints else 0

    @property
    def schema(self) -> pa.Schema:
        """Return the Arrow schema of the files; raise UserError for an unknown joint set."""
        if self.kind == "scene":
            return scene_schema()
        return person_schema(self.joint_count, len(joint_set(self.joints3d)) if self.joints3d else 0)


class Manifest(About):
    """`About`, and what was written."""

    renamed: ClassVar = {**About.renamed, "left_out": "skipped", "studies": "calibrations"}

    schema_version: int
    rows: Annotated[int, Field(ge=1)]
    splits: dict[str, Count] = Field(description="rows of each split")
    modalities: dict[str, Count] = Field(description="rows that have each modality")
    rejected: Count = Field(description="invalid records, which are no rows")
    reasons: dict[str, Count] = Field(
        description=f"rejected records by kind of reason: the {EXAMPLES} most frequent kinds"
    )
    rejected_examples: tuple[RejectedRecord, ...] = Field(description=f"the first {EXAMPLES} of them")
    rejected_file: RejectedFile | None = Field(
        None, description="all of them; none where nothing was rejected, or by an older hcmoco"
    )
    skipped: dict[str, Count] = Field(
        default_factory=dict, description="valid records that a rule of the reader excludes, by rule"
    )
    calibrations: dict[str, dict[str, JsonValue]] = Field(
        default_factory=dict, description="what was measured on the source to read it"
    )
    files: tuple[File, ...]

    @model_validator(mode="after")
    def _consistent(self) -> "Manifest":
        names = [file.name for file in self.files]
        if len(set(names)) != len(names):
            raise ValueError("a file is listed twice")
        if sum(file.rows for file in self.files) != self.rows:
            raise ValueError(
                f"the files have {sum(file.rows for file in self.files)} rows together, the manifest says {self.rows}"
            )
        return self

    @property
    def content(self) -> str:
        """Return a digest over the files' digests: equal for data sets with the same bytes in the same order."""
        return hashlib.sha256("".join(file.sha256 for file in self.files).encode()).hexdigest()


def write_manifest(folder: Folder, manifest: Manifest) -> None:
    """Write `manifest` in one step: from then on the folder is a data set."""
    values = manifest.model_dump(mode="json")
    files = ",\n".join("  " + json.dumps(file) for file in values.pop("files"))
    head = "".join(f" {json.dumps(key)}: {json.dumps(value)},\n" for key, value in values.items())
    folder.write(MANIFEST, f'{{\n{head} "files": [\n{files}\n ]\n}}\n'.encode())


def reason_kind(reason: str) -> str:
    """Return a reason without its names and numbers, so that reasons can be counted."""
    return re.sub(r"'[^']*'|\d+(\.\d+)?", "*", reason)


def read_json(folder: Folder, name: str, missing: str, again: str) -> Any:
    """Read a JSON file of a folder.

    Args:
        folder: that holds it.
        name: of the file.
        missing: the line for a folder without it.
        again: what to do where it cannot be read, for the line.

    Raises:
        UserError: there is none, or it is no JSON.
    """
    try:
        return json.loads(folder.read(name))
    except FileNotFoundError:
        raise UserError(missing) from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{join(folder.uri, name)} cannot be read: {one_line(error)}; {again}") from None


def read_manifest(folder: Folder) -> Manifest:
    """Read the manifest of a data set; names of earlier versions are brought up to date.

    Raises:
        UserError: there is none, it is of another schema version, or it contradicts itself.
    """
    where = join(folder.uri, MANIFEST)
    missing = (
        f"{folder.uri} is not a prepared data set (it has no {MANIFEST}); prepare one with "
        "`python pipelines/prepare.py`, or run an interrupted prepare again"
    )
    values = read_json(folder, MANIFEST, missing, "prepare the data set again")
    if not isinstance(values, dict) or values.get("schema_version") != SCHEMA_VERSION:
        found = values.get("schema_version") if isinstance(values, dict) else None
        raise UserError(
            f"{where}: schema_version is {found!r}, this hcmoco reads {SCHEMA_VERSION}; prepare the data set again"
        )
    manifest = build(Manifest, upgrade(Manifest, values), where)
    _ = manifest.schema, label_map(manifest.label_map)  # name an unknown joint set or label map now
    return manifest

"""The data set card (README.md): the manifest in words."""

from hcmoco import markdown
from hcmoco.data.depth_masking import SHOWN
from hcmoco.data.label_maps import DEFAULT_LABEL_MAP
from hcmoco.data.shards.manifest import Manifest, reason_kind

CARD = "README.md"
_NO_TERMS = "not stated; whoever prepared the data set knows where it came from"


def card(manifest: Manifest) -> str:
    """Render a manifest as Markdown: terms, contents, rejected and skipped records, provenance, and calibrations."""
    provenance = manifest.provenance
    read = manifest.rows + manifest.rejected + sum(manifest.skipped.values())
    of_persons = [("keypoints", "joint set", manifest.joints), ("joints3d", "3D joint set", manifest.joints3d)]
    of_persons.append(("depth", "depth codec", manifest.depth_codec))
    if manifest.label_map != DEFAULT_LABEL_MAP:
        of_persons.append(("parts", "label map of parts", manifest.label_map))
    of_persons.append(("depth", "depth is", SHOWN.get(manifest.depth_masking, "")))
    facts = [
        ("records", manifest.kind),
        ("license and terms", manifest.license or _NO_TERMS),
        ("source", manifest.page),
        (
            "rows",
            f"{manifest.rows:,} in {len(manifest.files)} files, {_size(sum(file.bytes for file in manifest.files))}",
        ),
        ("splits", _counts(manifest.splits)),
        ("rows with", _counts({name: count for name, count in manifest.modalities.items() if count})),
        *((name, value) for modality, name, value in of_persons if manifest.modalities.get(modality)),
        ("largest side", f"{manifest.size} pixels" if manifest.size else ""),
        ("made by", f"{provenance.program}, hcmoco {provenance.version}" if provenance.version else provenance.program),
        ("rays cast by", provenance.raycaster),
    ]
    known = [(name, _cell(value)) for name, value in facts if value]
    lines = [f"# {manifest.dataset}", "", markdown.table(("", ""), known, "ll")]
    if manifest.rejected or manifest.skipped:
        lines += ["", "## What is not in it", "", f"Of {read:,} records that were read, {manifest.rows:,} are rows."]
        if manifest.unit != "records":
            lines[-1] += f" One of the {manifest.unit} that does not open counts as one record."
        reasons = [(f"{count:,}", f"skipped: {_cell(reason)}") for reason, count in manifest.skipped.items()]
        reasons += [
            (f"{count:,}", f"rejected{_example(manifest, kind, count)}") for kind, count in manifest.reasons.items()
        ]
        lines += ["", markdown.table(("records", "why"), reasons, "rl")]
        if manifest.rejected_file:
            lines += ["", f"{manifest.rejected_file.name} lists every rejected record with its reason."]
    if provenance.arguments:
        arguments = [(name, _cell(value)) for name, value in provenance.arguments.items()]
        lines += ["", "## How it was made", "", markdown.table(("argument", "value"), arguments, "ll")]
    lines += _measured(manifest)
    lines += [
        "",
        "The schema, the checksums and the place of every row group are in manifest.json; "
        "`prepare.py verify` checks them.",
        "",
    ]
    return "\n".join(lines)


def _measured(manifest: Manifest) -> list[str]:
    if not manifest.calibrations:
        return []
    columns = list(
        dict.fromkeys(
            name
            for values in manifest.calibrations.values()
            for name, value in values.items()
            if not isinstance(value, dict)
        )
    )
    rows = [
        (name, *(_cell(values.get(column, "")) for column in columns))
        for name, values in sorted(manifest.calibrations.items())
    ]
    return [
        "",
        "## What was measured on the source",
        "",
        markdown.table(("", *columns), rows, "l" + "r" * len(columns)),
    ]


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e6 else f"{count / 1e3:,.1f} kB"


def _counts(values: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in values.items())


def _example(manifest: Manifest, kind: str, count: int) -> str:
    """One reason of a kind. If there are several, it says "such as", since they differ in names and numbers."""
    reason = next((record.reason for record in manifest.rejected_examples if reason_kind(record.reason) == kind), kind)
    return f"{', such as' if count > 1 and reason != kind else ''}: {_cell(reason)}"


def _cell(value: object) -> str:
    if isinstance(value, float):
        value = f"{value:.4g}"
    if isinstance(value, list):
        value = " ".join(_cell(item) for item in value)
    return str(value).replace("|", "\\|").replace("\n", " ")

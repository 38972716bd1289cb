"""Open what is to be exported: a pre-training's export, or a fine-tuned model."""

import json

from hcmoco.errors import UserError
from hcmoco.export import Export, load_export
from hcmoco.finetuning.saved_model import FORMAT, Saved, load_model
from hcmoco.storage import Folder, join
from hcmoco.weights import find_weights, list_weights, packaged_weights


def open_source(name: str) -> Export | Saved:
    """Return the export or the fine-tuned model of a name.

    Args:
        name: of weights in this package; a folder or URI of a run, of its export or of its model; or `owner/name` on
            the Hugging Face Hub.

    Raises:
        UserError: nothing of that name exists, or it is damaged.
    """
    if name in list_weights("models"):
        return load_model(name)
    if not packaged_weights(name):
        for folder in (name.rstrip("/"), join(name.rstrip("/"), "model")):
            if _format(folder) == FORMAT:
                return load_model(folder)
    folder = find_weights(name)
    return load_model(folder) if _format(folder) == FORMAT else load_export(folder)


def _format(folder: str) -> str:
    """Return the format that the folder's config.json names, "" without one."""
    try:
        facts = json.loads(Folder(folder).read("config.json"))
    except (OSError, ValueError, UserError):
        return ""
    return str(facts.get("format", "")) if isinstance(facts, dict) else ""

"""Open what is to be exported: a pre-training's export, or a fine-tuned model."""

from hcmoco.export import Export, load_export
from hcmoco.finetuning.saved_model import FORMAT, Saved, load_model
from hcmoco.storage import join
from hcmoco.weights import find_weights, format_of, list_weights, packaged_weights


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
            if format_of(folder) == FORMAT:
                return load_model(folder)
    folder = find_weights(name)
    return load_model(folder) if format_of(folder) == FORMAT else load_export(folder)

"""What a run says where a model is tested on the data that it was trained on."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from hcmoco.data.shards.reader import Shards
from hcmoco.data.shards.shared import count_shared

if TYPE_CHECKING:
    from hcmoco.finetuning.saved_model import Saved

_MEANS = (
    "the scores say how well it is remembered, not what they are on other people; name other data, unless you mean it"
)


def same_data(trained: Mapping[str, Shards], tested: Mapping[str, Shards | None]) -> str:
    """Return a line on data sets that are trained on and tested on; "" if there is none.

    The content decides, so a link, a copy or another way to write the path is the same data; so is a part of it, see
    `count_shared`.

    Args:
        trained: what is trained on, by its key in the config.
        tested: what is scored on, likewise; None: nothing is.
    """
    pairs = [
        told
        for test, other in tested.items()
        for train, own in trained.items()
        if other is not None and (told := _told(train, own, test, other))
    ]
    return f"warning: {', '.join(pairs)}: {_MEANS}" if pairs else ""


def _told(train: str, own: Shards, test: str, other: Shards) -> str:
    """What two data sets have in common, in words; "" if nothing."""
    if other.manifest.content == own.manifest.content:
        return f"{test} is the same data as {train}"
    shared = count_shared(own, other)
    return f"{shared:,} of {other.manifest.rows:,} rows of {test} are in {train}, too" if shared else ""


def trained_on(saved: "Saved", data: str, shards: Shards) -> str:
    """Return a line where a model is scored on what it was trained on; "" if not, or if the model does not know.

    Args:
        saved: the model.
        data: what messages call the data set.
        shards: the data set.
    """
    labels = saved.training.get("labels")
    if not isinstance(labels, dict) or labels.get("content") != shards.manifest.content:
        return ""
    return f"warning: {data} is the same data as the model of {saved.folder} was trained on: {_MEANS}"

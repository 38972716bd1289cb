"""What a run says of masked depth: data sets that differ, and weights that have seen other depth."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from hcmoco.data.depth_masking import SHOWN, combined, masking_of, warning
from hcmoco.data.shards.reader import Shards
from hcmoco.finetuning.config import FinetuneConfig
from hcmoco.pretraining.config import PretrainConfig
from hcmoco.tasks.registry import task_class

if TYPE_CHECKING:
    from hcmoco.cotraining.run import Sources

_ADVICE = "prepare it again with --segment (docs/data/masks.md)"


def _maskings(config: PretrainConfig, sources: Sequence[Shards]) -> dict[str, str]:
    """Whether depth is masked, by data set of those that have depth."""
    named = zip(config.data.sources, sources, strict=True)
    return {name: masking_of(shards.manifest) for name, shards in named if shards.manifest.modalities.get("depth")}


def depth_masking_of(config: PretrainConfig, sources: Sequence[Shards]) -> str:
    """Return the masking of the depth that a pre-training sees, "" if it sees none or that of a data set is unknown."""
    return combined(_maskings(config, sources).values())


def mixed_depth(config: PretrainConfig, sources: Sequence[Shards]) -> str:
    """Return a line on data sets whose depth differs in its masking; "" if all that is known is alike."""
    return _mixed(_maskings(config, sources))


def _mixed(maskings: Mapping[str, str]) -> str:
    known = {name: masking for name, masking in maskings.items() if masking}
    if len(set(known.values())) < 2:
        return ""
    told = ", ".join(f"of {name} {SHOWN[masking]}" for name, masking in known.items())
    return (
        f"warning: depth is {told}: the encoder tells the data sets apart by it; prepare those with a background again "
        "with --segment (docs/data/masks.md)"
    )


def masking_warnings(
    config: FinetuneConfig, train: Shards, test: Shards, encoder_maskings: Iterable[str] = ()
) -> list[str]:
    """Return lines where depth is masked for an encoder or in training, and not where it is used next.

    Args:
        config: of the fine-tuning, or of one of several that differ in their encoders alone.
        train, test: its data.
        encoder_maskings: of the depth that the encoders were trained on.
    """
    if task_class(config.task.name).modality != "depth":
        return []
    labeled, tested = masking_of(train.manifest), masking_of(test.manifest)
    lines = [
        *(warning("the encoder", each, f"data.train ({config.data.train.path})", labeled, _ADVICE)
          for each in encoder_maskings),
        warning("the model", labeled, f"data.test ({config.data.test.path})", tested, _ADVICE),
    ]  # fmt: skip
    return list(dict.fromkeys(filter(None, lines)))


def cotraining_warnings(sources: "Sources", encoder_masking: str) -> list[str]:
    """Return lines where depth of the data sets of a co-training, and of its encoders, differs in its masking."""
    trained = {name: masking_of(getattr(sources, name).manifest) for name in ("unlabeled", "labeled")}
    seen = combined(trained.values())
    tested = {"data.test": sources.test, "data.validation": sources.validation}
    lines = [
        _mixed(trained),
        warning("the encoder", encoder_masking, "data.unlabeled and data.labeled", seen, _ADVICE),
        *(
            warning("the model", seen, name, masking_of(each.manifest), _ADVICE)
            for name, each in tested.items()
            if each
        ),
    ]
    return [line for line in lines if line]

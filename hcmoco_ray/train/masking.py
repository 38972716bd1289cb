"""What a run says of masked depth: data sets that differ, and weights that have seen other depth."""

from collections.abc import Sequence

from hcmoco.data.depth_masking import SHOWN, combined, masking_of, warning
from hcmoco.data.shards.reader import Shards
from hcmoco.finetuning.config import FinetuneConfig
from hcmoco.finetuning.encoder_init import EncoderInit
from hcmoco.finetuning.resolve import ResolvedRun
from hcmoco.pretraining.config import PretrainConfig


def _maskings(config: PretrainConfig, sources: Sequence[Shards]) -> dict[str, str]:
    """Whether depth is masked, by data set of those that have depth."""
    named = zip(config.data.sources, sources, strict=True)
    return {name: masking_of(shards.manifest) for name, shards in named if shards.manifest.modalities.get("depth")}


def depth_masking_of(config: PretrainConfig, sources: Sequence[Shards]) -> str:
    """Return the masking of the depth that a pre-training sees, "" if it sees none or that of a data set is unknown."""
    return combined(_maskings(config, sources).values())


def mixed_depth(config: PretrainConfig, sources: Sequence[Shards]) -> str:
    """Return a line on data sets whose depth differs in its masking; "" if all that is known is alike."""
    known = {name: masking for name, masking in _maskings(config, sources).items() if masking}
    if len(set(known.values())) < 2:
        return ""
    told = ", ".join(f"of {name} {SHOWN[masking]}" for name, masking in known.items())
    return (
        f"warning: depth is {told}: the encoder tells the data sets apart by it; prepare those with a background again "
        "with --segment (docs/data/masks.md)"
    )


def masking_warnings(config: FinetuneConfig, resolved: ResolvedRun, encoder_init: EncoderInit) -> list[str]:
    """Return lines where depth is masked for the encoder or in training, and not where it is used next."""
    if resolved.task.modality != "depth":
        return []
    train, test = (masking_of(each.manifest) for each in (resolved.train_subset, resolved.test_subset))
    advice = "prepare it again with --segment (docs/data/masks.md)"
    lines = [
        warning("the encoder", encoder_init.depth_masking, f"data.train ({config.data.train.path})", train, advice),
        warning("the model", train, f"data.test ({config.data.test.path})", test, advice),
    ]
    return [line for line in lines if line]

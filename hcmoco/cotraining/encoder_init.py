"""The encoders that all methods start with: of one sample-level pre-training; everything else is fresh."""

import hashlib
from collections.abc import Mapping

from hcmoco.errors import UserError
from hcmoco.export import load_export
from hcmoco.finetuning.encoder_init import load_encoder_init, settle_encoder
from hcmoco.models.multimodal import DENSE_MODALITIES, HCMoCo, ModelConfig
from hcmoco.weights import SCRATCH, export_folder

_OF_SKELETON = ("joint_set", "skeleton", "embedding")


def load_encoders_init(model: HCMoCo, init: str) -> dict[str, str]:
    """Give the three encoders of `model` the weights that `init` names.

    Args:
        init: folder of a run or an export of ours, or "scratch", which leaves the weights as they were drawn.
    Returns:
        "text" for people, and "digest": see `start_digest`; "" for scratch.
    Raises:
        UserError: there is no such folder, or its encoders are others.
    """
    if init == SCRATCH:
        return {"text": "scratch: weights drawn from the seed", "digest": ""}
    folder = export_folder(init)
    if folder is None:
        raise UserError(
            f"init: {init} is neither an export nor a finished run of pretrain.py (it has no config.json and no "
            f"export/); give one of "
            "these (python pipelines/pretrain.py --recipe people-cpu objective.method=cmc makes one), or scratch"
        )
    export = load_export(folder)
    for key in _OF_SKELETON:
        exported, wanted = getattr(export.model, key), getattr(model.config, key)
        if exported != wanted:
            raise UserError(
                f"init: the keypoint encoder of {folder} has {key} = {_text(exported)}, model.{key} is "
                f"{_text(wanted)}; set it so"
            )
    digests = {}
    for name in DENSE_MODALITIES:
        loaded = load_encoder_init(folder, getattr(model.config, name), name, key=f"model.{name}")
        getattr(model, name).load_state_dict(loaded.encoder.state_dict())
        digests[name] = loaded.digest
    model.keypoints.load_state_dict(export.skeleton_encoder().state_dict())
    steps, stage = (export.training.get(key, "?") for key in ("steps", "stage"))
    return {"text": f"encoders of {folder} (stage {stage}, {steps} steps)", "digest": start_digest(digests)}


def settle_encoders(config: ModelConfig, init: str) -> ModelConfig:
    """Return a config with the fusions of its encoders decided by the export that they start from.

    Raises:
        UserError: the export is damaged.
    """
    settled = {name: settle_encoder(init, getattr(config, name), name)[0] for name in DENSE_MODALITIES}
    return config.model_copy(update=settled)


def start_digest(digests: Mapping[str, str]) -> str:
    """One digest for those of both image encoders (by modality), which tell a pre-training from others."""
    return hashlib.sha256("/".join(digests[name] for name in DENSE_MODALITIES).encode()).hexdigest()


def _text(value: object) -> str:
    return str(value.model_dump() if hasattr(value, "model_dump") else value)

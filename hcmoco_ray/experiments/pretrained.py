"""Encoder initializations of a grid: from a folder, from scratch, or from a pre-training that the grid runs.

RESULTS/pretrainings/<init>.json keeps the conditions of a pre-training and the digests of its encoders. So a grid whose
experiments are all done needs no weights.
"""

import json
import time
from contextlib import suppress
from dataclasses import dataclass, replace

from hcmoco.config import fingerprint
from hcmoco.errors import UserError
from hcmoco.export import load_export
from hcmoco.finetuning.encoder_init import IMAGENET, SCRATCH, load_encoder_init, settle_encoder, weights_digest
from hcmoco.models.encoders import EncoderConfig
from hcmoco.models.fusion import AS_TRAINED, with_fusion
from hcmoco.models.multimodal import DENSE_MODALITIES
from hcmoco.storage import Folder, join
from hcmoco_ray import cli
from hcmoco_ray import config as run_config
from hcmoco_ray.config import PretrainRecipe
from hcmoco_ray.experiments.grid.config import GridConfig, PretrainedConfig
from hcmoco_ray.experiments.results import NO_WEIGHTS, deciding
from hcmoco_ray.paths import resolve_path, resolve_start
from hcmoco_ray.prepare import ensure
from hcmoco_ray.tracking.config import TrackingConfig
from hcmoco_ray.tracking.provenance import made_by
from hcmoco_ray.train import pretrain as train_pretrain
from hcmoco_ray.train.run_dir import load_saved_config, states_of


@dataclass(frozen=True)
class InitSpec:
    """An encoder initialization that a grid compares.

    Attributes:
        name: in the grid.
        init: as a fine-tuning's init.
        pretraining: the pre-training that produces the weights; None if nothing has to be trained.
        config: its resolved config.
        key: digest of everything that decides its result.
        tracking: overrides that let it track where the grid does; its own stand above them.
        record: name of its record in the results folder.
    """

    name: str
    init: str
    pretraining: PretrainedConfig | None = None
    config: PretrainRecipe | None = None
    key: str = ""
    tracking: tuple[str, ...] = ()
    record: str = ""

    @property
    def available(self) -> bool:
        """Whether the weights can be read: false for a pre-training that is not finished.

        Raises:
            UserError: the folder of the pre-training holds another one.
        """
        if self.config is None:
            return True
        config, before = load_saved_config(self.config)
        return before is not None and before.identity() == config.identity() and train_pretrain.finished(config)

    def values(self) -> dict:
        """Return the recipe's keys with the overrides."""
        assert self.pretraining is not None
        overrides = [*self.pretraining.overrides, f"output_dir={self.pretraining.output_dir}"]
        return cli.values(self.pretraining.pretrain, overrides, below=self.tracking)


def resolve_inits(grid: GridConfig) -> dict[str, InitSpec]:
    """Resolve the initializations of a grid, by name.

    Raises:
        UserError: the recipe of a pre-training does not exist or has a bad key or value.
    """
    return {
        name: replace(
            resolve_init(name, init, grid.tracking),
            record=f"{name}-{grid.record_suffix}" if grid.record_suffix else name,
        )
        for name, init in grid.inits.items()
    }


def resolve_init(name: str, init: str | PretrainedConfig, tracking: TrackingConfig) -> InitSpec:
    """Resolve one initialization.

    Args:
        name: in the grid.
        init: as a fine-tuning's init, or the pre-training that produces it.
        tracking: of the program; what it names holds for the pre-training, too.

    Raises:
        UserError: the recipe of the pre-training does not exist or has a bad key or value.
    """
    if isinstance(init, str):
        return InitSpec(name, init)
    named = tracking.model_dump(include=tracking.model_fields_set & {"uri", "experiment", "system_metrics_interval"})
    overrides = tuple(f"tracking.{key}={json.dumps(value)}" for key, value in named.items())
    bare = InitSpec(name, init.output_dir, init, tracking=overrides)
    config = run_config.check(PretrainRecipe, bare.values(), init.pretrain)
    decided = [
        deciding(_settled(config)),
        {key: ensure.identity(source) for key, source in config.data.sources.items()},
    ]
    key = fingerprint(decided)
    return InitSpec(name, resolve_path(init.output_dir), init, config, key, overrides, name)


def with_fusion_of(
    spec: InitSpec, encoder: EncoderConfig, modality: str, imagenet_weights: str | None
) -> EncoderConfig:
    """Return the config of an encoder with its fusion decided by the weights that it would start from; as it is where
    they cannot be read yet."""
    if encoder.fusion != AS_TRAINED:
        return encoder
    if spec.config is not None:
        return with_fusion(encoder, getattr(_settled(spec.config).model, modality).fusion)
    try:
        init = resolve_start(spec.init)
        return settle_encoder(init, encoder, modality, imagenet_weights=imagenet_weights)[0]
    except UserError:  # `digest_of` says it
        return encoder


def _settled(config: PretrainRecipe) -> PretrainRecipe:
    """Return the config with its fusions decided; as it is where weights are yet to be fetched, which the pre-training
    says itself."""
    with suppress(UserError):
        return config.with_settled_fusions()[0]
    return config


def digest_of(
    spec: InitSpec, encoder: EncoderConfig, modality: str, imagenet_weights: str | None, results: Folder
) -> str | None:
    """Return the digest of the weights that an encoder would start from; None before the pre-training has run.

    Raises:
        LookupError: ImageNet's weights cannot be downloaded; the message is for the table.
        UserError: the weights do not exist or are of another encoder.
    """
    if spec.init == SCRATCH:
        return ""
    if not spec.available:
        record = read_record(spec, results)
        return record["digests"][modality] if record else None
    init = resolve_start(spec.init)
    try:
        return load_encoder_init(init, encoder, modality, imagenet_weights=imagenet_weights).digest
    except UserError:
        if spec.init == IMAGENET and imagenet_weights is None:
            raise LookupError(NO_WEIGHTS) from None
        raise


def read_record(spec: InitSpec, results: Folder) -> dict | None:
    """Read the record of a pre-training; None if it does not exist or is of another config.

    Raises:
        UserError: the file is damaged.
    """
    name = f"pretrainings/{spec.record}.json"
    if spec.pretraining is None or not results.exists(name):
        return None
    try:
        record = json.loads(results.read(name))
        return record if record["key"] == spec.key and record["digests"].keys() >= set(DENSE_MODALITIES) else None
    except (ValueError, KeyError, TypeError, AttributeError):
        again = "delete it, and the same command writes it again"
        raise UserError(f"{join(results.uri, name)} is not the record of a pre-training; {again}") from None


def write_record(spec: InitSpec, results: Folder, seconds: float | None) -> dict:
    """Write the record of a finished pre-training.

    Args:
        seconds: its duration; None if it was not timed from start to end.

    Returns:
        The record.
    """
    assert spec.config is not None
    assert spec.pretraining is not None
    export = load_export(join(spec.config.output_dir, "export"))
    record = {
        "init": spec.record,
        "recipe": spec.pretraining.pretrain,
        "overrides": list(spec.pretraining.overrides),
        "key": spec.key,
        "steps": spec.config.stages.steps,
        "seed": spec.config.seed,
        "precision": load_saved_config(spec.config)[0].train.precision,
        "digests": {modality: weights_digest(export.encoder(modality)) for modality in DENSE_MODALITIES},
        "probes": export.training.get("probes", {}),
        "seconds": seconds,
        **made_by(),
    }
    results.write(f"pretrainings/{spec.record}.json", json.dumps(record, indent=1).encode())
    return record


def pretrain(spec: InitSpec, results: Folder) -> None:
    """Run or resume a pre-training and write its record.

    Raises:
        UserError: it cannot run.
    """
    assert spec.config is not None
    assert spec.pretraining is not None
    from_start = states_of(spec.config).newest_step == 0
    start_time = time.monotonic()
    train_pretrain.run(spec.values(), spec.pretraining.pretrain)
    write_record(spec, results, round(time.monotonic() - start_time, 1) if from_start else None)

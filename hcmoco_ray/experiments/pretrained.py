"""Where a grid's encoders start, known by their weights: from a folder, from nothing, or from a pre-training that the grid makes.

RESULTS/pretrainings/<init>.json keeps what a pre-training was and the digests of its encoders, so that a grid whose cells are all done
needs no weights.
"""

import hashlib
import json
import time
from dataclasses import dataclass

from hcmoco.errors import UserError
from hcmoco.export import load_export
from hcmoco.finetuning.encoder_init import IMAGENET, SCRATCH, start, weights_digest
from hcmoco.models.encoders import EncoderConfig
from hcmoco.models.multimodal import DENSE_MODALITIES
from hcmoco.storage import Folder
from hcmoco_ray import cli
from hcmoco_ray import config as run_config
from hcmoco_ray.config import PretrainRecipe
from hcmoco_ray.experiments.grid.config import GridConfig, PretrainedConfig
from hcmoco_ray.experiments.results import deciding
from hcmoco_ray.paths import at_home
from hcmoco_ray.prepare import ensure
from hcmoco_ray.tracking.provenance import made_by
from hcmoco_ray.train import pretrain as train_pretrain
from hcmoco_ray.train import pretrain_results
from hcmoco_ray.train.run_dir import load_saved_config, states_of

NO_WEIGHTS = "not run: no weight file"


@dataclass(frozen=True)
class Origin:
    """A start of a grid.

    Attributes:
        init: as a fine-tuning's init.
        made: the pre-training that makes it, and `config`, its whole config; None where it is there or is none.
        key: digest of all that decides the pre-training's result.
    """

    name: str
    init: str
    made: PretrainedConfig | None = None
    config: PretrainRecipe | None = None
    key: str = ""

    @property
    def there(self) -> bool:
        """Whether its weights can be read: always, but for a pre-training that has not come to its end. UserError where the folder of
        the pre-training holds another one."""
        if self.config is None:
            return True
        config, before = load_saved_config(self.config)
        return before is not None and before.identity() == config.identity() and pretrain_results.finished(config)

    def values(self) -> dict:
        """The recipe's keys with the overrides."""
        assert self.made is not None
        return cli.values(self.made.pretrain, [*self.made.overrides, f"out={self.made.out}"])


def origins(grid: GridConfig) -> dict[str, Origin]:
    """The starts of a grid by name. UserError for a pre-training whose recipe is none."""
    return {name: origin_of(name, each) for name, each in grid.inits.items()}


def origin_of(name: str, init: str | PretrainedConfig) -> Origin:
    """The start that a config names so. UserError for a pre-training whose recipe is none."""
    if isinstance(init, str):
        return Origin(name, init)
    bare = Origin(name, init.out, init)
    config = run_config.check(PretrainRecipe, bare.values(), init.pretrain)
    decided = [deciding(config), {key: ensure.identity(source) for key, source in config.data.sources.items()}]
    key = hashlib.sha256(json.dumps(decided, sort_keys=True).encode()).hexdigest()
    return Origin(name, at_home(init.out), init, config, key)


def digest_of(
    origin: Origin, encoder: EncoderConfig, modality: str, imagenet_weights: str | None, results: Folder
) -> str | None:
    """Digest of the weights that an encoder would start from; None where the pre-training has yet to say.

    Raises:
        LookupError: with the reason, where ImageNet's weights cannot be had.
        UserError: weights that are not there or are of another encoder.
    """
    if origin.init == SCRATCH:
        return ""
    if not origin.there:
        record = read_record(origin, results)
        return record["digests"][modality] if record else None
    init = origin.init if origin.init == IMAGENET else at_home(origin.init)
    try:
        return start(init, encoder, modality, imagenet_weights=imagenet_weights).digest
    except UserError:
        if origin.init == IMAGENET and imagenet_weights is None:
            raise LookupError(NO_WEIGHTS) from None
        raise


def read_record(origin: Origin, results: Folder) -> dict | None:
    """What is kept of a pre-training, None if there is none or it was another one. UserError for a file that is something else."""
    name = f"pretrainings/{origin.name}.json"
    if origin.made is None or not results.exists(name):
        return None
    try:
        record = json.loads(results.read(name))
        return record if record["key"] == origin.key and record["digests"].keys() >= set(DENSE_MODALITIES) else None
    except (ValueError, KeyError, TypeError, AttributeError):
        again = "delete it, and the same command makes it again"
        raise UserError(f"{results.uri}/{name} is not the record of a pre-training; {again}") from None


def write_record(origin: Origin, results: Folder, seconds: float | None) -> dict:
    """Keeps what a finished pre-training was; `seconds` None where it was not timed from its start to its end."""
    assert origin.config is not None
    assert origin.made is not None
    export = load_export(f"{origin.config.out}/export")
    record = {
        "init": origin.name,
        "recipe": origin.made.pretrain,
        "overrides": list(origin.made.overrides),
        "key": origin.key,
        "steps": origin.config.stages.steps,
        "seed": origin.config.seed,
        "precision": load_saved_config(origin.config)[0].train.precision,
        "digests": {modality: weights_digest(export.encoder(modality)) for modality in DENSE_MODALITIES},
        "probes": export.training.get("probes", {}),
        "seconds": seconds,
        **made_by(),
    }
    results.write(f"pretrainings/{origin.name}.json", json.dumps(record, indent=1).encode())
    return record


def pretrain(origin: Origin, results: Folder) -> None:
    """Runs a pre-training, or what is left of it, and keeps what it was. UserError where it cannot be."""
    assert origin.config is not None
    assert origin.made is not None
    from_start = states_of(origin.config).newest_step == 0
    begun = time.monotonic()
    train_pretrain.run(origin.values(), origin.made.pretrain)
    write_record(origin, results, round(time.monotonic() - begun, 1) if from_start else None)

"""What a finished run leaves: encoders in a folder, a table of what they learnt, and what to do next.

<out>/export/      the encoders, see hcmoco.export
<out>/table.md     all figures of the probes
<out>/FINISHED     written last: the same command again only reports
"""

import json
from collections.abc import Sequence

from hcmoco import license_terms
from hcmoco.data.schema import Person
from hcmoco.data.shards.reader import Shards
from hcmoco.errors import UserError
from hcmoco.export import export_encoders
from hcmoco.models.multimodal import HCMoCo
from hcmoco.pretraining.config import PretrainConfig
from hcmoco.pretraining.probes.result import ProbeResult, comparison
from hcmoco.pretraining.probes.run import ProbeViews, make_views
from hcmoco.pretraining.trainer import make_model
from hcmoco.storage import Folder
from hcmoco.training.checkpoint import TrainState
from hcmoco_ray.config import PretrainRecipe
from hcmoco_ray.tracking.client import Tracker, store_uri
from hcmoco_ray.train.run_dir import states_of

TABLE, FINISHED = "table.md", "FINISHED"
# What the screen shows: position alone answers the same crop, so pairs of modalities are shown in different crops.
MAIN_FIGURES = (
    "retrieval_same_crop/mean",
    "retrieval_different_crops/mean",
    "retrieval_different_crops/rgb_to_depth",
    "retrieval_different_crops/rgb_to_keypoints",
    "dense_same_crop/mean",
    "dense_different_crops/mean",
    "joint/rgb_to_rgb",
    "joint/rgb_to_depth",
)


def views(config: PretrainRecipe, held_out: Shards) -> ProbeViews:
    """The held-out people as the probes look at them."""
    manifest = held_out.manifest
    people = (
        Person.from_row(row)
        for group in range(len(held_out.group_rows))
        for row in held_out.read_group(group).to_pylist()
    )
    return make_views(
        people,
        joints=manifest.joints,
        target_joints=config.model.joint_set,
        depth_codec=manifest.depth_codec,
        size=config.augment.size,
        count=config.probe.people,
        crops=config.probe.crops,
    )


def final_model(config: PretrainRecipe, state: TrainState) -> HCMoCo:
    """The model of a state."""
    model = make_model(config, load=False)
    if state.full:
        model.add_dense_mappers()
    model.load_state_dict(state.model)
    return model.eval()


def terms_of(config: PretrainConfig, sources: Sequence[Shards]) -> list[dict[str, str]]:
    """The terms of what a pre-training's weights are made from, as an export keeps them."""
    begun = [
        each
        for encoder in (config.model.rgb, config.model.depth)
        for each in license_terms.of_init(encoder.init, encoder.name)
    ]
    return license_terms.as_json([*(license_terms.of_data(each.manifest) for each in sources), *begun])


def close(config: PretrainRecipe, sources: Sequence[Shards], tracker: Tracker) -> None:
    """Exports the encoders of the newest state and records them with the full table. Done twice it leaves what it leaves done once."""
    state = _newest(config)
    training = {"recipe": config.name, "steps": state.step, "stage": 2 if state.full else 1, "seed": config.seed}
    training |= {
        "data": {name: each.path for name, each in config.data.sources.items()},
        "terms": terms_of(config, sources),
    }
    results = _results(state)
    if results:
        training["probes"] = {moment: result.metrics for moment, result in results.items()}
    folder = export_encoders(final_model(config, state), _export(config), training=training, overwrite=True)
    for name in ("config.json", "README.md"):
        tracker.text(f"export/{name}", Folder(folder).read(name).decode())
    tracker.text("export/place.txt", folder)
    tracker.text("states/place.txt", f"{config.out}/states")
    if results:
        table = comparison(results, markdown=True)
        Folder(config.out).write(TABLE, table.encode())
        tracker.text(TABLE, table)


def mark_finished(config: PretrainRecipe) -> None:
    """Leaves the mark that `finished` looks for; the last thing that a run does."""
    Folder(config.out).write(FINISHED, json.dumps({"step": states_of(config).newest_step}).encode())


def finished(config: PretrainRecipe) -> bool:
    """Whether the run in the folder has come to its end and its export is still there."""
    folder = Folder(config.out)
    if not folder.exists(FINISHED) or not Folder(_export(config)).exists("config.json"):
        return False
    step = states_of(config).newest_step
    return step == config.stages.steps and folder.read(FINISHED) == json.dumps({"step": step}).encode()


def report(config: PretrainRecipe) -> None:
    """Prints the main figures and where everything is."""
    results = _results(_newest(config))
    lines = []
    if results:
        lines += [
            "",
            f"on {next(iter(results.values())).people} held-out people",
            comparison(results, only=MAIN_FIGURES),
            "",
        ]
        lines += [f"all figures     {config.out}/{TABLE}"]
    lines += [
        f"encoders        {_export(config)} (its README.md shows how to load them)",
        f"run             mlflow ui --backend-store-uri {store_uri(config.tracking, config.out)}",
        "next            your own photographs: python pipelines/prepare.py folder --help",
    ]
    print("\n".join(lines), flush=True)


def _export(config: PretrainRecipe) -> str:
    return f"{config.out}/export"


def _newest(config: PretrainRecipe) -> TrainState:
    state = states_of(config).newest()
    if state is None:
        raise UserError(f"{config.out} has no train state; run the training again")
    return state


def _results(state: TrainState) -> dict[str, ProbeResult]:
    """Probe results by moment."""
    return {moment: ProbeResult.from_json(values) for moment, values in state.history.items()}

"""A pre-training run: its data and plan, the work of each worker, and the files of a finished run.

<out>/export/      the encoders, see hcmoco.export
<out>/table.md     all results of the probes
<out>/FINISHED     written last: the same command again only reports
"""

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hcmoco import license_terms
from hcmoco.data.collate import CollateConfig
from hcmoco.data.device_decode import check_decoder
from hcmoco.data.loader import PretrainLoader
from hcmoco.data.sampler import Plan
from hcmoco.data.schema import Person
from hcmoco.data.shards.reader import Shards
from hcmoco.errors import UserError
from hcmoco.export import export_encoders
from hcmoco.masking import masked
from hcmoco.models.multimodal import HCMoCo, MultiModalEncoders
from hcmoco.pretraining.banks import bank_bytes, bank_size
from hcmoco.pretraining.config import PretrainConfig
from hcmoco.pretraining.loop import prefix_of, pretrain
from hcmoco.pretraining.probes.result import ProbeResult, comparison
from hcmoco.pretraining.probes.run import ProbeViews, make_views
from hcmoco.pretraining.trainer import make_model
from hcmoco.storage import Folder, join
from hcmoco.training.checkpoint import TrainState
from hcmoco.training.config import SourceConfig
from hcmoco.weights import encoder_weights
from hcmoco_ray import config as run_config
from hcmoco_ray.cluster import preflight
from hcmoco_ray.config import PretrainRecipe
from hcmoco_ray.ingest.dataset import TRAIN, Items, Readers, plan_items
from hcmoco_ray.paths import below_home
from hcmoco_ray.prepare import ensure
from hcmoco_ray.tracking.client import Tracker
from hcmoco_ray.tracking.config import how_to_see
from hcmoco_ray.tracking.data_sets import describe_mixture
from hcmoco_ray.tracking.progress import Status
from hcmoco_ray.tracking.provenance import commit
from hcmoco_ray.tracking.weights import export_model
from hcmoco_ray.train.context import RayContext
from hcmoco_ray.train.launch import Start, WorkerContext
from hcmoco_ray.train.masking import depth_masking_of, mixed_depth
from hcmoco_ray.train.run import PlannedRun, Run, execute
from hcmoco_ray.train.run_dir import decide_start, log, states_of
from hcmoco_ray.train.same_data import same_data

TABLE, FINISHED = "table.md", "FINISHED"
# Metrics of the report on the screen. In the same crop position alone matches pairs of modalities, so these are shown
# in different crops.
MAIN_METRICS = (
    "retrieval_same_crop/mean",
    "retrieval_different_crops/mean",
    "retrieval_different_crops/rgb_to_depth",
    "retrieval_different_crops/rgb_to_keypoints",
    "dense_same_crop/mean",
    "dense_different_crops/mean",
    "joint/rgb_to_rgb",
    "joint/rgb_to_depth",
)


def run(values: dict[str, Any], recipe: str) -> int:
    """Run, resume or report a pre-training.

    Args:
        values: the keys of the config, not yet checked.
        recipe: name of the recipe, for messages.

    Returns:
        The exit status of the program.

    Raises:
        UserError: see `execute`.
    """
    return execute(PretrainRun(run_config.check(PretrainRecipe, values, recipe)))


class PretrainRun(Run[PretrainRecipe]):
    """See `Run`."""

    def finished(self) -> bool:
        return finished(self.config)

    def report(self) -> None:
        report(self.config)

    def check_config(self, *, resumed: bool) -> None:
        preflight.check_model(self.config, load=not resumed)
        if self.config.ingest.decode == "device":
            check_decoder(torch.device("cpu"))  # what a GPU can, only its worker knows

    def sources(self) -> Mapping[str, SourceConfig]:
        held_out = self.config.data.held_out
        return {**self.config.data.sources, **({"held_out": held_out} if held_out else {})}

    def check_machine(self, nodes: int) -> None:
        rows = sum(ensure.rows(source) for source in self.config.data.sources.values())
        preflight.check_machine(self.config, rows, nodes)

    def open_data(self, saved_step: int | None) -> "PlannedPretraining":
        config = self.config
        sources = tuple(ensure.open_data(f"sources.{name}", source) for name, source in config.data.sources.items())
        named = config.data.held_out
        held_out = ensure.open_data("held_out", named, split="held-out") if named else None
        plan = make_plan(config, sources)
        preflight.check_mixture(config, plan, sources)
        preflight.check_cameras(config, sources)
        _describe(config, plan, sources)
        for line in data_warnings(config, sources, held_out):
            log(line)
        unfinished = saved_step is None or saved_step < plan.steps
        views = probe_views(config, held_out) if held_out and unfinished else None
        return PlannedPretraining(config, plan, sources, held_out, views)


class PlannedPretraining(PlannedRun):
    """See `PlannedRun`.

    Attributes:
        sources: the opened data sets.
        held_out: the data set of the probes; None if the run has none.
        views: the held-out people of the probes; None if no probe is left to do.
    """

    def __init__(
        self,
        config: PretrainRecipe,
        plan: Plan,
        sources: tuple[Shards, ...],
        held_out: Shards | None,
        views: ProbeViews | None,
    ):
        self.config, self.plan, self.sources, self.held_out, self.views = config, plan, sources, held_out, views
        self.identity = {**config.identity(), "plan": plan.description}
        masking = depth_masking_of(config, sources)
        self.tags = {"hcmoco.depth_masking": masking} if masking else {}
        self.data_sets = describe_mixture(config.data.sources, sources, held_out)

    def job(self, tracker: Tracker, status: Status) -> "PretrainJob":
        import ray

        views = None if self.views is None else ray.put(self.views)
        return PretrainJob(self.config, make_loader(self.config, self.plan, self.sources), views, tracker, status)

    def close(self, tracker: Tracker) -> dict[str, Any]:
        return close(self.config, self.sources, self.held_out, tracker)

    def mark_finished(self, results: dict[str, Any]) -> None:
        Folder(self.config.output_dir).write(FINISHED, json.dumps(results).encode())


@dataclass(frozen=True)
class PretrainJob:
    """See `launch.Job`. `held_out` is an object reference of `ProbeViews`, or None."""

    config: PretrainRecipe
    loader: PretrainLoader
    held_out: Any
    tracker: Tracker
    status: Status

    def decide_start(self, workers: int, readers: Readers) -> Start:
        return decide_start(self.config, workers, readers)

    def items(self, start: Start) -> Mapping[str, Items]:
        return {TRAIN: plan_items(self.loader)}

    def work(self, worker: WorkerContext) -> None:
        import ray

        context = RayContext(self.config, self.loader, worker, self.tracker, self.status)
        views = ray.get(self.held_out) if self.held_out is not None and worker.rank == 0 else None
        with context.sampled():
            pretrain(self.config, self.loader.plan, context, views, self.tracker.run_id)


def data_warnings(config: PretrainConfig, sources: Sequence[Shards], held_out: Shards | None) -> list[str]:
    """Return lines on data that a pre-training may be misled by: held-out people whom it is trained on, mixed depth."""
    named = {f"data.sources.{name}": each for name, each in zip(config.data.sources, sources, strict=True)}
    lines = (same_data(named, {"data.held_out": held_out}), mixed_depth(config, sources))
    return [line for line in lines if line]


def make_plan(config: PretrainRecipe, sources: Sequence[Shards]) -> Plan:
    """Return the plan of a run over opened data sets."""
    named = zip(config.data.sources.items(), sources, strict=True)
    train = config.train
    return Plan(
        seed=config.seed,
        sources=tuple(shards.source_plan(name, source.weight) for (name, source), shards in named),
        lanes=train.lanes,
        batch_size_per_lane=train.batch_size_per_lane,
        window_steps=train.window_steps,
        steps=config.stages.steps,
    )


def make_loader(config: PretrainRecipe, plan: Plan, sources: tuple[Shards, ...]) -> PretrainLoader:
    """Return the loader of a run over opened data sets."""
    objective = config.objective
    anchors = objective.num_anchors, objective.release.anchors_with_replacement
    num_points = config.model.depth.points_at(config.augment.size)
    collate = CollateConfig(config.augment, config.model.joint_set, *anchors, num_points=num_points)
    return PretrainLoader(plan, sources, collate, config.ingest.decode)


def _describe(config: PretrainRecipe, plan: Plan, sources: Sequence[Shards]) -> None:
    train = config.train
    rows = train.lanes * train.batch_size_per_lane
    negatives = rows if train.global_batch else rows // train.max_workers
    seen = f"batch norm and in-batch negatives see {negatives} of them"
    if train.smallest_batch != negatives:
        seen = f"in-batch negatives see {negatives} of them, batch norm at least {train.smallest_batch}"
    log(f"a step: {rows} rows in {train.lanes} lanes; {seen}")
    people, held = plan.offsets[-1], bank_size(config.objective, plan.offsets[-1])
    if 0 < held < people:
        size = bank_bytes(config.objective, samples=people, width=config.model.embedding)
        log(f"  the memory banks hold {held} of {people} people: {size / 1e9:.2g} GB on every worker")
    for source, shards in zip(plan.sources, sources, strict=True):
        has = ", ".join(
            f"{shards.manifest.modalities.get(name, 0)} with {name}" for name in ("rgb", "depth", "keypoints")
        )
        passes = plan.epochs_at(plan.steps)[source.name]
        log(
            f"  {source.name}: {source.rows} people ({has}), {passes * source.rows / plan.steps:.1f} a step, "
            f"{passes:.1f} passes"
        )


def probe_views(config: PretrainRecipe, held_out: Shards) -> ProbeViews:
    """Decode and crop the held-out people as the probes need them."""
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
        count=config.probe.num_people,
        crops=config.probe.crops,
        num_points=config.model.depth.points_at(config.augment.size),
    )


def final_model(config: PretrainRecipe, state: TrainState) -> MultiModalEncoders:
    """Build the model of a train state."""
    model = make_model(config, load=False)
    if isinstance(model, HCMoCo) and state.stage == 2:
        model.add_dense_mappers()
    model.load_state_dict(state.model)
    return model.eval()


def terms_of(config: PretrainConfig, sources: Sequence[Shards]) -> list[dict[str, str]]:
    """Return the license terms of what a pre-training's weights are made from, as an export keeps them."""
    begun = [
        each
        for modality, encoder in (("rgb", config.model.rgb), ("depth", config.model.depth))
        for each in license_terms.of_init(encoder_weights(encoder.init, modality), encoder.name)
    ]
    return license_terms.as_json([*(license_terms.of_data(each.manifest) for each in sources), *begun])


def close(
    config: PretrainRecipe, sources: Sequence[Shards], held_out: Shards | None, tracker: Tracker
) -> dict[str, Any]:
    """See `PlannedRun.close`: export the encoders of the newest state, and record them and all probe results."""
    state = _newest(config)
    training = {"recipe": config.name, "steps": state.step, "stage": state.stage, "seed": config.seed}
    training |= {"size": config.augment.size, "commit": commit(), "command": _command()}
    training |= {
        "data": {name: each.path for name, each in config.data.sources.items()},
        "rows": {name: each.manifest.rows for name, each in zip(config.data.sources, sources, strict=True)},
        "terms": terms_of(config, sources),
    }
    if masking := depth_masking_of(config, sources):
        training["depth_masking"] = masking
    results = _results(state)
    if results:
        training["probes"] = {moment: result.metrics for moment, result in results.items()}
    folder = export_encoders(final_model(config, state), _export(config), training=training, overwrite=True)
    for name in ("config.json", "README.md"):
        tracker.text(f"export/{name}", Folder(folder).read(name).decode())
    tracker.text("export/place.txt", folder)
    tracker.text("states/place.txt", join(config.output_dir, "states"))
    # At the last step the probes have measured the weights that are exported.
    measured = [name for moment, result in results.items() for name in result.flat(prefix_of(moment))]
    tracker.model(export_model(folder, config.model, training, metrics=measured, held_out=held_out))
    if results:
        table = comparison(results, markdown=True)
        Folder(config.output_dir).write(TABLE, table.encode())
        tracker.text(TABLE, table)
    return {"step": state.step}


def _command() -> str:
    """The command that was typed, or submitted, without secrets; "" where another program trains."""
    program = Path(sys.argv[0]).name
    typed = ["pipelines/pretrain.py"] if program == "pretrain.py" else ["-m", "hcmoco_ray"]
    known = program == "pretrain.py" or sys.argv[1:2] == ["pretrain"]
    return masked(below_home(shlex.join(["python", *typed, *sys.argv[1:]]))) if known else ""


def finished(config: PretrainRecipe) -> bool:
    """Return whether the run in the folder is finished and its export still exists."""
    folder = Folder(config.output_dir)
    if not folder.exists(FINISHED) or not Folder(_export(config)).exists("config.json"):
        return False
    step = states_of(config).newest_step
    return step == config.stages.steps and folder.read(FINISHED) == json.dumps({"step": step}).encode()


def report(config: PretrainRecipe) -> None:
    """Print the main results of the probes and the paths of all files."""
    results = _results(_newest(config))
    lines = []
    if results:
        lines += [
            "",
            f"on {next(iter(results.values())).people} held-out people",
            comparison(results, only=MAIN_METRICS),
            "",
        ]
        lines += [f"all metrics     {join(config.output_dir, TABLE)}"]
    lines += [
        f"encoders        {_export(config)} (its README.md shows how to load them)",
        f"run             {how_to_see(config.tracking, config.output_dir)}",
        "next            your own photographs: python pipelines/prepare.py folder --help",
    ]
    log("\n".join(lines))


def _export(config: PretrainRecipe) -> str:
    return join(config.output_dir, "export")


def _newest(config: PretrainRecipe) -> TrainState:
    state = states_of(config).newest()
    if state is None:
        raise UserError(f"{config.output_dir} has no train state; run the training again")
    return state


def _results(state: TrainState) -> dict[str, ProbeResult]:
    """Probe results by moment."""
    return {moment: ProbeResult.from_json(values) for moment, values in state.history.items()}

"""A pre-training from its config to its table: what has to hold first, the data, the training, the end."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hcmoco.data.loader import PretrainLoader
from hcmoco.data.sampler import Plan
from hcmoco.data.shards.reader import Shards
from hcmoco.pretraining.loop import pretrain
from hcmoco.pretraining.probes.run import ProbeViews
from hcmoco.training.checkpoint import check_identity
from hcmoco_ray import config as run_config
from hcmoco_ray.cluster import interrupts, precision, preflight
from hcmoco_ray.config import PretrainRecipe
from hcmoco_ray.ingest import dataset
from hcmoco_ray.paths import at_home
from hcmoco_ray.prepare import ensure
from hcmoco_ray.tracking.client import Tracker, open_writer, start_run, store_uri
from hcmoco_ray.tracking.status import open_status, shown
from hcmoco_ray.train import pretrain_results
from hcmoco_ray.train.context import RayHost
from hcmoco_ray.train.launch import Place, asked, train
from hcmoco_ray.train.run_dir import (
    load_saved_config,
    lock_run_dir,
    recorded,
    save_config,
    saved_run_id,
    say,
    states_of,
)


def run(values: dict, recipe: str) -> int:
    """Runs, resumes or reports what `values`, of the recipe called `recipe`, describe; returns the exit status."""
    config = run_config.check(PretrainRecipe, values, recipe)
    store_uri(config.tracking, config.out)
    with lock_run_dir(config.out):
        config, there = load_saved_config(config)
        if there == config and pretrain_results.finished(config):
            say(f"{config.out} is finished")
            pretrain_results.report(config)
            return 0
        saved = states_of(config).newest()
        preflight.check_model(config, load=saved is None)
        cluster = preflight.cluster_for(config)
        for key, each in [*config.data.sources.items(), ("held_out", config.data.held_out)]:
            if each:
                cluster.refuse_local(f"data set {key}:", at_home(each.path))
        preflight.check_resources(config)
        config = precision.decide(config, asked(config), saved.identity if saved else None)
        say(run_config.as_yaml(config))
        preflight.check_machine(config, sum(ensure.rows(each) for each in config.data.sources.values()), cluster.nodes)
        writer = open_writer(config.tracking, config.out, actor=True)

        sources = tuple(ensure.open_data(f"sources.{name}", each) for name, each in config.data.sources.items())
        held_out = (
            ensure.open_data("held_out", config.data.held_out, split="held-out") if config.data.held_out else None
        )
        plan = make_plan(config, sources)
        preflight.check_mixture(config, plan, sources)
        _describe(config, plan, sources)
        if saved:
            check_identity(saved.identity, {**config.identity(), "plan": plan.description}, config.out)
            say(f"going on from step {saved.step} of {plan.steps}")
        more = saved is None or saved.step < plan.steps
        views = pretrain_results.views(config, held_out) if held_out and more else None

        tracker = start_run(
            writer,
            run_id=saved_run_id(config, saved, there),
            name=config.tracking.run_name or config.name,
            params=config.model_dump(mode="json"),
            tags={"hcmoco.out": config.out},
        )
        save_config(config, tracker)
        with recorded(tracker):
            if more:
                del saved  # the training reads it anew, perhaps elsewhere
                _train(config, plan, sources, views, tracker)
            pretrain_results.close(config, sources, tracker)
        pretrain_results.mark_finished(config)
        pretrain_results.report(config)
    return 0


def make_plan(config: PretrainRecipe, sources: Sequence[Shards]) -> Plan:
    """The plan of a run over opened data sets."""
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


def _describe(config: PretrainRecipe, plan: Plan, sources: Sequence[Shards]) -> None:
    train = config.train
    seen = train.lanes // train.workers * train.batch_size_per_lane
    say(
        f"a step: {train.lanes * train.batch_size_per_lane} rows in {train.lanes} lanes; batch norm and in-batch negatives see {seen} of them"
    )
    for source, shards in zip(plan.sources, sources, strict=True):
        has = ", ".join(
            f"{shards.manifest.modalities.get(name, 0)} with {name}" for name in ("rgb", "depth", "keypoints")
        )
        passes = plan.drawn(plan.steps)[source.name]
        say(
            f"  {source.name}: {source.rows} people ({has}), {passes * source.rows / plan.steps:.1f} a step, {passes:.1f} passes"
        )


# --- the training


@dataclass(frozen=True)
class PretrainJob:
    """See `_train.Job`. `held_out` is an object reference of ProbeViews, or None."""

    config: PretrainRecipe
    feed: PretrainLoader
    held_out: Any
    tracker: Tracker
    status: Any

    def datasets(self) -> dict:
        return {"train": dataset.newest_dataset(self.feed, f"{self.config.out}/states")}

    def work(self, place: Place) -> None:
        import ray

        host = RayHost(self.config, self.feed, place, self.tracker, self.status)
        views = ray.get(self.held_out) if self.held_out is not None and place.rank == 0 else None
        pretrain(self.config, self.feed.plan, host, views, self.tracker.run_id)


def _train(
    config: PretrainRecipe, plan: Plan, sources: tuple[Shards, ...], views: ProbeViews | None, tracker: Tracker
) -> None:
    import ray

    feed = PretrainLoader(
        plan,
        sources,
        config.augment,
        config.model.joint_set,
        config.objective.anchors,
        config.ingest.decode,
        config.objective.anchors_with_replacement,
    )
    workers = config.train.workers
    status = open_status("starting the training" if workers == 1 else f"starting {workers} workers")
    with shown(status):
        interrupts.check()
        train(PretrainJob(config, feed, None if views is None else ray.put(views), tracker, status))

"""A pre-training from its config to its table: what has to hold first, the data, the training, the end."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import yaml

from hcmoco.datasets.people import PeopleConfig
from hcmoco.errors import UserError
from hcmoco.probes.run import ProbeViews
from hcmoco.shards.manifest import MANIFEST, read_manifest
from hcmoco.shards.plan import Plan
from hcmoco.shards.read import Shards
from hcmoco.shards.storage import Folder, first_line, is_local
from hcmoco.training.config import SourceConfig
from hcmoco.training.feed import Feed
from hcmoco.training.state import TrainState, check_identity
from pipelines import _checks, _closing, _cluster, _interrupts, _recipe
from pipelines._home import at_home
from pipelines._host import states_of
from pipelines._recipe import PretrainRecipe
from pipelines._sources import Source
from pipelines._status import open_status, shown
from pipelines._tracking import Tracker, open_writer, start_run, store_uri

CONFIG, RUN = "config.yaml", "run.json"


def run(values: dict, recipe: str) -> int:
    """Runs, resumes or reports what `values`, of the recipe called `recipe`, describe; returns the exit status."""
    config = _recipe.check(PretrainRecipe, values, recipe)
    store_uri(config.tracking, config.out)
    with _alone_in(config.out), _interrupts.heard():
        there = _config_there(config)
        if there == config and _closing.finished(config):
            say(f"{config.out} is finished")
            _closing.report(config)
            return 0
        say(_recipe.as_yaml(config))
        saved = states_of(config).newest()
        _checks.check_model(config, load=saved is None)
        cluster = _cluster.start()
        if config.wait_for_nodes:
            say(f"waiting up to {config.wait_for_nodes} s for the cluster to have what {config.train.workers} workers ask for")
            cluster = _cluster.grow(_checks.asked(config), config.wait_for_nodes)
        cluster.refuse_local("out", config.out)
        for key, each in [*config.data.sources.items(), ("held_out", config.data.held_out)]:
            if each:
                cluster.refuse_local(f"data set {key}:", at_home(each.path))
        _checks.check_resources(config)
        _checks.check_machine(config, sum(_rows(each) for each in config.data.sources.values()), cluster.nodes)
        writer = open_writer(config.tracking, config.out, actor=True)

        sources = tuple(_open(f"sources.{name}", each) for name, each in config.data.sources.items())
        held_out = _open("held_out", config.data.held_out, split="held-out") if config.data.held_out else None
        plan = make_plan(config, sources)
        _checks.check_mixture(config, plan, sources)
        _describe(config, plan, sources)
        if saved:
            check_identity(saved.identity, {**config.identity(), "plan": plan.description}, config.out)
            say(f"going on from step {saved.step} of {plan.steps}")
        more = saved is None or saved.step < plan.steps
        views = _closing.views(config, held_out) if held_out and more else None

        tracker = start_run(
            writer,
            run_id=_run_there(config, saved, there),
            name=config.tracking.run_name or config.name,
            params=config.model_dump(mode="json"),
            tags={"hcmoco.out": config.out},
        )
        Folder(config.out).write(CONFIG, _recipe.as_yaml(config).encode())
        Folder(config.out).write(RUN, json.dumps({"run_id": tracker.run_id}).encode())
        with _recorded(tracker):
            if more:
                del saved  # the training reads it anew, perhaps elsewhere
                _train(config, plan, sources, views, tracker)
            _closing.close(config, tracker)
        _closing.mark_finished(config)
        _closing.report(config)
    return 0


def say(text: str) -> None:
    """Prints at once: what follows may take long, and stderr is not held back either."""
    print(text, flush=True)


def make_plan(config: PretrainRecipe, sources: Sequence[Shards]) -> Plan:
    """The plan of a run over opened data sets."""
    named = zip(config.data.sources.items(), sources, strict=True)
    train = config.train
    return Plan(
        seed=config.seed,
        sources=tuple(shards.source_plan(name, source.weight) for (name, source), shards in named),
        lanes=train.lanes,
        rows_per_lane=train.rows_per_lane,
        window_steps=train.window_steps,
        steps=config.stages.steps,
    )


# --- the folder of the run


@contextmanager
def _alone_in(out: str) -> Iterator[None]:
    """UserError while another process trains into the same local folder; both would write the same states."""
    if not is_local(out):
        yield
        return
    import filelock

    folder = Folder(out).local_path
    lock = filelock.FileLock(folder / ".lock")  # the system lets go of it when its process ends, however it ends
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise UserError(f"{out}: another run is under way in this folder; wait for its end or choose another with out=...") from None
    except OSError as error:
        raise UserError(f"{out} cannot be written to: {first_line(error)}; choose another folder with out=...") from None
    try:
        yield
    finally:
        lock.release()


def _config_there(config: PretrainRecipe) -> PretrainRecipe | None:
    """The config that the folder holds. UserError if it holds something else, or train states of another config."""
    folder = Folder(config.out)
    if not folder.exists(CONFIG):
        return None
    try:
        there = PretrainRecipe.model_validate(yaml.safe_load(folder.read(CONFIG)))
    except (ValueError, yaml.YAMLError):
        raise UserError(f"{config.out}/{CONFIG} is not a config of this version; choose another folder with out=...") from None
    if states_of(config).complete():
        check_identity(there.identity(), config.identity(), config.out)
    return there


def _run_there(config: PretrainRecipe, saved: TrainState | None, there: PretrainRecipe | None) -> str | None:
    """The tracking run to go on with: that of the state, or of a start with the same config that ended before its first state."""
    if saved:
        return saved.tracking_run
    folder = Folder(config.out)
    same = there is not None and there.identity() == config.identity() and there.tracking == config.tracking
    return json.loads(folder.read(RUN))["run_id"] if same and folder.exists(RUN) else None


@contextmanager
def _recorded(tracker: Tracker) -> Iterator[None]:
    """Closes the tracking run with how the block ended."""
    status = "FAILED"
    try:
        yield
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        tracker.finish(status)


# --- the data


def _rows(source: SourceConfig) -> int:
    """Rows that a data set has or will have. UserError where it neither is there nor can be made."""
    where = at_home(source.path)
    if source.people and not Folder(where).exists(MANIFEST):
        return source.people.count
    return Shards.open(where).manifest.rows


def _open(key: str, source: SourceConfig, split: str = "train") -> Shards:
    """The data set of the config's `data.<key>`, made first where it is to be made and is not there. UserError where other people are."""
    where = at_home(source.path)
    if source.people:
        values = source.people.model_dump()
        count = values.pop("count")
        people = PeopleConfig(**values)
        asked = Source("people", people, seed=people.seed, count=count, split=split)
        if not Folder(where).exists(MANIFEST):
            from pipelines._prepare import prepare

            say(f"making {count} synthetic people in {where}")
            prepare(asked, where)
        there = read_manifest(Folder(where)).made_by.arguments
        other = next((each for each in asked.arguments if there.get(each) != asked.arguments[each]), None)
        if other:
            raise UserError(
                f"{where} holds data with {other} = {there.get(other)!r}, data.{key}.people asks for {asked.arguments[other]!r}; "
                f"set data.{key}.people=null to take what is there, or choose another data.{key}.path"
            )
    shards = Shards.open(where)
    if shards.manifest.kind != "person":
        raise UserError(f"data.{key}.path: {where} holds {shards.manifest.kind} records; pre-training reads persons")
    return shards


def _describe(config: PretrainRecipe, plan: Plan, sources: Sequence[Shards]) -> None:
    train = config.train
    seen = train.lanes // train.workers * train.rows_per_lane
    say(f"a step: {train.lanes * train.rows_per_lane} rows in {train.lanes} lanes; batch norm and in-batch negatives see {seen} of them")
    for source, shards in zip(plan.sources, sources, strict=True):
        has = ", ".join(f"{shards.manifest.modalities.get(name, 0)} with {name}" for name in ("rgb", "depth", "keypoints"))
        passes = plan.drawn(plan.steps)[source.name]
        say(f"  {source.name}: {source.rows} people ({has}), {passes * source.rows / plan.steps:.1f} a step, {passes:.1f} passes")


# --- the training


def _train(config: PretrainRecipe, plan: Plan, sources: tuple[Shards, ...], views: ProbeViews | None, tracker: Tracker) -> None:
    import ray

    from pipelines._train import Job, train

    feed = Feed(
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
        _interrupts.check()
        train(Job(config, feed, None if views is None else ray.put(views), tracker, status))

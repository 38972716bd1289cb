"""Pre-trains RGB, depth and keypoint encoders by contrasting them with each other; both stages in one run.

    python pipelines/pretrain.py                                          # synthetic people on two CPU workers
    python pipelines/pretrain.py --recipe people-gpu train.workers=4
    ray job submit --working-dir . -- python pipelines/pretrain.py --recipe people-cpu out=/shared/run

The same command again goes on where a stopped one was. Results lie in the recipe's `out`: config.yaml, states/, export/, mlflow.db.
"""

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file from a checkout, installed or not

from hcmoco.errors import UserError
from hcmoco.shards.plan import Plan
from hcmoco.shards.read import Shards
from hcmoco.shards.storage import Folder
from hcmoco.training.config import SourceConfig
from hcmoco.training.feed import Feed
from hcmoco.training.state import check_identity
from pipelines import _checks, _closing, _cluster, _recipe
from pipelines._host import Status, states_of
from pipelines._recipe import PretrainRecipe, at_home


@_cluster.main_wrapper
def main(argv: Sequence[str] | None = None) -> int:
    """The program; returns its exit status. `argv` defaults to the command line's."""
    given = _recipe.arguments(__doc__).parse_args(argv)
    config = _recipe.load(PretrainRecipe, given.recipe, given.overrides)
    print(_recipe.as_yaml(config))
    _check_same_run(config)

    cluster = _cluster.start()
    for what, uri in [("out", config.out), *((f"data.sources.{name}.path", each.path) for name, each in config.data.sources.items())]:
        cluster.refuse_local(what, at_home(uri))
    sources = tuple(_open(name, each) for name, each in config.data.sources.items())
    held_out = _open("held_out", config.data.held_out) if config.data.held_out else None
    plan = make_plan(config, sources)
    _checks.check_mixture(config, plan, sources)
    _checks.check_machine(config, plan, cluster.nodes)
    _describe(config, plan, sources)

    Folder(config.out).write("config.yaml", _recipe.as_yaml(config).encode())
    _run(config, plan, sources, held_out)
    return 0


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


def _check_same_run(config: PretrainRecipe) -> None:
    """UserError where the folder holds a run with another config; its states say the same, but later."""
    folder = Folder(config.out)
    if folder.exists("config.yaml"):
        try:
            there = PretrainRecipe.model_validate(yaml.safe_load(folder.read("config.yaml")))
        except ValueError:
            raise UserError(f"{config.out}/config.yaml is not a config of this version; choose another folder with out=...") from None
        check_identity(there.identity(), config.identity(), config.out)


def _open(name: str, source: SourceConfig) -> Shards:
    """A data set, made first where it is to be made and is not there."""
    where = at_home(source.path)
    if source.people and not Folder(where).exists("manifest.json"):
        from hcmoco.datasets.people import PeopleConfig
        from pipelines._prepare import prepare
        from pipelines._sources import Source

        values = source.people.model_dump()
        count = values.pop("count")
        people = PeopleConfig(**values)
        prepare(Source("people", people, seed=people.seed, count=count, split="held-out" if name == "held_out" else "train"), where)
    shards = Shards.open(where)
    if shards.manifest.kind != "person":
        raise UserError(f"data set {name} at {where} holds {shards.manifest.kind} records; pre-training reads persons")
    return shards


def _describe(config: PretrainRecipe, plan: Plan, sources: Sequence[Shards]) -> None:
    train = config.train
    per_worker = train.lanes // train.workers * train.rows_per_lane
    print(
        f"a step: {train.lanes * train.rows_per_lane} rows in {train.lanes} lanes; batch norm and in-batch negatives see {per_worker} of them"
    )
    for number, (source, shards) in enumerate(zip(plan.sources, sources, strict=True)):
        modalities = ", ".join(f"{count} with {name}" for name, count in shards.manifest.modalities.items() if count)
        rows = plan.composition(0)[number] * plan.lanes
        print(
            f"  {source.name}: {source.rows} people ({modalities}), about {rows} a step, {plan.drawn(plan.steps)[source.name]:.1f} passes"
        )


def _run(config: PretrainRecipe, plan: Plan, sources: tuple[Shards, ...], held_out: Shards | None) -> None:
    import ray

    from pipelines._tracking import open_writer, start_run
    from pipelines._train import Job, train

    saved = states_of(config).newest()
    if saved:
        check_identity(saved.identity, {**config.identity(), "plan": plan.description}, config.out)
        print(f"going on from step {saved.step} of {plan.steps}" if saved.step < plan.steps else f"{config.out} is finished")
    writer = open_writer(config.tracking, config.out, actor=True)
    tags = {"hcmoco.out": config.out}
    params = config.model_dump(mode="json")
    tracker = start_run(
        writer, run_id=saved.tracking_run if saved else None, name=config.tracking.run_name or config.name, params=params, tags=tags
    )
    finished = "FAILED"
    try:
        if saved is None or saved.step < plan.steps:
            status = ray.remote(Status).options(num_cpus=0).remote()
            feed = Feed(
                plan,
                sources,
                config.augment,
                config.model.joint_set,
                config.objective.anchors,
                config.ingest.decode,
                config.objective.anchors_with_replacement,
            )
            views = ray.put(_closing.views(config, held_out)) if held_out else None
            with _shown(status):
                train(Job(config, feed, views, tracker, status))
        _closing.close(config, tracker)
        finished = "FINISHED"
    except KeyboardInterrupt:
        finished = "KILLED"
        raise
    finally:
        tracker.finish(finished)


@contextmanager
def _shown(status) -> Iterator[None]:
    """Shows the status line as it changes: in place on a terminal, a line every 10 seconds elsewhere."""
    import time

    import ray

    stop = threading.Event()
    terminal = sys.stderr.isatty()

    def show() -> None:
        last, shown = "", 0.0
        while not stop.wait(0.5):
            line = ray.get(status.get.remote())
            if line != last and (terminal or time.monotonic() - shown >= 10):
                print(f"\r\x1b[K{line}" if terminal else line, end="" if terminal else "\n", file=sys.stderr, flush=True)
                last, shown = line, time.monotonic()

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        if terminal:
            print(file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())

"""What a finished run leaves: encoders in a folder, a table of what they learnt, and what to do next."""

from hcmoco.errors import UserError
from hcmoco.export import export_encoders
from hcmoco.models.hcmoco import HCMoCo
from hcmoco.probes.result import ProbeResult, comparison
from hcmoco.probes.run import ProbeViews, make_views
from hcmoco.schema import Person
from hcmoco.shards.read import Shards
from hcmoco.shards.storage import Folder
from hcmoco.training.state import TrainState
from pipelines._host import states_of
from pipelines._recipe import PretrainRecipe
from pipelines._tracking import Tracker, store_uri


def views(config: PretrainRecipe, held_out: Shards) -> ProbeViews:
    """The held-out people as the probes look at them."""
    manifest = held_out.manifest
    people = (Person.from_row(row) for group in range(len(held_out.group_rows)) for row in held_out.read_group(group).to_pylist())
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
    model = HCMoCo(config.model, seed=config.seed, load=False)
    if state.full:
        model.add_dense_mappers()
    model.load_state_dict(state.model)
    return model.eval()


def close(config: PretrainRecipe, tracker: Tracker) -> None:
    """Exports the encoders of the newest state, records them, and prints the table."""
    state = states_of(config).newest()
    if state is None:
        raise UserError(f"{config.out} has no train state; run the training again")
    model = final_model(config, state)
    training = {"recipe": config.name, "steps": state.step, "stage": 2 if state.full else 1, "seed": config.seed}
    training |= {"data": {name: each.path for name, each in config.data.sources.items()}}
    results = {moment: ProbeResult.from_json(values) for moment, values in state.history.items()}
    if results:
        training["probes"] = {moment: result.metrics for moment, result in results.items()}
    folder = export_encoders(model, f"{config.out}/export", training=training, overwrite=True)
    for name in ("config.json", "README.md"):
        tracker.text(f"export/{name}", Folder(folder).read(name).decode())
    tracker.text("export/place.txt", folder)
    tracker.text("states/place.txt", f"{config.out}/states")

    if results:
        print(f"\nheld-out people: {next(iter(results.values())).people}; chance and position alone beside\n")
        print(comparison(results))
        table = comparison(results, markdown=True)
        Folder(config.out).write("table.md", table.encode())
        tracker.text("table.md", table)
    store = store_uri(config.tracking, config.out)
    print(
        f"\nencoders        {folder} (its README.md shows how to load them)"
        f"\nrun             mlflow ui --backend-store-uri {store}"
        f"\nnext            your own photographs: python pipelines/prepare.py folder --help"
    )

"""Open the data sets that a run names, creating synthetic ones that do not exist."""

from typing import Literal

from hcmoco.config import canonical, first_difference, upgrade
from hcmoco.data.shards.manifest import MANIFEST, Manifest, read_manifest
from hcmoco.data.shards.reader import Shards
from hcmoco.datasets.synthetic import NumberedPeople, NumberedScenes
from hcmoco.errors import UserError
from hcmoco.storage import Folder
from hcmoco.synthetic import PEOPLE_VERSION
from hcmoco.training.config import SourceConfig
from hcmoco_ray.paths import resolve_path
from hcmoco_ray.prepare.reader import Source
from hcmoco_ray.train.run_dir import log


def exists(source: SourceConfig) -> bool:
    """Return whether a data set exists."""
    return Folder(resolve_path(source.path)).exists(MANIFEST)


def rows(source: SourceConfig) -> int:
    """Return the number of rows that a data set has or will have.

    Raises:
        UserError: it does not exist and cannot be created.
    """
    where = resolve_path(source.path)
    if source.made and not exists(source):
        return source.made.count
    return Shards.open(where).manifest.rows


def identity(source: SourceConfig) -> dict:
    """Return what identifies a data set, without creating it.

    Returns:
        Of a synthetic one its config, which gives the same people everywhere but for rounding; else the digest of its
        content.

    Raises:
        UserError: it does not exist and cannot be created.
    """
    if source.made:
        return {"made": canonical(type(source.made), source.made.model_dump(mode="json")), "people": PEOPLE_VERSION}
    return {"content": Shards.open(resolve_path(source.path)).manifest.content}


def other_options(key: str, source: SourceConfig, manifest: Manifest) -> str:
    """Return a warning about options that a data set was prepared with and that are not the recipe's.

    Args:
        key: of the data set in the config.
        source: its entry there.
        manifest: of the data set.

    Returns:
        One line; "" if no option is known to differ.
    """
    used = manifest.provenance.arguments
    wanted = {name: value for name, value in source.prepared_with.items() if used.get(name, value) != value}
    if not wanted:
        return ""
    own, other = (" ".join(f"--{name} {values[name]}" for name in wanted) for values in (wanted, used))
    return (
        f"warning: data.{key}: {resolve_path(source.path)} was prepared with {other}, this recipe is made for {own}; "
        "crops will not be as published. Prepare it again with these options, or accept the difference"
    )


def open_data(
    key: str, source: SourceConfig, *, kind: Literal["person", "scene"] = "person", split: str = "train"
) -> Shards:
    """Open the data set of the config's `data.<key>`, creating it if it is synthetic and does not exist.

    Args:
        key: of the data set in the config.
        source: its entry there.
        kind: which records it must hold.
        split: of the people that are created.

    Raises:
        UserError: the data set does not exist, or holds other records or other people.
    """
    where = resolve_path(source.path)
    if source.made:
        what = "people" if source.people else "scenes"
        if what != {"person": "people", "scene": "scenes"}[kind]:
            raise UserError(
                f"data.{key}.{what}: {kind} records are needed; set data.{key}.{what}=null and name or create others"
            )
        numbered: type[NumberedPeople | NumberedScenes] = NumberedPeople if source.people else NumberedScenes
        settings = numbered(**source.made.model_dump(), split=split)
        requested = Source(what, settings, seed=settings.seed)
        if not exists(source):
            from hcmoco_ray.prepare.run import prepare

            log(f"rendering {settings.count} synthetic {what} in {where}")
            prepare(requested, where)
        stored = upgrade(numbered, read_manifest(Folder(where)).provenance.arguments)
        # The manifest of an earlier version may have more arguments.
        known = {name: stored.get(name) for name in requested.arguments}
        difference = first_difference(known, requested.arguments, sort=False)
        if difference:
            name, value, needed = difference
            raise UserError(
                f"{where} holds data with {name} = {value!r}, data.{key}.{what} asks for {needed!r}; "
                f"set data.{key}.{what}=null to use the stored data, or choose another data.{key}.path"
            )
    shards = Shards.open(where)
    if warning := other_options(key, source, shards.manifest):
        log(warning)
    if shards.manifest.kind != kind:
        raise UserError(
            f"data.{key}.path: {where} holds {shards.manifest.kind} records, {kind} records are needed; "
            "name another data set"
        )
    return shards

"""The data sets that a run names: opened, or made first where they are synthetic and not there yet."""

from typing import Literal

from hcmoco.config import canonical, upgrade
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
    """Whether a data set is there already."""
    return Folder(resolve_path(source.path)).exists(MANIFEST)


def rows(source: SourceConfig) -> int:
    """Rows that a data set has or will have. UserError where it neither is there nor can be made."""
    where = resolve_path(source.path)
    if source.made and not exists(source):
        return source.made.count
    return Shards.open(where).manifest.rows


def identity(source: SourceConfig) -> dict:
    """What tells a data set from others, without making it: how it is made, which gives the same people everywhere but
    for rounding; else the digest of what is there. UserError where it neither is there nor can be made.
    """
    if source.made:
        return {"made": canonical(type(source.made), source.made.model_dump(mode="json")), "people": PEOPLE_VERSION}
    return {"content": Shards.open(resolve_path(source.path)).manifest.content}


def other_options(key: str, source: SourceConfig, manifest: Manifest) -> str:
    """One line about options that a data set was prepared with and that are not the recipe's; empty where none is known
    to differ.
    """
    used = manifest.provenance.arguments
    wanted = {name: value for name, value in source.prepared_with.items() if used.get(name, value) != value}
    if not wanted:
        return ""
    own, other = (" ".join(f"--{name} {values[name]}" for name in wanted) for values in (wanted, used))
    return (
        f"warning: data.{key}: {resolve_path(source.path)} was prepared with {other}, this recipe is made for {own}; crops will not be as "
        "published. Prepare it again with that, or go on"
    )


def open_data(
    key: str, source: SourceConfig, *, kind: Literal["person", "scene"] = "person", split: str = "train"
) -> Shards:
    """The data set of the config's `data.<key>`, made first where it is to be made and is not there. UserError where
    others are.
    """
    where = resolve_path(source.path)
    if source.made:
        what = "people" if source.people else "scenes"
        if what != {"person": "people", "scene": "scenes"}[kind]:
            raise UserError(
                f"data.{key}.{what}: {kind} records are needed; set data.{key}.{what}=null and name or make others"
            )
        numbered: type[NumberedPeople | NumberedScenes] = NumberedPeople if source.people else NumberedScenes
        settings = numbered(**source.made.model_dump(), split=split)
        asked = Source(what, settings, seed=settings.seed)
        if not exists(source):
            from hcmoco_ray.prepare.run import prepare

            log(f"rendering {settings.count} synthetic {what} in {where}")
            prepare(asked, where)
        there = upgrade(numbered, read_manifest(Folder(where)).provenance.arguments)
        other = next((each for each in asked.arguments if there.get(each) != asked.arguments[each]), None)
        if other:
            raise UserError(
                f"{where} holds data with {other} = {there.get(other)!r}, data.{key}.{what} asks for {asked.arguments[other]!r}; "
                f"set data.{key}.{what}=null to take what is there, or choose another data.{key}.path"
            )
    shards = Shards.open(where)
    if warning := other_options(key, source, shards.manifest):
        log(warning)
    if shards.manifest.kind != kind:
        raise UserError(
            f"data.{key}.path: {where} holds {shards.manifest.kind} records, {kind} records are needed; name another data set"
        )
    return shards

"""A program's own run in the record, which the runs of its parts are children of."""

import json
from typing import Any

from hcmoco.storage import Folder
from hcmoco_ray.tracking.client import Tracker, start_run


def parent_run(writer: Any, program: str, recipe: str, out: str) -> Tracker:
    """The run of a program and its recipe; the same one every time that the program goes on in the folder `out`."""
    folder, place = Folder(out), f"{program}-run.json"
    known = json.loads(folder.read(place))["run_id"] if folder.exists(place) else None
    parent = start_run(writer, run_id=known, name=f"{program} {recipe}", tags={"hcmoco.out": out})
    folder.write(place, json.dumps({"run_id": parent.run_id}).encode())
    return parent

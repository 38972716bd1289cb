"""Start the tracking run of a program, the parent of its experiments' runs."""

import json

from hcmoco.storage import Folder
from hcmoco_ray.tracking.client import Tracker, TrackingWriter, start_run


def parent_run(writer: TrackingWriter, program: str, recipe: str, out: str) -> Tracker:
    """Start the run of a program, or continue the one that it started in the folder `out`.

    Args:
        writer: of the tracking store.
        program: name of the program.
        recipe: name of its recipe or grid.
        out: folder of the program's checkpoints, which keeps the id of the run.
    """
    folder, place = Folder(out), f"{program}-run.json"
    run_id = json.loads(folder.read(place))["run_id"] if folder.exists(place) else None
    parent = start_run(writer, run_id=run_id, name=f"{program} {recipe}", tags={"hcmoco.out": out})
    folder.write(place, json.dumps({"run_id": parent.run_id}).encode())
    return parent

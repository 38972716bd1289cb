"""Embed whole sets of people in the shared space, as Parquet; or find who is nearest between two such sets.

    python pipelines/embed.py people-small data/people --out embeddings/people
    python pipelines/embed.py runs/people-cpu photos --boxes boxes.jsonl --out embeddings/photos
    python pipelines/embed.py s3://BUCKET/people-gpu s3://BUCKET/data/people --joints --gpus 1 \
        --out s3://BUCKET/embeddings/people
    python pipelines/embed.py --nearest embeddings/people:rgb embeddings/people:depth --out matches/rgb-depth

WEIGHTS is a name of the weights in the package, the folder or URI of a finished pre-training or of its export, or
owner/name on the Hugging Face Hub. DATA is one of

    a data set that prepare.py wrote, at any path or URI
    a folder with a people.jsonl: rgb, depth, keypoints, boxes, a person a line (prepare.py folder --help)
    a folder of pictures, or a picture: RGB, or depth with --modality depth; --box and --boxes as in predict.py

OUT gets one row a person in part-*.parquet: id, source, subject, index, has_rgb, has_depth, has_keypoints, and of each
modality the embedding of the whole person (float16, a list of fixed size); with --joints also one of each joint, with
--dense one of every position. manifest.json says what the numbers mean; features.png shows some of them.
The same command again resumes a killed one, and does nothing if all is embedded.

--nearest QUERY GALLERY takes embeddings that are finished, as FOLDER:MODALITY: for everybody in QUERY it finds the
nearest in GALLERY, and scores where both are the same person (--match). OUT gets matches.parquet, results.json and
matches.png. It needs no cluster.

Relative paths of weights, data sets and --out are resolved against HCMOCO_HOME, else the current folder; in a submitted
job, against ~/hcmoco. Pictures are searched for in the current folder.
"""

import argparse
from collections.abc import Sequence

from hcmoco.errors import UserError
from hcmoco_ray import cli
from hcmoco_ray.cluster import entrypoint
from hcmoco_ray.mask_options import add_mask_options

_MASKS = (
    "rows: the masks that the rows have; a folder of masks named like the rows' pictures; a depth picture of the empty "
    "scene, of the size of the pictures; or the weight file of a Mask R-CNN, which looks at the rows' RGB"
)
MATCHES = ("id", "name", "subject")


@entrypoint.main_wrapper
def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status. `argv` defaults to the command line's."""
    given = parser().parse_args(argv)
    if given.nearest is not None:
        if given.weights is not None:
            raise UserError(
                "--nearest takes finished embeddings, and WEIGHTS and DATA are given: embed first, then run --nearest "
                "without them"
            )
        from hcmoco_ray.embed import nearest

        return nearest.run(given)
    if given.data is None:
        raise UserError(
            "WEIGHTS and DATA are missing; give for example `people-small data/people`, or --nearest QUERY GALLERY"
        )
    # Imported late: --help and a wrong argument do not wait for PyTorch.
    from hcmoco_ray.embed import run

    return run.run(given)


def parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    arguments = cli.Parser(description=__doc__)
    arguments.add_argument("weights", metavar="WEIGHTS", nargs="?", help="name, folder or URI of pre-trained weights")
    arguments.add_argument("data", metavar="DATA", nargs="?", help="prepared data set, folder of pictures, or picture")
    arguments.add_argument(
        "--output-dir", "--out", dest="output_dir", required=True, help="folder or URI of the results"
    )
    what = arguments.add_argument_group("what is embedded")
    what.add_argument(
        "--modalities", metavar="LIST", help="of rgb,depth,keypoints, with commas (default: all that DATA has)"
    )
    what.add_argument("--joints", action="store_true", help="also of each joint; DATA needs keypoints")
    what.add_argument(
        "--dense", action="store_true", help="also of every position of the map: 150 kB a person and picture at 96 px"
    )
    what.add_argument("--size", type=int, help="side of the crops, pixels (default: that of the training)")
    what.add_argument(
        "--people-shown", type=int, default=8, help="people in features.png, 0 to 16 (default 8; 0: no picture)"
    )
    how = arguments.add_argument_group("how")
    how.add_argument("--workers", type=int, help="processes that embed (default: as many as there is room for)")
    how.add_argument("--cpus", type=float, default=1.0, help="CPUs that each of them asks the cluster for (default 1)")
    how.add_argument("--gpus", type=float, default=0.0, help="GPUs that each of them asks for (default 0)")
    how.add_argument("--threads", type=int, help="threads of each, for arithmetic and for reading (default: --cpus)")
    how.add_argument("--batch", type=int, help="people that are encoded at once (default 32, on a GPU 256)")
    how.add_argument(
        "--precision", choices=("float32", "bfloat16"), default="float32", help="of the arithmetic (default float32)"
    )
    pictures = arguments.add_argument_group("folders of pictures")
    pictures.add_argument("--modality", choices=("rgb", "depth"), help="what the pictures are (default rgb)")
    pictures.add_argument("--box", help="the person, x0,y0,x1,y1 in pixels, or `picture`: the person fills it")
    pictures.add_argument("--boxes", metavar="FILE", help='JSON Lines, {"image": "a.jpg", "box": [x0, y0, x1, y1]}')
    pictures.add_argument(
        "--depth-unit",
        metavar="UNIT",
        help="length of the number 1 in depth files: mm, m, cm, um, 0.25mm, ... (default: mm for whole numbers, m for "
        "floating point)",
    )
    pictures.add_argument("--joint-set", help="of the keypoints in people.jsonl (default coco-17)")
    pictures.add_argument(
        "--min-confidence",
        type=float,
        help="keypoints of people.jsonl have confidences, and are visible from this one on",
    )
    add_mask_options(arguments, _MASKS)
    near = arguments.add_argument_group("who is nearest")
    near.add_argument(
        "--nearest",
        nargs=2,
        metavar=("QUERY", "GALLERY"),
        help="FOLDER:MODALITY each, for example embeddings/people:rgb",
    )
    near.add_argument(
        "--match",
        choices=MATCHES,
        default="id",
        help="what makes two rows the same person: their id; their name, which is the id without the data set and the "
        "file's ending; or their subject (default id)",
    )
    near.add_argument("--top", type=int, default=5, help="nearest that matches.parquet has for each query (default 5)")
    return arguments

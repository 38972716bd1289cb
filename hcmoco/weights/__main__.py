"""Pack a finished pre-training or fine-tuning as small weights: float16 where that loses nothing that counts.

    make pretrain
    python -m hcmoco.weights runs/people-cpu hcmoco/weights/people-small
    python -m hcmoco.weights runs/parsing-rgb hcmoco/weights/people-small-parsing

Weights of two or more dimensions are stored in float16, all others in float32. --list says which are in the package.
"""

import argparse
import sys

from hcmoco.errors import UserError
from hcmoco.export import export_encoders, load_export
from hcmoco.finetuning.saved_model import find_model, load_model, pack_model
from hcmoco.storage import Folder, absolute
from hcmoco.weights import describe_weights, find_weights


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m hcmoco.weights", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "run", nargs="?", help="folder or URI of a finished pre-training or fine-tuning, or what it left"
    )
    parser.add_argument("out", nargs="?", help="folder or URI of the small weights")
    parser.add_argument("--list", action="store_true", help="list the weights in the package, and what they are")
    parser.add_argument("--overwrite", action="store_true", help="replace an export that is there")
    parser.add_argument("--note", default="", help="a paragraph for the card: what else was measured, and on what")
    given = parser.parse_args(arguments)
    if given.list:
        print("\n".join(describe_weights()))
        return 0
    if given.out is None:
        parser.error("give the folder of a run and that of the small weights, or --list")
    try:
        tuned = find_model(given.run)
        folder = tuned or find_weights(given.run)
        if absolute(given.out).rstrip("/") in (absolute(folder).rstrip("/"), absolute(given.run).rstrip("/")):
            raise UserError(f"{given.out} is what is packed; give another folder")
        if tuned:
            if Folder(given.out).exists("config.json") and not given.overwrite:
                raise UserError(f"{given.out} exists already; give another folder, or --overwrite")
            pack_model(load_model(tuned), given.out, note=given.note)
        else:
            export = load_export(folder)
            training = {**export.training, **({"note": given.note} if given.note else {})}
            export_encoders(
                export.model_with_mappers(), given.out, training=training, half=True, overwrite=given.overwrite
            )
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"packed {folder} into {given.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Pack a finished pre-training as small weights: an export in float16 where that loses nothing that counts.

    make pretrain
    python -m hcmoco.weights runs/people-cpu hcmoco/weights/people-small

Weights of two or more dimensions are stored in float16, all others in float32.
"""

import argparse
import sys

from hcmoco.errors import UserError
from hcmoco.export import export_encoders, load_export
from hcmoco.storage import absolute
from hcmoco.weights import find_weights


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m hcmoco.weights", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="folder or URI of a finished pre-training, or of its export")
    parser.add_argument("out", help="folder or URI of the small export")
    parser.add_argument("--overwrite", action="store_true", help="replace an export that is there")
    parser.add_argument("--note", default="", help="a paragraph for the card: what else was measured, and on what")
    given = parser.parse_args(arguments)
    try:
        export = load_export(find_weights(given.run))
        if absolute(given.out).rstrip("/") in (absolute(export.folder).rstrip("/"), absolute(given.run).rstrip("/")):
            raise UserError(f"{given.out} is what is packed; give another folder")
        model = export.model_with_mappers()
        training = {**export.training, **({"note": given.note} if given.note else {})}
        export_encoders(model, given.out, training=training, half=True, overwrite=given.overwrite)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"packed {export.folder} into {given.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The few real files of published data sets that some tests read.

They are nobody's to give out, so a clone has none.
"""

import os
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("HCMOCO_REAL_SAMPLES") or Path(__file__).parents[3] / "shared" / "real-samples")
REASON = "no real samples of published data sets"


def real_sample(name: str) -> Path:
    """The file or folder `name` of the real samples. Skips the test where it is not there."""
    path = FOLDER / name
    if not path.exists():
        pytest.skip(f"{REASON}: {path} is not there (HCMOCO_REAL_SAMPLES names another folder)")
    return path

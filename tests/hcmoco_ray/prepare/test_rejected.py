"""The line that stops a preparation: its total is called a guess while clips are left whose records nobody knows."""

import pytest

from hcmoco.data.shards.manifest import RejectedRecord
from hcmoco.data.shards.writer import Part
from hcmoco.datasets.ntu import NtuConfig
from hcmoco.errors import UserError
from hcmoco_ray.prepare.reader import Source
from hcmoco_ray.prepare.run import _check_rejected


@pytest.mark.parametrize(
    ("guessed", "told"), [(True, "1 of about 80 records of ntu"), (False, "1 of the 80 records of ntu")]
)
def test_a_total_that_is_a_guess_is_called_one(guessed, told):
    rejected = (RejectedRecord(id="ntu/1", reason="broken"),)
    parts = {0: Part(number=0, first_index=0, file=None, splits={}, modalities={}, rejected=rejected)}
    source = Source("ntu", NtuConfig(source="NTU"))
    with pytest.raises(UserError, match=f"^{told} are rejected so far, --max-broken 0.01 allows 0"):
        _check_rejected(source, parts, 0.01, 80, 10, guessed=guessed)
    _check_rejected(source, parts, 0.02, 80, 10, guessed=guessed)

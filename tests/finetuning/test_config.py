"""Keys of earlier versions are refused in a line that names the new ones."""

import pytest

from hcmoco.config import build, merge
from hcmoco.cotraining.config import CoTrainingConfig
from hcmoco.errors import UserError
from hcmoco_ray.config import FinetuneRecipe
from tests.helpers import local_cotraining, local_finetuning

NAMES = {"samples": "num_samples", "validation": "num_val_rows", "validations": "num_evals"}


@pytest.mark.parametrize(
    ("config", "values", "old"),
    [(FinetuneRecipe, local_finetuning.TINY, old) for old in NAMES]
    + [(CoTrainingConfig, local_cotraining.TINY, old) for old in ("validation", "validations")],
)
def test_an_old_key_is_told_its_new_name(config, values, old):
    with pytest.raises(UserError, match=f"^recipe: {old!r} is now called {NAMES[old]!r}$"):
        build(config, merge(values, {old: 3}), "recipe")

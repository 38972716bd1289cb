"""A data set that version 0.1 wrote is read as it is; records of a half-finished one are brought up to date."""

from pathlib import Path

import numpy as np

from hcmoco.config import build, upgrade
from hcmoco.data.collate import CollateConfig
from hcmoco.data.loader import PretrainLoader
from hcmoco.data.sampler import Plan
from hcmoco.data.shards.manifest import About
from hcmoco.data.shards.reader import Shards
from hcmoco.data.shards.verify import verify
from hcmoco.data.shards.writer import Part
from hcmoco.data.transforms import AugmentConfig

OLD = Path(__file__).parents[2] / "fixtures" / "v0.1" / "shards"


def test_it_loads_with_todays_names():
    manifest = Shards.open(str(OLD)).manifest
    assert (manifest.rows, manifest.provenance.version, manifest.provenance.arguments["seed"]) == (12, "0.1.0", 1)
    assert manifest.license.startswith("synthetic")
    assert (manifest.skipped, manifest.calibrations) == ({}, {})


def test_old_names_keep_their_values():
    old = {"dataset": "clips", "licence": "research", "made_by": {"program": "p", "arguments": {"source": "ntu"}}}
    about = build(About, upgrade(About, old), "manifest")
    assert (about.license, about.provenance.arguments) == ("research", {"source": "ntu"})
    part = Part.model_validate(
        upgrade(
            Part,
            {"number": 0, "first_index": 0, "file": None, "splits": {}, "modalities": {}, "left_out": {"crowd": 2}}
            | {"lost": 1, "rejected": [{"id": "a", "reason": "b"}]},
        )
    )
    assert (part.skipped, part.rejected_items, part.rejected[0].id) == ({"crowd": 2}, 1, "a")


def test_it_verifies():
    assert verify(str(OLD)) == []


def test_it_gives_a_batch():
    shards = Shards.open(str(OLD))
    plan = Plan(0, (shards.source_plan("people", 1.0),), lanes=1, batch_size_per_lane=4, window_steps=1, steps=1)
    loader = PretrainLoader(plan, (shards,), CollateConfig(AugmentConfig(size=64), "mpii-16", num_anchors=8))
    (batch,) = loader.batches([loader.item(0, 0)], rank=0, world=1, first_step=0, threads=1, ahead=1)
    assert batch.rgb.shape == (4, 64, 64, 3)
    assert batch.has_rgb.all()
    assert batch.has_depth.all()
    assert len(set(batch.index)) == 4
    assert np.isfinite(batch.keypoints).all()

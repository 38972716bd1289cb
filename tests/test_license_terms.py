"""Whose terms weights stand under: never ours to license where anybody else's data or weights went into them."""

import json

import pytest

from hcmoco import license_terms
from hcmoco.data.shards.manifest import About, MadeBy
from hcmoco.datasets.registry import KINDS, MADE
from hcmoco.license_terms import SYNTHETIC, Terms

MINE = Terms(name="people", terms=SYNTHETIC)
NTU = Terms(name="ntu", terms="research only", page="https://example.org/ntu")


def about(dataset, license):
    return About(dataset=dataset, license=license, made_by=MadeBy(program="tests"))


@pytest.mark.parametrize(
    ("known", "license"), [([MINE], "apache-2.0"), ([MINE, NTU], "other"), ([NTU], "other"), ([], "other")]
)
def test_only_weights_of_synthetic_people_are_ours_to_license(known, license):
    assert license_terms.license_lines(known).splitlines()[0] == f"license: {license}"
    text = license_terms.section(known)
    assert ("not its authors' to license" in text) == (license == "other")
    assert all(f"| {each.name}" in text and f"| {each.terms} |" in text for each in known)


@pytest.mark.parametrize("kind", KINDS)
def test_every_data_set_that_others_own_is_none_of_ours(kind):
    known = license_terms.of_data(about(kind, KINDS[kind].license))
    assert (license_terms.license_lines([known]) == "license: apache-2.0") == (kind in MADE)
    assert known.terms == (KINDS[kind].license or "terms of your data: not known to hcmoco")


def test_terms_are_kept_once_and_come_back():
    kept = json.loads(json.dumps(license_terms.as_json([MINE, NTU, MINE])))
    assert license_terms.of_training({"terms": kept}, "there") == (MINE, NTU)
    for unknown in ({}, {"terms": 7}, {"terms": [{"name": "ntu"}]}):
        (told,) = license_terms.of_training(unknown, "there")
        assert (told.name, "not recorded" in told.terms) == ("the weights in there", True)


def test_a_weights_file_has_the_terms_of_the_export_that_it_is_of(tmp_path):
    facts = {"files": {"rgb.safetensors": {}}, "training": {"terms": license_terms.as_json([NTU])}}
    (tmp_path / "config.json").write_text(json.dumps(facts))
    assert license_terms.of_init(f"{tmp_path}/rgb.safetensors#encoder1.", "resnet18") == (NTU,)
    (strange,) = license_terms.of_init(f"{tmp_path}/other.pth", "resnet18")
    assert "not known to hcmoco" in strange.terms
    (tmp_path / "config.json").write_text("[")
    assert "not known" in license_terms.of_init(f"{tmp_path}/rgb.safetensors", "resnet18")[0].terms
    assert "not known" in license_terms.of_init("gone://nowhere/rgb.safetensors", "resnet18")[0].terms
    assert license_terms.of_init("scratch", "resnet18") == ()
    assert "timm publishes for resnet18" in license_terms.of_init("timm", "resnet18")[0].name

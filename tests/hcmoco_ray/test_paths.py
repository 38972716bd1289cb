"""HCMOCO_HOME is where relative paths lie: a folder or a URI."""

import pytest

from hcmoco.errors import UserError
from hcmoco_ray.paths import below_home, resolve_path

STORE = "s3://bucket/team?endpoint_override=minio:9000&scheme=http"


@pytest.mark.parametrize(
    ("home", "path", "expected"),
    [
        ("/data/hcmoco", "runs/a", "/data/hcmoco/runs/a"),
        ("/data/hcmoco", "/elsewhere/a", "/elsewhere/a"),
        ("/data/what?", "runs/a", "/data/what?/runs/a"),
        ("s3://bucket/team", "runs/a", "s3://bucket/team/runs/a"),
        ("s3://bucket/team", "./runs//a/", "s3://bucket/team/runs/a"),
        ("s3://bucket/team", ".", "s3://bucket/team"),
        ("s3://bucket/team", "/elsewhere/a", "/elsewhere/a"),
        ("s3://bucket/team", "s3://other/a", "s3://other/a"),
        (STORE, "runs/a", "s3://bucket/team/runs/a?endpoint_override=minio:9000&scheme=http"),
    ],
)
def test_relative_paths_lie_below_it(monkeypatch, home, path, expected):
    monkeypatch.setenv("HCMOCO_HOME", home)
    assert resolve_path(path) == expected


def test_nothing_leads_out_of_a_store(monkeypatch):
    monkeypatch.setenv("HCMOCO_HOME", "s3://bucket/team")
    with pytest.raises(UserError, match=r"'runs/\.\./\.\./a' leads out of HCMOCO_HOME = s3://bucket/team; give"):
        resolve_path("runs/../../a")


def test_a_key_in_it_is_refused_and_not_shown(monkeypatch):
    monkeypatch.setenv("HCMOCO_HOME", "s3://AKIA:hidden@bucket/team")
    with pytest.raises(UserError, match="HCMOCO_HOME") as refused:
        resolve_path("runs/a")
    assert "hidden" not in str(refused.value)


@pytest.mark.parametrize("home", ["/data/hcmoco", "s3://bucket/team", STORE])
def test_what_is_shared_names_no_home(monkeypatch, home):
    monkeypatch.setenv("HCMOCO_HOME", home)
    assert below_home(f"stage 2 of {resolve_path('runs/a')}, 6 steps") == "stage 2 of runs/a, 6 steps"

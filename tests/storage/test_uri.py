"""Joining, splitting and naming places: a query stays at the end, and a local path is never parsed."""

from urllib.parse import unquote

import pytest
from pyarrow import fs

from hcmoco.storage import absolute, base_name, is_local, join, split_file

QUERY = "?endpoint_override=minio:9000&scheme=http"


@pytest.mark.parametrize(
    ("uri", "names", "expected"),
    [
        ("s3://b/run", ["states"], "s3://b/run/states"),
        ("s3://b/run/", ["states", "a.json"], "s3://b/run/states/a.json"),
        (f"s3://b/run{QUERY}", ["states"], f"s3://b/run/states{QUERY}"),
        (f"s3://b/run/{QUERY}", ["work/0001", "export"], f"s3://b/run/work/0001/export{QUERY}"),
        (f"s3://b{QUERY}", ["run"], f"s3://b/run{QUERY}"),
        (f"s3://b/run{QUERY}", ["10% of?#1"], f"s3://b/run/10%25%20of%3F%231{QUERY}"),
        ("https://host/w?download=1", ["config.json"], "https://host/w/config.json?download=1"),
        ("memory://a?b", ["c%d?"], "memory://a?b/c%d?"),  # fsspec parses no query
        ("/data/50%?x=1", ["a#b"], "/data/50%?x=1/a#b"),
        ("runs/a/", ["b"], "runs/a/b"),
        ("/", ["b"], "/b"),
    ],
)
def test_join(uri, names, expected):
    assert join(uri, *names) == expected


@pytest.mark.parametrize("name", ["plain", "a b", "50%", "a?b=c", "a#b", "a%20b", "grün+1", "a&b=c"])
def test_a_joined_uri_means_the_name_to_arrow(name):
    """Arrow's own parser is the oracle."""
    _, path = fs.FileSystem.from_uri(join("s3://bucket/run?endpoint_override=127.0.0.1:1&scheme=http", name, "x"))
    assert path == f"bucket/run/{name}/x"


@pytest.mark.parametrize(
    "uri", [f"s3://b/run/w.pth{QUERY}", "s3://b/w.pth", "https://h/a/w.pth?x=1", "/a/50%?/w.pth", "memory://a/w.pth"]
)
def test_a_file_is_split_into_what_joins_to_it(uri):
    folder, name = split_file(uri)
    assert name == "w.pth"
    assert join(folder, name) == uri


def test_the_last_name():
    assert base_name(f"s3://b/data/people%20a/{QUERY}") == "people a"
    assert base_name(f"s3://b{QUERY}") == "b"
    assert base_name("/data/people?/") == "people?"


def test_one_form(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert absolute(f"S3://b/run//{QUERY}") == f"s3://b/run{QUERY}"
    assert absolute("a?b") == f"{tmp_path}/a?b"
    assert absolute("file:///data/a%20b") == "/data/a%20b"
    assert unquote(absolute("s3://b/a%20b")) == "s3://b/a b"


def test_what_is_local():
    assert is_local("data/people")
    assert is_local("/data/s3?a=b")
    assert is_local("file:///data")
    assert not is_local("s3://bucket/people")
    assert not is_local("memory://people")

"""Folders on a disk, in memory and on a real S3 server, and what is said when the server does not serve."""

import functools
import http.server
import os
import socket
import subprocess
import sys
import threading
import uuid

import pytest

from hcmoco.data.shards.verify import verify
from hcmoco.data.shards.writer import write_shards
from hcmoco.errors import StorageError, UserError
from hcmoco.storage import Folder, client, join, read_file
from tests.helpers import s3_server
from tests.helpers.cable import Cable
from tests.helpers.people_made_here import ABOUT, make_persons
from tests.helpers.waiting import wait_until

NAME = "sub/50% of a?#b+c=d.json"


@pytest.fixture(params=["disk", "memory", "s3", "s3 by environment"])
def folder(request, tmp_path, s3, monkeypatch):
    name = f"run {uuid.uuid4()}"
    if request.param == "disk":
        return Folder(str(tmp_path / "50%?x=1"))
    if request.param == "memory":
        return Folder(f"memory://{name}/a?b")
    if request.param == "s3":
        return Folder(join(s3.uri("bucket"), name))
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{s3.address}")
    return Folder(f"s3://bucket/{name}")


def test_what_is_written_is_listed_read_and_deleted(folder):
    folder.check_writable()
    assert (folder.sizes(), folder.folders(), folder.exists("sub")) == ({}, [], False)
    folder.write(NAME, b"first")
    folder.write(NAME, b"second one")
    folder.write("other/deep/a", b"")
    below = NAME.removeprefix("sub/")
    assert folder.sizes("sub") == {below: 10}
    assert folder.folders() == ["other", "sub"]
    assert folder.child("sub").read(below) == folder.read(NAME) == read_file(join(folder.uri, NAME)) == b"second one"
    with folder.open(NAME) as file:
        file.seek(7)
        assert file.read() == b"one"
    assert (folder.exists(NAME), folder.exists("sub"), folder.exists("nothing")) == (True, False, False)
    with pytest.raises(FileNotFoundError):
        folder.read("nothing")
    folder.delete(NAME)
    folder.delete("nothing")
    assert folder.sizes("sub") == {}
    folder.delete_folder("other")
    folder.delete_folder("nothing")
    assert "other" not in folder.folders()
    assert not folder.exists("other/deep/a")


def test_a_check_leaves_nothing(folder):
    folder.check_readable()
    folder.check_writable()
    assert folder.sizes() == {}


def line_of(caught) -> str:
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("use", ["check_readable", "check_writable", "sizes", "folders"])
def test_a_missing_bucket_is_not_an_empty_folder(s3, use):
    folder = Folder(s3.uri(f"missing-{uuid.uuid4()}/run"))
    with pytest.raises(StorageError, match=r"bucket missing-.* does not exist") as caught:
        getattr(folder, use)()
    assert line_of(caught).startswith(f"storage {folder.uri}")


def test_a_missing_bucket_is_found_by_any_first_use(s3):
    for use in (lambda each: each.exists("a"), lambda each: each.read("a"), lambda each: each.write("a", b"")):
        with pytest.raises(StorageError, match="does not exist"):
            use(Folder(s3.uri(f"missing-{uuid.uuid4()}/run")))


def test_a_bucket_is_made_where_the_uri_allows_it(s3):
    uri = f"{s3.uri(f'made-{uuid.uuid4()}/run')}&allow_bucket_creation=true"
    Folder(uri).check_writable()
    Folder(uri).write("a", b"1")
    assert Folder(uri).read("a") == b"1"


def test_a_store_that_is_not_there(s3_environment):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(StorageError, match=f"{address} does not answer") as caught:
        Folder(f"s3://bucket/run?endpoint_override={address}&scheme=http").exists("a")
    line_of(caught)


def test_a_store_that_takes_connections_and_says_nothing(s3_environment):
    with socket.create_server(("127.0.0.1", 0)) as server:
        kept: list = []

        def accept() -> None:
            while True:
                try:
                    kept.append(server.accept())
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        uri = f"s3://bucket/run?endpoint_override=127.0.0.1:{server.getsockname()[1]}&scheme=http"
        with pytest.raises(StorageError, match="does not answer"):
            Folder(uri).check_writable()
        assert len(kept) < 6  # tries; Arrow's own client makes ten of each request


def test_a_store_that_goes_away_does_not_damage_a_data_set(s3_environment, monkeypatch):
    monkeypatch.setattr(client, "PATIENCE_S", 0.0)
    with s3_server.served() as server:
        server.make_bucket("bucket")
        uri = server.uri("bucket/people")
        write_shards(uri, make_persons(20), ABOUT, seed=5)
        assert verify(uri) == []
        with Folder(uri).open("part-00000.parquet") as file:
            server.stop()
            with pytest.raises(OSError, match="AWS Error") as caught:
                file.read()
            with pytest.raises(StorageError, match="does not answer"):
                Folder(uri).raise_if_unreachable(caught.value)
        Folder("/tmp").raise_if_unreachable(caught.value)  # a disk does not go away
        with pytest.raises(StorageError, match="does not answer") as caught:
            verify(uri)
        assert "prepare" not in line_of(caught)


def test_a_store_that_comes_back_is_waited_for(s3, capsys):
    cable = Cable(s3.address)
    folder = Folder(f"s3://bucket/{uuid.uuid4()}?endpoint_override={cable.address}&scheme=http")
    folder.write("a", b"first")
    cable.cut()
    found: list = []
    thread = threading.Thread(target=lambda: found.append((folder.exists("a"), folder.read("a"))))
    thread.start()
    wait_until(lambda: "waiting up to 60 s" in capsys.readouterr().err or not thread.is_alive())
    assert thread.is_alive()
    cable.mend()
    thread.join()
    cable.cut()
    assert found == [(True, b"first")]


_USES = """
import sys
from hcmoco.storage import Folder
for use in ("check_readable", "check_writable"):
    try:
        getattr(Folder(sys.argv[1]), use)()
        print("ok")
    except Exception as error:
        print(type(error).__name__, error)
"""


@pytest.fixture(scope="module")
def guarded(s3_environment):
    """A server that checks keys, and the environments of its users."""
    with s3_server.served() as server:
        server.make_bucket("bucket")
        users = {
            "all": server.make_user("s3:*"),
            "read": server.make_user("s3:ListBucket", "s3:GetObject"),
            "none": server.make_user(),
            "unknown": s3_server.ENVIRONMENT,
        }
        users["wrong"] = {**users["all"], "AWS_SECRET_ACCESS_KEY": "wrong"}
        server.enforce()
        yield server, users


@pytest.mark.parametrize(
    ("user", "read", "write"),
    [
        ("all", "ok", "ok"),
        ("read", "ok", "cannot be written to: no permission"),
        ("none", "no permission", "no permission"),
        ("unknown", "the key is not accepted; set AWS_ACCESS_KEY_ID", "the key is not accepted"),
        ("wrong", "the key is not accepted; set AWS_ACCESS_KEY_ID", "the key is not accepted"),
    ],
)
def test_a_key_that_is_wrong_or_may_not(guarded, user, read, write):
    """In a process of its own: a client keeps the key that it has begun with."""
    server, users = guarded
    done = subprocess.run(
        [sys.executable, "-c", _USES, server.uri("bucket/run")],
        env={**os.environ, **users[user]},
        capture_output=True,
        text=True,
        check=True,
    )
    first, second = done.stdout.splitlines()
    assert read in first
    assert write in second
    assert all(text == "ok" or text.startswith("StorageError storage s3://bucket/run") for text in (first, second))


@pytest.mark.parametrize(
    ("uri", "line"),
    [
        ("s3://", "names no bucket"),
        ("s3://bucket/run?endpoint=minio", "Unexpected query parameter.*'endpoint'"),
        ("nosuchscheme://x/y", "Protocol not known"),
    ],
)
def test_a_uri_that_no_client_takes_is_one_line(uri, line):
    with pytest.raises(UserError, match=f"storage {uri.partition('?')[0]}.* cannot be opened: .*{line}") as caught:
        Folder(uri).exists("x")
    line_of(caught)


def test_a_key_in_a_uri_is_refused_before_it_is_used():
    with pytest.raises(UserError, match="AWS_SECRET_ACCESS_KEY") as caught:
        Folder("s3://AKIA:Hun/ter2@bucket/run").exists("x")
    assert "ter2" not in line_of(caught)


def test_a_file_of_a_web_server(tmp_path):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments) -> None:
            pass

    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "w.pth").write_bytes(b"weights")
    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        uri = f"http://127.0.0.1:{server.server_port}/a"
        try:
            assert read_file(f"{uri}/w.pth?download=1") == b"weights"
            assert not Folder(uri).exists("config.json")
            assert Folder(uri).sizes() == {}  # a web server lists nothing
            with pytest.raises(FileNotFoundError):
                read_file(f"{uri}/x.pth")
        finally:
            server.shutdown()
            thread.join()

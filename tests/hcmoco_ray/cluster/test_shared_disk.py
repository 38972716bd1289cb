"""Which nodes reach a path. That a node which does not is named is tested over real nodes, in tests/cluster."""

import pytest

from hcmoco.errors import UserError
from hcmoco_ray.cluster import session, shared_disk


def test_the_only_node_reaches_every_path_and_nothing_is_left(ray_session, tmp_path):
    assert shared_disk.unreached_nodes([str(tmp_path / "not" / "there"), str(tmp_path), "/"]) == [[], [], []]
    assert list(tmp_path.iterdir()) == []
    session.Cluster(nodes=3).require_shared_storage(("--out", "s3://bucket/x"), weights=["scratch"])


def test_a_node_names_the_folders_that_it_does_not_see(tmp_path, monkeypatch):
    """By a token, or where none could be written by the names and sizes of the files."""
    monkeypatch.setattr(shared_disk, "_APPEARS_S", 0.0)
    (tmp_path / "file").write_text("five!")
    (tmp_path / "folder").mkdir()
    seen = {
        "/a": str(tmp_path / "file"),
        "/b": str(tmp_path / "no file"),
        str(tmp_path): ["file 5", f"folder {(tmp_path / 'folder').stat().st_size}"],
        str(tmp_path / "folder"): ["file 5"],
        str(tmp_path / "no folder"): ["file 5"],
    }
    assert shared_disk._missing(seen) == ["/b", str(tmp_path / "folder"), str(tmp_path / "no folder")]


def test_the_file_system_of_a_path():
    assert shared_disk.file_system("/proc/self") == "proc"
    assert shared_disk.file_system("/no/such/folder") == shared_disk.file_system("/")


@pytest.mark.parametrize("kind", ["nfs4", "lustre"])
def test_sqlite_on_a_network_file_system_is_refused_on_several_nodes(monkeypatch, tmp_path, kind):
    monkeypatch.setattr(shared_disk, "file_system", lambda path: kind)
    with pytest.raises(UserError, match=rf"SQLite on a shared file system \({kind}\).*tracking.uri=http"):
        shared_disk.check_store(f"sqlite:///{tmp_path}/mlflow.db", 2)
    shared_disk.check_store(f"sqlite:///{tmp_path}/mlflow.db", 1)
    shared_disk.check_store("http://server:5000", 2)

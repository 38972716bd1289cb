"""Which nodes reach a path. That a node which does not is named is tested over real nodes, in tests/cluster."""

import pytest

from hcmoco.errors import UserError
from hcmoco_ray.cluster import session, shared_disk


def test_the_only_node_reaches_every_path_and_nothing_is_left(ray_session, tmp_path):
    assert shared_disk.unreached_nodes(str(tmp_path / "not" / "there")) == []
    assert list(tmp_path.iterdir()) == []
    session.Cluster(nodes=3).require_shared_storage("--out", "s3://bucket/x")


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

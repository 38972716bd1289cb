"""One Ray for all tests that need one, in one process of the test run."""

import pytest
from ending import pytest_configure, pytest_sessionstart  # noqa: F401 (hooks)


@pytest.fixture(scope="session")
def ray_session():
    """A local Ray of 4 logical CPUs; programs under test find it running and use it."""
    from pipelines import _cluster

    cluster = _cluster.start(num_cpus=4, object_store_bytes=300 << 20)
    import ray

    yield cluster
    ray.shutdown()


@pytest.fixture
def one_thread():
    """Bits depend on how many threads add: runs that are compared have one."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# Before xdist reads the groups.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        if "ray_session" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("ray"))

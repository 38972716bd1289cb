"""One Ray for all tests that need one, in one process of the test run."""

import pytest


@pytest.fixture(scope="session")
def ray_session():
    """A local Ray of 4 logical CPUs; programs under test find it running and use it."""
    from pipelines import _cluster

    cluster = _cluster.start(num_cpus=4, object_store_bytes=300 << 20)
    import ray

    yield cluster
    ray.shutdown()


# Before xdist reads the groups.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        if "ray_session" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("ray"))

"""One Ray for all tests of a process that need one."""

import os

import pytest

from tests.helpers import namespaces, real_samples, s3_server
from tests.helpers.ending import pytest_configure, pytest_sessionstart  # noqa: F401 (hooks)

for _name in [name for name in os.environ if name.startswith(("MLFLOW_TRACKING_", "MLFLOW_EXPERIMENT_"))]:
    del os.environ[_name]  # of the person who runs the tests: programs under test would log there


@pytest.fixture(scope="session")
def s3_environment():
    """Keys for the S3 server of the tests, and none of the person who runs them."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name, value in s3_server.ENVIRONMENT.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="session")
def s3(s3_environment):
    """A real S3 server with an empty bucket "bucket"."""
    with s3_server.served() as server:
        server.make_bucket("bucket")
        yield server


@pytest.fixture(scope="session")
def ray_session(s3_environment):
    """A local Ray of 4 logical CPUs; programs under test find it running and use it."""
    import ray

    yield _start_ray()
    ray.shutdown()


def _start_ray(tries: int = 10):
    """Ray gives its node 30 seconds to start, which a busy machine may not keep: then it is tried again."""
    import ray

    from hcmoco.errors import UserError
    from hcmoco_ray.cluster import session

    for left in reversed(range(tries)):
        try:
            return session.connect(num_cpus=4, object_store_bytes=300 << 20)
        except UserError:
            ray.shutdown()
            if not left:
                raise


@pytest.fixture
def one_thread():
    """Bits depend on how many threads add: runs that are compared have one."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pytest_addoption(parser):
    parser.addoption(
        "--mutations", type=int, default=25, help="damaged copies of a data set that each reader is fed (default 25)"
    )


# One of these at the end would keep one process of the test run busy, and leave the other one nothing.
LONGEST = (
    *("test_pretrain", "test_pretrain_kills", "test_pretrain_mistakes"),
    *("test_finetune", "test_finetune_kills", "test_finetune_mistakes"),
    *("test_job_submit", "test_label_fractions", "test_overfit", "test_secrets", "test_signals", "test_sweep"),
)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(items):
    """Group the tests by file, so that a file's fixtures are made once, and start with the files that take longest.

    The tests on Ray take more than half of the time. So each process of the test run has a Ray, which its tests share.
    """
    for item in items:  # before xdist reads the groups
        if not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))
    yield
    items.sort(key=lambda item: item.path.stem not in LONGEST)  # both parts stay in random order


# Outermost, so that its line comes last.
@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter):
    yield
    for reason, advice in (
        (real_samples.REASON, "HCMOCO_REAL_SAMPLES names their folder"),
        (namespaces.REASON, namespaces.unavailable),
    ):
        skipped = [each for each in terminalreporter.stats.get("skipped", []) if reason in str(each.longrepr)]
        if skipped:
            said = advice if isinstance(advice, str) else advice()
            terminalreporter.write_line(f"{len(skipped)} tests were skipped: {reason}; {said}")

"""A head without CPUs and three workers of 2 CPUs each, for all tests on several nodes."""

from collections.abc import Iterator

import pytest

from tests.helpers import s3_server
from tests.helpers.namespaces import REASON, unavailable
from tests.helpers.nodes import Nodes


@pytest.fixture(scope="session")
def _nodes() -> Iterator[Nodes]:
    if why := unavailable():
        pytest.skip(f"{REASON}: {why}")
    with Nodes((0, 2, 2, 2), environment=s3_server.ENVIRONMENT) as nodes:  # every node needs the store's keys
        yield nodes


@pytest.fixture
def nodes(_nodes: Nodes) -> Nodes:
    """The nodes, all alive, whatever the test before has done to them."""
    _nodes.repair()
    return _nodes

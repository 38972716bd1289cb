"""The tests of a file run in one process, so that its fixtures are made once: pytest-xdist groups them."""

import os

import pytest


@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="there is one process only")
def test_a_test_is_sent_to_the_process_of_its_file(request):
    assert request.node.nodeid.endswith("@tests/test_groups.py")

"""The surface of `evaluation_scenes`, once."""

import pytest

from tests.helpers.evaluation_scenes import line_surface


@pytest.fixture(scope="session")
def surface():
    return line_surface()

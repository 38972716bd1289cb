import pytest

from tests.helpers import local_cotraining


@pytest.fixture(scope="session")
def sources(tmp_path_factory):
    """14 people to be read without labels, 7 with, 5 to test on."""
    return local_cotraining.write_sources(tmp_path_factory.mktemp("versatility"))


@pytest.fixture(autouse=True)
def _same_bits(one_thread):
    """Every test here has one thread."""

import pytest
import tiny_cotraining
import torch


@pytest.fixture(scope="session")
def sources(tmp_path_factory):
    """14 people to be read without labels, 7 with, 5 to test on."""
    return tiny_cotraining.write_sources(tmp_path_factory.mktemp("versatility"))


@pytest.fixture(autouse=True)
def one_thread():
    """Bits depend on how many threads add."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)

"""What all tests of the training share."""

import pytest
import tiny_pretraining as tiny
import torch


@pytest.fixture(scope="session")
def sources(tmp_path_factory):
    """The two made-up data sets."""
    return tiny.write_sources(tmp_path_factory.mktemp("blobs"))


@pytest.fixture(autouse=True)
def one_thread():
    """Bits depend on how many threads add: every run of these tests has one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)

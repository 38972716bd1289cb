import pytest

from tests.helpers import local_finetuning


@pytest.fixture(scope="session")
def people_shards(tmp_path_factory):
    """40 people of 64 px with all labels."""
    return local_finetuning.write_people(tmp_path_factory.mktemp("tasks") / "people")

import pytest
import tiny_finetuning


@pytest.fixture(scope="session")
def people_shards(tmp_path_factory):
    """40 people of 64 px with all labels."""
    return tiny_finetuning.write_people(tmp_path_factory.mktemp("tasks") / "people")

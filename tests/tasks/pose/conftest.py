import pytest

from hcmoco.data.shards.manifest import About, MadeBy
from hcmoco.synthetic import PeopleConfig, make_person
from tests.helpers.real_samples import real_sample


@pytest.fixture(scope="session")
def people_about():
    return About(dataset="people", joints="people-31", joints3d="people-31", size=96, made_by=MadeBy(program="tests"))


@pytest.fixture(scope="session")
def people_rows():
    """Eight synthetic people, 96 px, with masked depth; not to be changed."""
    config = PeopleConfig(size=96, seed=5)
    return [make_person(config, number, dataset="people", split="train").to_row(number) for number in range(8)]


@pytest.fixture(scope="session")
def itop_samples():
    return real_sample("itop-side")

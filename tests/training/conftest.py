"""What all tests of the training share."""

import pytest

from tests.helpers import local_pretraining as tiny


@pytest.fixture(scope="session")
def sources(tmp_path_factory):
    """The two made-up data sets."""
    return tiny.write_sources(tmp_path_factory.mktemp("blobs"))


@pytest.fixture(scope="session")
def batch(sources):
    """10 rows, not to be changed: some of room have depth, some lack it, those of street have none."""
    config = tiny.tiny_config(train={"batch_size_per_lane": 5, "window_steps": 1})
    feed = tiny.tiny_feed(config, sources)
    batch = next(
        feed.batches((feed.item(0, lane) for lane in range(2)), rank=0, world=1, first_step=0, threads=1, ahead=1)
    )
    assert 3 <= batch.has_depth.sum() <= 7
    assert batch.has_rgb.all()
    assert batch.has_keypoints.all()
    return batch


@pytest.fixture(autouse=True)
def _same_bits(one_thread):
    """Every test here has one thread."""

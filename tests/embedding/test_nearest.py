"""The search in blocks beside a search by sorting the whole matrix, and what chance scores."""

import math
from itertools import permutations

import numpy as np
import pytest

from hcmoco.embedding.nearest import search
from hcmoco.embedding.sides import Side, name_of
from hcmoco.errors import UserError
from tests.helpers.embedding_sets import write_embeddings


def units(rng: np.random.Generator, count: int, width: int = 8) -> np.ndarray:
    vectors = rng.standard_normal((count, width))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


@pytest.fixture
def people(tmp_path):
    """Fifty people, whose depth is like their RGB, with some noise; a few lack one of them."""
    rng = np.random.default_rng(0)
    rgb = units(rng, 50)
    depth = rgb + 0.5 * rng.standard_normal(rgb.shape)
    depth = (depth / np.linalg.norm(depth, axis=1, keepdims=True)).astype(np.float16)
    has = {"rgb": rng.random(50) < 0.9, "depth": rng.random(50) < 0.8}
    subjects = [str(k // 4) if k % 7 else "" for k in range(50)]
    return (
        write_embeddings(tmp_path / "people", {"rgb": rgb, "depth": depth}, subjects=subjects, present=has),
        rgb,
        depth,
        has,
    )


def cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    first, second = (
        each.astype(np.float64) / np.linalg.norm(each.astype(np.float64), axis=1, keepdims=True)
        for each in (first, second)
    )
    return first @ second.T


@pytest.mark.parametrize(("queries", "entries"), [(2048, 8192), (7, 5), (3, 2), (13, 64)])
def test_any_blocks_find_what_sorting_everything_finds(people, queries, entries):
    embeddings, rgb, depth, has = people
    found = search(Side(embeddings, "rgb"), Side(embeddings, "depth"), top=3, queries=queries, entries=entries)
    numbers, gallery = np.flatnonzero(has["rgb"]), np.flatnonzero(has["depth"])
    similarity = cosines(rgb[numbers], depth[gallery])
    order = np.argsort(-similarity, axis=1)
    assert found.queries["id"].to_pylist() == [f"people/{k}" for k in numbers]
    assert np.array_equal(found.nearest, order[:, :3])
    assert np.allclose(found.similarity, np.take_along_axis(similarity, order[:, :3], 1), atol=1e-5)
    wanted = [
        1.0 + int((similarity[row] > similarity[row, list(gallery).index(person)]).sum())
        if person in gallery
        else math.nan
        for row, person in enumerate(numbers)
    ]
    assert np.array_equal(found.ranks, wanted, equal_nan=True)
    asked = np.isfinite(wanted)
    assert np.array_equal(found.asked, asked)
    assert 0 < asked.sum() < len(asked)
    ranks = np.array(wanted)[asked]
    for count in (1, 5):
        assert found.recall(count) == pytest.approx((ranks <= count).mean())
        assert found.chance_recall(count) == pytest.approx(count / len(gallery))
    assert found.median_rank == np.median(ranks)
    assert found.chance_median_rank == (len(gallery) + 1) / 2


@pytest.mark.parametrize("blocks", [(2048, 8192), (6, 4)])
def test_one_subject_among_themselves(people, blocks):
    """Several right answers, people without a subject, and nobody is their own answer."""
    embeddings, rgb, _, has = people
    found = search(
        Side(embeddings, "rgb"), Side(embeddings, "rgb"), match="subject", top=4, queries=blocks[0], entries=blocks[1]
    )
    numbers = np.flatnonzero(has["rgb"])
    subjects = [str(k // 4) if k % 7 else None for k in numbers]
    similarity = cosines(rgb[numbers], rgb[numbers])
    np.fill_diagonal(similarity, -np.inf)
    for row, subject in enumerate(subjects):
        right = [k for k, other in enumerate(subjects) if subject is not None and other == subject and k != row]
        assert found.num_right[row] == len(right)
        assert row not in found.nearest[row]
        if right:
            best = max(right, key=lambda k: similarity[row, k])
            assert found.right[row] == best
            assert found.ranks[row] == 1 + (similarity[row] > similarity[row, best]).sum() - sum(
                similarity[row, k] > similarity[row, best] for k in right
            )
    assert (found.candidates == len(numbers) - 1).all()


def test_equal_embeddings_score_what_a_blind_guess_does(tmp_path):
    same = np.tile(units(np.random.default_rng(1), 1), (20, 1))
    subjects = [str(k % 5) for k in range(20)]
    embeddings = write_embeddings(tmp_path / "same", {"rgb": same, "depth": same}, subjects=subjects)
    for match in ("id", "subject"):
        found = search(Side(embeddings, "rgb"), Side(embeddings, "depth"), match=match)
        for count in (1, 5):
            assert found.recall(count) == pytest.approx(found.chance_recall(count))
        assert found.median_rank == found.chance_median_rank


def test_chance_by_counting_all_orders(tmp_path):
    """Two right answers among five: the first one's place over all orders."""
    places = np.array([min(order.index(0), order.index(1)) + 1 for order in permutations(range(5))])
    rng = np.random.default_rng(2)
    gallery = write_embeddings(tmp_path / "g", {"depth": units(rng, 5)}, subjects=["a", "a", "b", "b", "b"])
    query = write_embeddings(tmp_path / "q", {"rgb": units(rng, 1)}, subjects=["a"])
    found = search(Side(query, "rgb"), Side(gallery, "depth"), match="subject")
    for count in (1, 2, 4):
        assert found.chance_recall(count) == pytest.approx((places <= count).mean())
    assert found.chance_median_rank == pytest.approx(places.mean())


def test_pictures_in_two_folders(tmp_path):
    assert name_of("photos/a/0001.jpg#2") == name_of("scans/a/0001.png#2") == "a/0001#2"
    assert name_of("photos/a/0001.jpg") != name_of("photos/b/0001.jpg")
    vectors = units(np.random.default_rng(3), 6)
    photos = write_embeddings(tmp_path / "p", {"rgb": vectors}, ids=[f"photos/{k}.jpg" for k in range(6)])
    scans = write_embeddings(tmp_path / "s", {"depth": vectors[::-1]}, ids=[f"scans/{5 - k}.png" for k in range(6)])
    found = search(Side(photos, "rgb"), Side(scans, "depth"), match="name")
    assert found.recall(1) == 1
    assert found.right.tolist() == [5, 4, 3, 2, 1, 0]
    assert not search(Side(photos, "rgb"), Side(scans, "depth")).asked.any()


def test_what_cannot_be_compared(tmp_path):
    rng = np.random.default_rng(4)
    first = write_embeddings(tmp_path / "a", {"rgb": units(rng, 3)})
    other = write_embeddings(tmp_path / "b", {"rgb": units(rng, 3)}, weights="b")
    wide = write_embeddings(tmp_path / "c", {"rgb": units(rng, 3, 16)})
    with pytest.raises(UserError, match="has no embeddings of depth; it has rgb"):
        search(Side(first, "rgb"), Side(first, "depth"))
    with pytest.raises(UserError, match="embed both with the same"):
        search(Side(first, "rgb"), Side(other, "rgb"))
    with pytest.raises(UserError, match="8 and 16 numbers"):
        search(Side(first, "rgb"), Side(wide, "rgb"))

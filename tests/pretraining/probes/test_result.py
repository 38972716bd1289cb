"""The table of a probe."""

import math

import pytest
import torch

from hcmoco.pretraining.probes.result import ProbeResult


@pytest.fixture
def result() -> ProbeResult:
    result = ProbeResult(people=4)
    result.add("retrieval_same_crop/rgb_to_depth", torch.tensor([1.0, 0, 0, 1]), 1 / 4)
    result.add(
        "dense_same_crop/rgb_to_depth",
        torch.tensor([0.5, math.nan, 1, 0.9]),
        torch.full((4,), 0.02),
        torch.tensor([1.0, math.nan, 1, 1]),
    )
    result.add(
        "dense_same_crop/depth_to_rgb", torch.tensor([0.1, 0.1, 0.1, 0.1]), torch.full((4,), 0.04), torch.ones(4)
    )
    result.add("joint/rgb_to_rgb", torch.full((4,), math.nan), torch.full((4,), math.nan))
    return result


def test_figures_are_percentages_over_those_asked(result: ProbeResult):
    assert result.metrics["retrieval_same_crop/rgb_to_depth"] == 50
    assert result.metrics["dense_same_crop/rgb_to_depth"] == pytest.approx(80)
    assert result.errors["retrieval_same_crop/rgb_to_depth"] == pytest.approx(100 * math.sqrt(1 / 3) / 2)
    assert result.chance["retrieval_same_crop/rgb_to_depth"] == 25
    assert result.chance["dense_same_crop/rgb_to_depth"] == pytest.approx(2)
    assert result.position == {"dense_same_crop/rgb_to_depth": 100, "dense_same_crop/depth_to_rgb": 100}
    assert "joint/rgb_to_rgb" not in result.metrics  # nobody could be asked: no figure, not a zero


def test_mean_of_the_directions(result: ProbeResult):
    result.add_mean("dense_same_crop", "dense_same_crop/")
    assert result.metrics["dense_same_crop"] == pytest.approx(45)
    assert result.chance["dense_same_crop"] == pytest.approx(3)
    assert result.position["dense_same_crop"] == 100
    result.add_mean("nothing", "nothing/")
    assert "nothing" not in result.metrics


def test_table_is_aligned_and_markdown_is_a_table(result: ProbeResult):
    result.notes["cells asked"] = 93.04
    plain, markdown = result.table().splitlines(), result.table(markdown=True).splitlines()
    assert len({len(line) for line in plain[:4]}) == 1
    assert len({len(line) for line in markdown[:5]}) == 1
    assert [cell.strip() for cell in markdown[2].strip("|").split("|")] == [
        "retrieval_same_crop/rgb_to_depth",
        "50.0",
        "28.9",
        "25.0",
        "-",
    ]
    assert {line.count("|") for line in markdown[:5]} == {6}
    assert set(markdown[1]) == set("|-:")
    assert "cells asked: 93.0 %" in plain[-1]
    assert plain[-1].startswith("4 people.")


def test_names_for_a_tracker(result: ProbeResult):
    assert result.flat()["probe/retrieval_same_crop/rgb_to_depth"] == 50

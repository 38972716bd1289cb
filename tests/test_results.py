"""results.json of version 0.1 gets today's keys, and Markdown tables."""

import pytest

from hcmoco import markdown
from hcmoco.results import upgrade_results

TODAY = {
    "selected_step": 4,
    "init": {"name": "cmc", "text": "runs/cmc", "digest": "d"},
    "primary_metric": "mIoU",
    "test": {"rows": 3, "metrics": {"mIoU": 0.5}},
    "evals": [[4, {"mIoU": 0.4}]],
    "per_class": {"columns": ["class", "IoU"], "rows": [["head", 0.5]]},
}
EARLIER = {
    "chosen_step": 4,
    "start": {"text": "runs/cmc", "digest": "d"},
    "init": "cmc",
    "main": "mIoU",
    "test": {"rows": 3, "figures": {"mIoU": 0.5}},
    "validations": [[4, {"mIoU": 0.4}]],
    "breakdown": {"columns": ["class", "IoU"], "rows": [["head", 0.5]]},
}


def test_an_earlier_result_gets_todays_keys():
    assert upgrade_results(EARLIER) == TODAY
    alone = {key: value for key, value in EARLIER.items() if key != "init"}
    assert upgrade_results(alone)["init"] == EARLIER["start"]
    assert upgrade_results({"main": "m", "figures": {"m": 1.0}}) == {"primary_metric": "m", "metrics": {"m": 1.0}}


def test_todays_result_stays_as_it_is():
    assert upgrade_results(TODAY) == TODAY


def test_a_table_has_a_rule_per_column():
    assert markdown.table(["a", "b"], [["1", "2"]], "lr") == "| a | b |\n|---|--:|\n| 1 | 2 |"
    with pytest.raises(ValueError, match="2 columns, but 1"):
        markdown.table(["a", "b"], [["1"]], "lr")

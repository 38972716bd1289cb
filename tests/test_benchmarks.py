"""What the benchmarks' results say of a machine, and of an earlier result."""

import json

import pytest

from benchmarks import _results, _tables


def row(what: str, values: tuple[float, float, float], unit: str = "", **more) -> dict:
    least, median, most = values
    return {"what": what, "median": median, "range": [least, most], "unit": unit, "target": None, **more}


@pytest.mark.parametrize(
    ("old", "new", "is_slower"),
    [
        (row("a", (1, 2, 3), "s"), row("a", (2, 3, 9), "s"), False),
        (row("a", (1, 2, 3), "s"), row("a", (2, 3.1, 9), "s"), True),
        (row("a", (1, 2, 3), "rows/s"), row("a", (0, 0.9, 1), "rows/s"), True),
        (row("a", (1, 2, 3), "rows/s"), row("a", (2, 3.1, 9), "rows/s"), False),
        (row("a", (1, 2, 3), target=">= 0.9"), row("a", (0, 0.9, 1), target=">= 0.9"), True),
        (row("a", (1, 2, 3), target="<= 5"), row("a", (3, 4, 5), target="<= 5"), True),
        (row("a", (1, 2, 3), better="higher"), row("a", (0, 0.9, 1), better="higher"), True),
        (row("a", (1, 2, 3)), row("a", (0, 0.9, 1)), False),  # nobody knows what is better
        (row("a", (1, 2, 3), "s"), row("b", (7, 8, 9), "s"), False),
    ],
)
def test_what_is_slower_than_the_range(old, new, is_slower):
    found = _results.slower([new], [old])
    assert found == ({"a": "was 2 (1 to 3)"} if is_slower else {})


def test_machines_of_other_features_have_other_files():
    machine = {"cpu": "Intel(R) Xeon(R) Processor", "features": "AVX-512", "cores": 2, "gpu": None}
    assert _results.title(machine) == "Intel Xeon with AVX-512, 2 cores"
    assert _results.file_name("ingest", machine) == "ingest-intel-xeon-avx-512-2-cores.json"
    assert _results.file_name("ingest", {**machine, "features": "AVX2"}) == "ingest-intel-xeon-avx2-2-cores.json"
    assert _results.file_name("step", {**machine, "gpu": "NVIDIA H200"}) == "step-nvidia-h200.json"


def test_the_page_has_the_committed_results():
    assert _tables.PAGE.read_text() == _tables.page(), "run: python benchmarks/_tables.py"


def test_every_result_is_on_the_page():
    for path in _results.RESULTS.glob("*.json"):
        result = json.loads(path.read_text())
        assert _results.title(result["machine"]) in _tables.page()
        assert path.name in _tables.page()

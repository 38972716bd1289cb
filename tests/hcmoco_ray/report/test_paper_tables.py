"""The paper's tables as data, held against what the paper says of them elsewhere."""

import pytest

from hcmoco_ray.report.paper_tables import TABLES


@pytest.mark.parametrize("table", TABLES, ids=lambda table: f"table-{table.number}")
def test_rows_have_a_number_for_every_column(table):
    columns = sum(len(group.figures) for group in table.groups)
    assert {len(row.values) for row in table.rows} <= {0, columns}
    assert all(0 < value < 100 for row in table.rows for value in row.values)


def paper(number: int, method: str, column: int, note: str = "") -> float:
    rows = next(table for table in TABLES if table.number == number).rows
    return next(row for row in rows if row.method == method and row.note.endswith(note)).values[column]


# Differences that the paper's text states beside its tables (sections 5.2 to 5.4), as it rounds them.
STATED = [
    (12.7, (1, "Ours*", 5), (1, "From Scratch", 5)),
    (4.13, (1, "Ours*", 5), (1, "IN Pre-train", 5)),
    (7.2, (1, "Ours†", 5, "MPII"), (1, "IN Pre-train", 5)),
    (5.4, (1, "Ours†", 6, "MPII"), (1, "IN Pre-train", 6)),
    (9.7, (1, "Ours†", 5, "COCO"), (1, "IN Pre-train", 5)),
    (7.5, (1, "Ours†", 6, "COCO"), (1, "IN Pre-train", 6)),
    (5.6, (2, "Ours†", 0), (2, "IN Pre-train", 0)),
    (1.9, (3, "+ Sparse Structure-aware", 6), (3, "+ Soft Dense Intra-sample", 6)),
    (2.8, (3, "+ Sparse Structure-aware", 8), (3, "+ Soft Dense Intra-sample", 8)),
    (6.4, (4, "Ours", 3), (4, "IN Pre-train", 3)),
    (4.6, (4, "Ours", 3), (4, "MMV [1]", 3)),
    (48.2, (5, "Ours", 5), (5, "IN Pre-train", 5)),
    (29.2, (6, "Ours", 0), (6, "No Contrastive", 0)),
    (23.0, (6, "Ours", 3), (6, "CMC [45]", 3)),
    (24.3, (7, "Ours", 0), (7, "CMC [45]", 0)),
    (19.6, (7, "Ours", 3), (7, "No Contrastive", 3)),
]


@pytest.mark.parametrize(("stated", "one", "other"), STATED)
def test_differences_are_those_of_the_papers_text(stated, one, other):
    assert paper(*one) - paper(*other) == pytest.approx(stated, abs=0.0551)


def test_tables_that_repeat_numbers_agree():
    """Table 3's first and last rows are the CMC and Ours rows of Tables 1, 2, 4 and 5."""
    ablation = TABLES[2]
    for method, place in (("CMC", 0), ("Ours", 3)):
        dagger, plain_name = (f"{method}†", method) if method == "Ours" else (f"{method}† [45]", f"{method} [45]")
        expected = [paper(1, dagger, column, "MPII") for column in range(4, 8)]
        expected += [paper(5, plain_name, column) for column in (4, 5)]
        expected += [paper(2, dagger, column) for column in (6, 7)]
        expected += [paper(4, plain_name, column) for column in (3, 4)]
        assert list(ablation.rows[place].values) == expected

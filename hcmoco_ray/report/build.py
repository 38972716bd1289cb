"""A results folder to its page: the sections in their order, written as HTML and as Markdown."""

from collections.abc import Sequence

from hcmoco.storage import Folder, absolute
from hcmoco_ray.report import html, markdown
from hcmoco_ray.report.conditions import conditions, recipes, synthetic
from hcmoco_ray.report.figures import drawings
from hcmoco_ray.report.model import Block, Bullets, Heading, Text
from hcmoco_ray.report.numbers import Filled, fill
from hcmoco_ray.report.paper_tables import TABLES
from hcmoco_ray.report.pictures import embedded
from hcmoco_ray.report.reader import Results, read_results
from hcmoco_ray.report.tables import summary_blocks, table_blocks

_CURVES = (
    "Figure 6 of the paper shows Human3.6M parsing with all labels and with 20%. Here every task: mean over the seeds, the band one "
    "standard deviation to each side; without a band there is one seed. Scored on rows of the training data that are set aside."
)
_NO_CURVES = "No cell with a validation is there yet."


def run(results_uri: str, out_uri: str) -> int:
    """Reads the results, writes the page and says where it is; see report.py for the arguments."""
    results = read_results(results_uri)
    tables = [fill(table, results.entries) for table in TABLES]
    source = "synthetic" if synthetic(results) else "here"
    drawn = drawings(results.entries)
    title = "HCMoCo: the paper's tables" + (", on synthetic people" if synthetic(results) else "")
    blocks: list[Block] = [Heading(title, "top", 1), _lead(results, source), *_summary(results, tables, source)]
    blocks += [Heading("The paper's tables", "tables"), Text(_reading(source))]
    blocks += [block for filled in tables for block in table_blocks(filled, source)]
    blocks += [
        Heading("Validation score by training step", "figure-6"),
        Text(_CURVES if drawn else _NO_CURVES),
    ]
    blocks += drawn
    blocks.append(Heading("Pictures", "pictures"))
    blocks += embedded(results.pictures, results_uri) or [Text("No picture is there yet.")]
    blocks += conditions(results)

    out = Folder(out_uri)
    for drawing in drawn:
        out.write(drawing.name, drawing.svg.encode())
    if absolute(out_uri) != absolute(results_uri):
        for name, data in results.pictures.items():
            out.write(name, data)
    out.write("tables.md", markdown.document(blocks).encode())
    page = html.page(title, blocks).encode()
    out.write("index.html", page)
    done = sum(each.run is not None for each in results.entries)
    print(f"page       {out_uri}/index.html ({len(page) / 1e6:.1f} MB)\nMarkdown   {out_uri}/tables.md")
    print(
        f"cells      {done} of {len(results.entries)} have a result, {len(results.notes)} remarks on what is not there"
    )
    return 0


def _lead(results: Results, source: str) -> Text:
    runs = [each.run for each in results.entries if each.run]
    counted = " or ".join(f"{each:,}" for each in sorted({run.test.rows for run in runs})) or "no"
    people = "synthetic people" if source == "synthetic" else "this project's own runs"
    return Text(
        f"The lines “paper” are the numbers of Hong et al., CVPR 2022, on real data. The lines “{source}” are of {people} (recipe "
        f"{recipes(results)}, {counted} test rows): mean ± standard deviation over the seeds. Order and margins can be set side by side; "
        "the values themselves cannot where data, image size, network and training length differ.",
        "lead",
    )


def _reading(source: str) -> str:
    return (
        f"Every method has the paper's line and beneath it the line “{source}”; under the head of each group of columns stands what was "
        "run. Bold is the best of the rows compared. The last two lines say whether HCMoCo is first: ✓ yes, ✗ no, in brackets where the "
        "difference is within two standard errors or there is one seed."
    )


def _summary(results: Results, tables: Sequence[Filled], source: str) -> list[Block]:
    blocks: list[Block] = [Heading("Summary", "summary"), *summary_blocks(tables, source)]
    open_cells = sum(each.run is None for each in results.entries)
    if results.notes:
        blocks += [
            Text(f"Not there ({open_cells} of {len(results.entries)} cells are without a result):"),
            Bullets(results.notes),
        ]
    return blocks

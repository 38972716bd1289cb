"""Build the page of a results folder: its sections, written as HTML and as Markdown."""

from collections.abc import Sequence

from hcmoco.storage import Folder, absolute, join
from hcmoco_ray.report import html, markdown
from hcmoco_ray.report.conditions import conditions, recipes, synthetic
from hcmoco_ray.report.figures import drawings
from hcmoco_ray.report.model import Block, Bullets, Drawing, Heading, Text
from hcmoco_ray.report.numbers import Filled, fill
from hcmoco_ray.report.paper_tables import TABLES
from hcmoco_ray.report.pictures import embedded
from hcmoco_ray.report.reader import Results, read_results
from hcmoco_ray.report.tables import loss_blocks, summary_blocks, table_blocks

_CURVES = (
    "Figure 6 of the paper shows Human3.6M parsing with all labels and with 20%. Here every task is shown: the line is "
    "the "
    "mean over the seeds, the band one standard deviation to each side; a line without a band has one seed. Scores are "
    "on validation rows of the training data, which are not trained on."
)
_NO_CURVES = "No experiment with a validation is finished yet."


def run(results_uri: str, out_uri: str) -> int:
    """Read the results, write the page and print where it is.

    Args:
        results_uri: folder or URI of the results.
        out_uri: folder or URI of the page.

    Returns:
        The exit status of the program.

    Raises:
        UserError: the folder does not exist or holds no results, or a file in it is damaged.
    """
    Folder(out_uri).check_writable()
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
    blocks += embedded(results.pictures, results_uri) or [Text("No picture exists yet.")]
    blocks += conditions(results)

    out = Folder(out_uri)
    for drawing in [block for block in blocks if isinstance(block, Drawing)]:
        out.write(drawing.name, drawing.svg.encode())
    if absolute(out_uri) != absolute(results_uri):
        for name, data in results.pictures.items():
            out.write(name, data)
    out.write("tables.md", markdown.document(blocks).encode())
    page = html.page(title, blocks).encode()
    out.write("index.html", page)
    done = sum(entry.run is not None for entry in results.entries)
    print(f"page       {join(out_uri, 'index.html')} ({len(page) / 1e6:.1f} MB)")
    print(f"Markdown   {join(out_uri, 'tables.md')}")
    print(f"results    {done} of {len(results.entries)} experiments, {len(results.notes)} remarks on what is missing")
    return 0


def _lead(results: Results, source: str) -> Text:
    runs = [entry.run for entry in results.entries if entry.run]
    counted = " or ".join(f"{rows:,}" for rows in sorted({run.test.rows for run in runs})) or "no"
    people = "synthetic people" if source == "synthetic" else "this project's own runs"
    return Text(
        "The lines “paper” are the numbers of Hong et al., CVPR 2022, on real data. "
        f"The lines “{source}” are of {people} (recipe {recipes(results)}, {counted} test rows): "
        "mean ± standard deviation over the seeds. Order and margins can be compared; "
        "the values themselves cannot where data, image size, network and training length differ.",
        "lead",
    )


def _reading(source: str) -> str:
    return (
        f"Every method has the paper's line and below it the line “{source}”. The head of each group of columns says "
        "what "
        "was run. Bold is the best of the rows compared. The last two lines say whether HCMoCo is first: ✓ yes, ✗ no, "
        "in brackets where the 95 % interval of the difference has 0 in it or only one seed was run."
    )


def _summary(results: Results, tables: Sequence[Filled], source: str) -> list[Block]:
    blocks: list[Block] = [Heading("Summary", "summary"), *summary_blocks(tables, source), *loss_blocks(tables)]
    num_open = sum(entry.run is None for entry in results.entries)
    if results.notes:
        blocks += [
            Text(f"Missing ({num_open} of {len(results.entries)} experiments have no result):"),
            Bullets(results.notes),
        ]
    return blocks

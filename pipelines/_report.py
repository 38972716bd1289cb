"""A results folder to its page: the sections in their order, written as HTML and as Markdown."""

from collections.abc import Sequence

from hcmoco.shards.storage import Folder, absolute
from pipelines import _report_html, _report_markdown
from pipelines._report_blocks import Block, Bullets, Drawing, Heading, Text
from pipelines._report_conditions import conditions, recipes
from pipelines._report_curves import Line, Panel, curves
from pipelines._report_numbers import Filled, fill
from pipelines._report_paper import TABLES
from pipelines._report_pictures import embedded
from pipelines._report_read import Entry, Results, read_results
from pipelines._report_tables import NAMES, summary_blocks, table_blocks

TITLE = "HCMoCo: the paper's tables, on synthetic people"
TASKS = {
    "parsing-rgb": "RGB human parsing",
    "parsing-depth": "Depth human parsing",
    "pose": "3D pose from depth",
    "densepose": "DensePose",
    "rgb-to-depth": "Trained on RGB, tested on depth",
    "depth-to-rgb": "Trained on depth, tested on RGB",
    "missing-modality": "Missing modality",
}


def run(results_uri: str, out_uri: str) -> int:
    """Reads the results, writes the page and says where it is; see report.py for the arguments."""
    results = read_results(results_uri)
    tables = [fill(table, results.entries) for table in TABLES]
    drawings = _drawings(results)
    pictures = embedded(results.pictures, results_uri)
    blocks: list[Block] = [*_opening(results), *_summary(results, tables)]
    blocks.append(Heading("The paper's tables", "tables"))
    blocks += [block for filled in tables for block in table_blocks(filled)]
    blocks.append(Heading("Validation score by training step", "figure-6"))
    blocks.append(
        Text(
            "Figure 6 of the paper shows Human3.6M parsing with all labels and with 20%. Here every task: mean over the seeds, the band "
            "one standard deviation to each side; without a band there is one seed. Scored on rows of the training data that are set aside."
            if drawings
            else "No cell with a validation is there yet."
        )
    )
    blocks += [drawing for drawing, _ in drawings]
    blocks.append(Heading("Pictures", "pictures"))
    blocks += pictures or [Text("No picture is there yet.")]
    blocks += conditions(results)

    out = Folder(out_uri)
    for drawing, alone in drawings:
        out.write(drawing.name, alone.encode())
    if absolute(out_uri) != absolute(results_uri):
        for name, data in results.pictures.items():
            out.write(name, data)
    out.write("tables.md", _report_markdown.document(blocks).encode())
    page = _report_html.page(TITLE, blocks).encode()
    out.write("index.html", page)
    done = sum(each.run is not None for each in results.entries)
    print(f"page       {out_uri}/index.html ({len(page) / 1e6:.1f} MB)\nMarkdown   {out_uri}/tables.md")
    print(f"cells      {done} of {len(results.entries)} have a result, {len(results.notes)} remarks on what is not there")
    return 0


def _opening(results: Results) -> list[Block]:
    rows = sorted({each.run.test.rows for each in results.entries if each.run})
    counted = " or ".join(f"{each:,}" for each in rows) or "no"
    return [
        Heading(TITLE, "top", 1),
        Text(
            "The lines “paper” are the numbers of Hong et al., CVPR 2022, on real data. The lines “here” are of synthetic people "
            f"(recipe {recipes(results)}, {counted} test rows): mean ± standard deviation over the seeds. Order and margins can be set "
            "side by side; the values themselves cannot, since data, image size, network and training length differ.",
            "lead",
        ),
    ]


def _summary(results: Results, tables: Sequence[Filled]) -> list[Block]:
    blocks: list[Block] = [Heading("Summary", "summary"), *summary_blocks(tables)]
    open_cells = sum(each.run is None for each in results.entries)
    if results.notes:
        blocks += [Text(f"Not complete: {open_cells} of {len(results.entries)} cells have no result; remarks:"), Bullets(results.notes)]
    return blocks


def _drawings(results: Results) -> list[tuple[Drawing, str]]:
    """Curves of each task, and each as a file of its own."""
    drawings = []
    for task, title in TASKS.items():
        panels, figure = _panels([each for each in results.entries if each.task == task and each.run])
        if panels:
            drawing = Drawing(f"curves/{task}.svg", curves(panels, figure), f"{title}: {figure} on validation rows")
            drawings.append((drawing, curves(panels, figure, alone=True)))
    return drawings


def _panels(entries: Sequence[Entry]) -> tuple[list[Panel], str]:
    """A panel for each share of the labels, most labels first; a cell that two programs name is one line."""
    by_labels: dict[str, dict[str, dict[int, Entry]]] = {}
    for each in entries:
        if each.run and each.run.validations:
            by_labels.setdefault(each.labels, {}).setdefault(each.init, {})[each.seed] = each
    panels: list[tuple[int, Panel]] = []
    figure = ""
    for labels, inits in by_labels.items():
        lines, rows = [], 0
        for init in sorted(inits, key=lambda name: (list(NAMES).index(name) if name in NAMES else len(NAMES), name)):
            steps: dict[int, list[float]] = {}
            for each in inits[init].values():
                assert each.run is not None
                figure, rows = each.run.main, max(rows, each.run.labels.rows)
                for step, figures in each.run.validations:
                    if figure in figures:
                        steps.setdefault(step, []).append(100 * figures[figure])
            if steps:
                lines.append(Line(init, NAMES.get(init, init), tuple((step, tuple(steps[step])) for step in sorted(steps))))
        if lines:
            panels.append((rows, Panel(f"{labels or 'co-training'} ({rows:,} labelled rows)", tuple(lines))))
    return [panel for _, panel in sorted(panels, key=lambda each: -each[0])], figure

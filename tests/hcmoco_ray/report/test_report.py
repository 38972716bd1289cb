"""The page of a results folder: the paper's numbers, ours beside them, and what is said about the difference."""

import base64
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from hcmoco_ray.commands import report
from hcmoco_ray.report.markdown import plain
from hcmoco_ray.report.numbers import interval_95

PARSING = ("mIoU", "mAcc", "aAcc")
VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """The rows of every table as texts, spans filled in; all addresses; tags that were not closed."""

    def __init__(self, text: str):
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.addresses: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self._heading, self._rows, self._held = "", [], {}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.addresses += [values[name] for name in ("href", "src", "srcset", "action", "data") if name in values]
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("h2", "h3"):
            self._heading = values["id"]
        elif tag == "table":
            self._rows, self._held = [], {}
            self.tables.setdefault(self._heading, self._rows)
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            row = self._rows[-1]
            self._fill(row)
            place = len(row)
            for number in range(int(values.get("colspan", 1))):
                row.append("")
                self._held[place + number] = (int(values.get("rowspan", 1)) - 1, place + number)
            self._place = place
        elif tag == "small":
            self._rows[-1][self._place] += " "

    def _fill(self, row):
        while self._held.get(len(row), (0, 0))[0]:
            left, place = self._held[len(row)]
            self._held[len(row)] = (left - 1, place)
            row.append(self._rows[-2][place])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if self.open and {"td", "th"} & set(self.open[-3:]):
            self._rows[-1][self._place] += data

    def row(self, table: int, method: str, source: str) -> list[str]:
        """The cells of a method's line in one of the paper's tables, after its name and source."""
        return next(row[2:] for row in self.tables[f"table-{table}"] if row[0].startswith(method) and row[1] == source)


def cell(task, init, labels, seed, figures, *, rows=287, seconds=60.0, main=None):
    """A fine-tuning's file, as finetune_and_score and the grid leave it."""
    main = main or next(iter(figures))
    return {
        "task": task,
        "seed": seed,
        "steps": 450,
        "selected_step": 450,
        "select": "validation",
        "precision": "bfloat16",
        "labels": {"text": labels, "rows": rows, "digest": "d"},
        "init": {"name": init, "text": init, "digest": ""},
        "primary_metric": main,
        "test": {"rows": 512, "digest": "d", "metrics": figures},
        "evals": [[225, {name: value / 2 for name, value in figures.items()}], [450, figures]],
        "seconds": seconds,
        "hcmoco": "0.1.0",
        "torch": "2.11.0",
        "key": "k",
        "commit": "c" * 40,
    }


def write(folder: Path, name: str, value) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def write_index(folder: Path, program: str, lines: list[dict], recipe: str = "people-cpu") -> None:
    head = {
        "program": program,
        "recipe": recipe,
        "hcmoco": "0.1.0",
        "commit": "c" * 40,
        "baseline": "scratch",
        "inits": {},
    }
    write(folder, f"{program}.json", {**head, "experiments": lines})


def parsing_grid(folder: Path, scores: dict[str, list[float]], **keys) -> None:
    """RGB parsing with 10 %: the mIoU (0..1) of each start by seed; mAcc is twice, aAcc three times as much."""
    lines = []
    for init, values in scores.items():
        for seed, value in enumerate(values):
            name = f"experiments/parsing-rgb_{init}_10pc_seed{seed}.json"
            figures = {figure: value * times for figure, times in zip(PARSING, (1, 2, 3), strict=True)}
            write(folder, name, cell("parsing-rgb", init, "10%", seed, figures))
            lines.append(
                {"task": "parsing-rgb", "init": init, "labels": "10%", "seed": seed, "status": "done", "result": name}
            )
    write_index(folder, "label_fractions", [*lines, *keys.pop("more", [])], **keys)


def pages(folder: Path, *arguments: str) -> tuple[Page, str]:
    assert report.main([str(folder), *arguments]) == 0
    out = Path(arguments[1]) if arguments else folder
    return Page((out / "index.html").read_text()), (out / "tables.md").read_text()


def test_mean_spread_and_who_is_first(tmp_path):
    parsing_grid(tmp_path, {"scratch": [0.10, 0.12, 0.11], "cmc": [0.20, 0.22, 0.21], "hcmoco": [0.24, 0.27, 0.24]})
    page, markdown = pages(tmp_path)
    ours = page.row(2, "Ours*", "synthetic")
    assert ours[6:9] == ["25.00 ± 1.73", "50.00 ± 3.46", "75.00 ± 5.20"]
    assert page.row(2, "Ours*", "paper")[6:9] == ["57.08", "71.75", "99.13"]
    assert page.row(2, "CMC*", "synthetic")[6] == "21.00 ± 1.00"
    assert ours[0] == "not run"
    here = {row[0] for row in page.tables["table-2"] if row[1] == "synthetic"}
    assert not any("†" in name for name in here), "a line without a number for rows that cannot be here"
    assert "CMC† [45], MMV† [1], Ours†: these start from ImageNet's weights, which were not at hand" in page.text
    assert page.row(2, "HCMoCo first?", "paper")[6] == "✓"
    # Pairs differ by 4, 5 and 3: a mean of 4 with a standard error of 0.577, and t(0.975, 2) = 4.303.
    assert page.row(2, "HCMoCo first?", "synthetic")[6] == "✓"
    assert "+4.00 ± 2.48" in page.text
    assert "It is first in every column." in page.text
    assert "| Ours\\* HCMoCo | synthetic | not run |" in markdown
    assert "**25.00** ± 1.73" in markdown


@pytest.mark.parametrize(
    ("hcmoco", "mark", "line"),
    [
        ([0.20, 0.22, 0.19], "✗", "HCMoCo 20.33, CMC 25.00 (difference −4.67 ± 1.43, 3 seeds)"),
        (
            [0.20, 0.27, 0.26],
            "(✗)",
            "HCMoCo 24.33, CMC 25.00 (difference −0.67 ± 9.40, 3 seeds, the interval has 0 in it)",
        ),
        ([0.20], "(✗)", "HCMoCo 20.00, CMC 25.00 (difference −5.00, 1 seed)"),
        ([0.25, 0.27, 0.24], "(✓)", None),
    ],
)
def test_a_column_where_it_is_not_first_is_listed(tmp_path, hcmoco, mark, line):
    parsing_grid(tmp_path, {"cmc": [0.25, 0.26, 0.24], "hcmoco": hcmoco})
    page, markdown = pages(tmp_path)
    assert page.row(2, "HCMoCo first?", "synthetic")[6] == mark
    if line:
        assert f"Table 2, 10% Data, mIoU: {line}" in page.text
        assert plain(line) in markdown
        assert "HCMoCo is first in 0 of the 3 columns" in page.text
    else:
        assert "Table 2, 10% Data, mIoU: HCMoCo" not in page.text


def test_the_papers_own_defeat_is_said(tmp_path):
    parsing_grid(tmp_path, {"cmc": [0.2], "hcmoco": [0.3]})
    page, _ = pages(tmp_path)
    assert "Table 5, 1%, Acc: 78.71, MMV [1] 79.70" in page.text
    assert page.row(5, "HCMoCo first?", "paper") == ["✓", "✓", "✗", "✓", "✓", "✓"]


def test_cells_without_a_result_say_why(tmp_path):
    more = [
        {
            "task": "parsing-rgb",
            "init": "imagenet",
            "labels": "10%",
            "seed": 0,
            "status": "not run: no weight file",
            "result": None,
        },
        {
            "task": "parsing-rgb",
            "init": "mmv",
            "labels": "10%",
            "seed": 1,
            "status": "failed: <b> & | gone",
            "result": None,
        },
        {
            "task": "parsing-rgb",
            "init": "mmv",
            "labels": "10%",
            "seed": 0,
            "status": "done",
            "result": "experiments/lost.json",
        },
    ]
    parsing_grid(tmp_path, {"scratch": [0.1, 0.1], "hcmoco": [0.2, 0.2]}, more=more)
    page, markdown = pages(tmp_path)
    assert "IN Pre-train, CMC† [45], MMV† [1], Ours†: these start from ImageNet's weights" in page.text
    assert "1 experiment starts from ImageNet's weights, which were not at hand" in page.text
    assert page.row(2, "MMV*", "synthetic")[6] == "failed"
    assert "experiments/lost.json does not exist, though label_fractions.json names it" in page.text
    assert "label_fractions, mmv: failed: <b> & | gone: parsing-rgb 10% (seed 1)" in page.text
    assert "failed: &lt;b&gt; &amp; \\| gone" in markdown
    assert "ablation.json does not exist" in page.text
    assert "not run" in page.row(3, "+ Soft Dense", "synthetic")


def test_fewer_seeds_are_said(tmp_path):
    parsing_grid(tmp_path, {"scratch": [0.1, 0.1, 0.1], "hcmoco": [0.2, 0.3]})
    page, _ = pages(tmp_path)
    assert page.row(2, "Ours*", "synthetic")[6] == "25.00 ± 7.07 (2 of 3 seeds)"


def test_versatility_and_ablation_fill_their_tables(tmp_path):
    lines = []
    for number, experiment in enumerate(("rgb-to-depth", "depth-to-rgb", "missing-modality")):
        for method, value in (("none", 0.04), ("cmc", 0.05), ("hcmoco", 0.3 + number / 10)):
            sides = {"rgb": 1.0, "depth": 1.1, "fused": 1.2}
            figures = {f"{side}/{figure}": value * times for side, times in sides.items() for figure in PARSING}
            name = f"versatility/{experiment}_{method}.json"
            result = cell("", "", "", 0, figures, rows=300, main="depth/mIoU")
            write(tmp_path, name, {**result, "experiment": experiment, "method": method})
            lines.append({"experiment": experiment, "method": method, "seed": 0, "status": "done", "result": name})
    write_index(tmp_path, "versatility", lines)
    ablation = []
    for init, value in (("cmc", 0.4), ("hard", 0.5), ("soft", 0.6), ("hcmoco", 0.7)):
        for task, labels, figure in (("pose", "17 samples", "acc_10cm"), ("parsing-depth", "10%", "mIoU")):
            name = f"experiments/{task}_{init}.json"
            write(tmp_path, name, cell(task, init, labels, 0, {figure: value}))
            ablation.append({"task": task, "init": init, "labels": labels, "seed": 0, "status": "done", "result": name})
    write_index(tmp_path, "ablation", ablation)
    page, _ = pages(tmp_path)
    assert page.row(6, "Ours", "synthetic")[0] == "33.00"  # depth of rgb-to-depth
    assert page.row(6, "Ours", "synthetic")[3] == "40.00"  # RGB of depth-to-rgb
    assert [page.row(7, "Ours", "synthetic")[place] for place in (0, 3, 6)] == ["50.00", "55.00", "60.00"]
    assert page.row(7, "No Contrastive", "paper")[3] == "24.41"
    hard = page.row(3, "+ Hard Dense", "synthetic")
    assert (hard[0], hard[5], hard[8], hard[9]) == ("not run", "50.00", "50.00", "–")
    assert page.tables["table-3"][0][-2].endswith("synthetic: 10%, 287 rows, 1 seed")


def test_another_backbone_fills_its_table_and_no_other(tmp_path):
    parsing_grid(tmp_path, {"cmc": [0.2], "hcmoco": [0.3]})
    lines = []
    for init, value in (("scratch", 0.1), ("cmc", 0.2), ("hcmoco", 0.4)):
        name = f"experiments/densepose_{init}_larger.json"
        write(tmp_path, name, cell("densepose", init, "10%", 0, {"gps_ap": value, "box_ap": value / 2}))
        lines.append({"task": "densepose", "init": init, "labels": "10%", "seed": 0, "status": "done", "result": name})
    for init, value in (("scratch", 0.11), ("cmc-points", 0.22), ("hcmoco-points", 0.33)):
        name = f"experiments/parsing-depth_{init}.json"
        write(tmp_path, name, cell("parsing-depth", init, "10%", 0, {"mIoU": value, "mAcc": value / 2}))
        lines.append(
            {"task": "parsing-depth", "init": init, "labels": "10%", "seed": 0, "status": "done", "result": name}
        )
    write_index(tmp_path, "backbones", lines)
    page, _ = pages(tmp_path)
    assert page.row(8, "CMC", "synthetic")[4:] == ["22.00", "11.00"]
    assert page.row(8, "Ours", "synthetic")[4:] == ["33.00", "16.50"]
    assert not any(row[0].endswith("points") for row in page.tables["table-8"]), "they are no rows of their own"
    assert page.row(8, "Ours", "synthetic")[:2] == ["20.00", "40.00"]
    assert page.row(8, "*", "synthetic")[:2] == ["5.00", "10.00"]
    assert page.row(8, "Ours", "paper")[:2] == ["54.55", "55.80"]
    assert "40.00" not in page.row(1, "Ours*", "synthetic")


def test_the_page_needs_nothing_else(tmp_path):
    parsing_grid(tmp_path, {"cmc": [0.2, 0.21], "hcmoco": [0.3, 0.32]})
    noise = np.random.default_rng(0).integers(0, 255, (40, 3200, 3), np.uint8)
    for name in ("pictures/a-b_hcmoco.png", "versatility/rgb-to-depth.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(cv2.imencode(".png", noise)[1].tobytes())
    out = tmp_path / "out"
    page, markdown = pages(tmp_path, "--out", str(out))
    assert page.open == []
    assert all(each.startswith(("#", "data:")) for each in page.addresses)
    text = (out / "index.html").read_text()
    assert not re.search(r"https?:|//[a-z]|url\((?!#)|@import|<script", re.sub(r"base64,[A-Za-z0-9+/=]*", "", text))
    pictures = [each for each in page.addresses if each.startswith("data:image")]
    assert len(pictures) == 2
    shown = cv2.imdecode(np.frombuffer(base64.b64decode(pictures[0].partition(",")[2]), np.uint8), cv2.IMREAD_COLOR)
    assert shown.shape == (20, 1600, 3)
    assert "A b, HCMoCo" in page.text
    linked = re.findall(r"!\[[^\]]*\]\(([^)]*)\)", markdown)
    pngs = ["pictures/a-b_hcmoco.png", "versatility/rgb-to-depth.png"]
    assert sorted(linked) == ["curves/margins.svg", "curves/parsing-rgb.svg", *pngs]
    assert all((out / each).is_file() for each in linked)


def test_pictures_shrink_until_the_page_is_small_enough(tmp_path):
    parsing_grid(tmp_path, {"hcmoco": [0.3]})
    (tmp_path / "pictures").mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (1200, 1600, 3), np.uint8)
    for number in range(3):
        (tmp_path / f"pictures/{number}.png").write_bytes(
            cv2.imencode(".png", noise, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
        )
    pages(tmp_path)
    assert (tmp_path / "index.html").stat().st_size < 6_000_000


def test_the_first_picture_shows_each_margin_with_its_interval(tmp_path):
    parsing_grid(tmp_path, {"cmc": [0.20, 0.22, 0.21], "hcmoco": [0.24, 0.27, 0.24]})
    pages(tmp_path)
    svg = (tmp_path / "curves/margins.svg").read_text()
    assert "RGB parsing, 10% Data, mIoU" in svg
    assert "synthetic people" in svg
    text = (tmp_path / "tables.md").read_text()
    assert text.index("curves/margins.svg") < text.index("Margins of the main metrics") < text.index("Table 1.")


@pytest.mark.parametrize(("count", "quantile"), [(2, 12.7062), (3, 4.3027), (5, 2.7764)])
def test_intervals_are_students(count, quantile):
    """The quantiles of Student's t at 97.5 %, from its table, for 1, 2 and 4 degrees of freedom."""
    values = [float(each) for each in range(count)]
    error = np.std(values, ddof=1) / math.sqrt(count)
    assert interval_95(values) == pytest.approx(quantile * error, rel=1e-4)
    assert interval_95(values[:1]) is None


def test_curves_are_the_validations(tmp_path):
    parsing_grid(tmp_path, {"scratch": [0.1, 0.1], "hcmoco": [0.2, 0.2]})
    pages(tmp_path)
    svg = (tmp_path / "curves/parsing-rgb.svg").read_text()
    lines = {}
    for init in ("scratch", "hcmoco"):
        path = re.search(rf'<g id="parsing-rgb-0-{init}">\s*<path d="([^"]*)"', svg)[1]
        lines[init] = [tuple(map(float, point)) for point in re.findall(r"[ML] (\S+) (\S+)", path)]
    scratch, hcmoco = lines["scratch"], lines["hcmoco"]
    # Scratch 5 and 10 %, HCMoCo 10 and 20 %, at steps 225 and 450: one linear axis each way.
    assert scratch[1][1] == pytest.approx(hcmoco[0][1], abs=1e-3)
    assert hcmoco[0][1] - hcmoco[1][1] == pytest.approx(2 * (scratch[0][1] - scratch[1][1]), abs=1e-3)
    assert scratch[0][0] == hcmoco[0][0] < hcmoco[1][0]
    assert "mIoU [%]" in svg
    assert "training step" in svg


def test_conditions_and_probes(tmp_path):
    parsing_grid(tmp_path, {"cmc": [0.2], "hcmoco": [0.3]})
    for init, value, seconds in (("hcmoco", 53.5, None), ("cmc", 3.25, 3725.0)):
        probes = {"after stage 1": {"dense/mean": 1.0}, "after stage 2": {"dense/mean": value}}
        digests = {"rgb": "a" * 64, "depth": "b" * 64}
        facts = {
            "init": init,
            "recipe": "people-cpu",
            "overrides": ["objective.x=1"],
            "key": "k",
            "steps": 1600,
            "seed": 0,
            "precision": "float32",
        }
        write(
            tmp_path,
            f"pretrainings/{init}.json",
            {**facts, "digests": digests, "probes": probes, "seconds": seconds, "commit": "d" * 40},
        )
    page, _ = pages(tmp_path)
    assert page.tables["probes"] == [
        ["Probe, %", "CMC after stage 2", "HCMoCo after stage 2"],
        ["dense/mean", "3.2", "53.5"],
    ]
    assert page.tables["pretrainings"][1][:7] == [
        "CMC",
        "people-cpu",
        "objective.x=1",
        "float32",
        "0",
        "1,600",
        "1 h 02 min",
    ]
    assert page.tables["pretrainings"][2][6] == "not timed"
    assert page.tables["conditions"][1][0] == "tuning/label_fractions.py"
    assert page.tables["conditions"][1][2:5] == ["2 of 2", "0", "bfloat16"]
    assert "All experiments together 2 min 00 s, 1 pre-training 1 h 02 min" in page.text


def test_numbers_of_real_data_are_not_called_synthetic(tmp_path):
    parsing_grid(tmp_path, {"hcmoco": [0.3]}, recipe="paper-w18")
    page, _ = pages(tmp_path)
    assert page.row(2, "Ours*", "here")[6] == "30.00"
    assert "synthetic" not in page.text


def test_the_same_results_give_the_same_bytes(tmp_path):
    parsing_grid(tmp_path, {"cmc": [0.2, 0.21], "hcmoco": [0.3, 0.32]})
    pages(tmp_path)
    first = [(tmp_path / name).read_bytes() for name in ("index.html", "tables.md", "curves/parsing-rgb.svg")]
    pages(tmp_path)
    assert [(tmp_path / name).read_bytes() for name in ("index.html", "tables.md", "curves/parsing-rgb.svg")] == first


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("label_fractions.json", "{", "label_fractions.json: not JSON"),
        ("label_fractions.json", "[1]", "label_fractions.json: must be a mapping of keys to values"),
        (
            "experiments/parsing-rgb_hcmoco_10pc_seed0.json",
            '{"steps": 1, "seed": 0}',
            "seed0.json: key 'labels' is missing",
        ),
        ("pretrainings/cmc.json", "\xff\xfe", "cmc.json: not JSON"),
        ("pictures/a.png", "no picture", "pictures/a.png: "),
        (
            "label_fractions.json",
            json.dumps(
                {
                    "recipe": "r",
                    "experiments": [{"task": "pose", "seed": 0, "status": "done", "result": "../secret.json"}],
                }
            ),
            "result '../secret.json' is outside the folder",
        ),
    ],
)
def test_a_broken_file_is_one_line_that_names_it(tmp_path, capsys, name, text, says):
    parsing_grid(tmp_path, {"hcmoco": [0.3]})
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(text.encode("latin-1"))
    assert report.main([str(tmp_path)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert says in lines[0]
    assert not (tmp_path / "index.html").exists()


def test_a_folder_that_is_not_there(tmp_path, capsys):
    assert report.main([str(tmp_path / "none")]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert "this folder does not exist or is empty" in error
    assert not (tmp_path / "none").exists()


def test_a_folder_of_something_else(tmp_path, capsys):
    (tmp_path / "states").mkdir()
    (tmp_path / "config.yaml").write_text("name: people-cpu\n")
    assert report.main([str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert "no results are here" in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml", "states"]


def test_a_file_in_place_of_a_folder(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert report.main([str(tmp_path / "file")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_start_that_the_paper_does_not_have_is_a_row_of_its_own(tmp_path):
    name = "<i>mine</i>|&"
    write(tmp_path, "experiments/mine.json", cell("parsing-rgb", name, "10%", 0, {"mIoU": 0.4}))
    more = [
        {
            "task": "parsing-rgb",
            "init": name,
            "labels": "10%",
            "seed": 0,
            "status": "done",
            "result": "experiments/mine.json",
        }
    ]
    parsing_grid(tmp_path, {"hcmoco": [0.3]}, more=more)
    page, markdown = pages(tmp_path)
    assert page.row(2, name, "synthetic")[6] == "40.00"
    assert f"Table 2, 10% Data, mIoU: HCMoCo 30.00, {name} 40.00" in page.text
    assert "| &lt;i&gt;mine&lt;/i&gt;\\|&amp; | synthetic | not run |" in markdown

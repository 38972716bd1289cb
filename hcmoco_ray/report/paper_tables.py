"""Tables 1 to 8 of the paper as data, in %.

Hong et al., "Versatile Multi-Modal Pre-Training for Human-Centric Perception", CVPR 2022.

Rows and columns are in the paper's order. Each row names the encoder initialization here that corresponds to it, and
each group of columns the task and the share of the labels.
"""

from dataclasses import dataclass

SUBJECTS = {
    1: "DensePose",
    2: "RGB parsing",
    3: "Ablation",
    4: "Depth parsing",
    5: "3D pose",
    6: "Other modality",
    7: "Missing modality",
    8: "Other backbones",
}
"""Table number -> a few words on what it compares."""
_PARSING = (("mIoU", "mIoU"), ("mAcc", "mAcc"), ("aAcc", "aAcc"))
_DENSEPOSE = (("BBox AP", "box_ap"), ("GPS AP", "gps_ap"), ("GPSM AP", "gpsm_ap"), ("IoU AP", "mask_ap"))


@dataclass(frozen=True)
class Group:
    """Columns of one experiment.

    Attributes:
        title: as the paper heads them.
        task: the task here, or the experiment of versatility.py; "" if neither exists.
        labels: the shares of the labels here that may be shown in these columns; the first that was run is.
        figures: (the paper's head, name of the metric here) of each column.
        main: index of the column that a summary shows.
        ending: of the names of the initializations here that belong in these columns, where a grid has several of a
            row's; `cmc-points` for the row `cmc`.
    """

    title: str
    task: str
    labels: tuple[str, ...]
    figures: tuple[tuple[str, str], ...]
    main: int = 0
    ending: str = ""


@dataclass(frozen=True)
class Row:
    """A method.

    Attributes:
        method: as the paper names it.
        note: what it was pre-trained on, where the paper says so.
        init: the initialization, or the method of versatility.py, that corresponds to it here; "" if none does.
        compared: whether it is ranked with the paper's HCMoCo on this page.
        values: the paper's, in %; empty if the paper does not have the row.
    """

    method: str
    note: str
    init: str
    compared: bool
    values: tuple[float, ...]


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        program: the program in tuning/ that computes the numbers here; "" if none does.
        note: how the columns here differ.
    """

    number: int
    title: str
    program: str
    groups: tuple[Group, ...]
    rows: tuple[Row, ...]
    note: str = ""


def _rows(text: str) -> tuple[Row, ...]:
    """Parse lines of `method | note | init | compared (yes or no) | numbers`."""
    rows = []
    for line in text.strip().splitlines():
        method, note, init, compared, numbers = (part.strip() for part in line.split("|"))
        rows.append(Row(method, note, init, compared == "yes", tuple(float(each) for each in numbers.split())))
    return tuple(rows)


TABLES = (
    Table(
        1,
        "DensePose Estimation Results on COCO",
        "label_fractions",
        (
            Group("Full Data", "densepose", ("100%",), _DENSEPOSE, main=1),
            Group("10% Data", "densepose", ("10%",), _DENSEPOSE, main=1),
        ),
        _rows("""
            From Scratch |              | scratch  | yes | 57.27 62.03 63.61 65.88 39.38 35.75 41.62 49.92
            CMC* [45]    | NTURGBD+MPII | cmc      | yes | 60.33 64.97 65.66 66.96 44.92 43.84 47.94 54.00
            MMV* [1]     | NTURGBD+MPII | mmv      | yes | 59.89 64.23 65.47 67.03 43.24 41.40 45.99 52.52
            Ours*        | NTURGBD+MPII | hcmoco   | yes | 61.33 65.89 66.92 67.66 47.76 48.47 51.65 56.15
            IN Pre-train |              | imagenet | no  | 62.66 66.48 67.42 68.63 48.28 44.34 49.11 56.11
            CMC† [45]    | NTURGBD+MPII |          | no  | 62.76 66.16 67.30 68.06 49.21 48.82 52.57 57.94
            MMV† [1]     | NTURGBD+MPII |          | no  | 62.97 66.67 67.51 68.29 50.16 50.28 53.54 58.32
            Ours†        | NTURGBD+MPII |          | no  | 63.11 67.33 68.12 68.72 50.29 51.50 54.47 58.66
            CMC† [45]    | NTURGBD+COCO |          | no  | 63.58 67.22 67.77 68.46 51.77 53.53 56.18 59.37
            Ours†        | NTURGBD+COCO |          | no  | 62.95 67.77 68.29 68.63 52.18 54.01 56.64 59.93
        """),
        "* random weights before pre-training, as here; † ImageNet weights before pre-training.",
    ),
    Table(
        2,
        "Human Parsing Results on Human3.6M (RGB)",
        "label_fractions",
        (
            Group("Full Data", "parsing-rgb", ("100%",), _PARSING),
            Group("20% Data", "parsing-rgb", ("20%",), _PARSING),
            Group("10% Data", "parsing-rgb", ("10%",), _PARSING),
            Group("1% Data", "parsing-rgb", ("1%",), _PARSING),
        ),
        _rows("""
            From Scratch | | scratch  | yes | 44.13 58.88 98.82 42.41 56.25 98.81 32.61 43.76 98.52  7.27 10.97 97.45
            CMC* [45]    | | cmc      | yes | 54.33 68.01 99.09 52.10 65.65 99.03 48.37 61.18 98.95 14.61 20.07 98.07
            MMV* [1]     | | mmv      | yes | 52.69 65.82 99.06 50.66 63.55 99.01 46.23 58.52 98.90 12.86 17.10 97.94
            Ours*        | | hcmoco   | yes | 61.36 75.09 99.25 59.17 73.44 99.19 57.08 71.75 99.13 16.55 22.27 98.18
            IN Pre-train | | imagenet | no  | 56.90 69.94 99.14 48.86 60.75 98.97 44.55 56.86 98.87 14.65 20.22 98.09
            CMC† [45]    | |          | no  | 58.93 71.70 99.20 57.41 70.13 99.17 54.35 67.47 99.09 17.77 23.77 98.20
            MMV† [1]     | |          | no  | 59.08 71.57 99.20 57.28 69.69 99.17 53.86 66.46 99.08 17.66 23.54 98.20
            Ours†        | |          | no  | 62.50 75.84 99.27 60.85 74.23 99.23 58.28 71.99 99.17 20.78 27.52 98.34
        """),
        "* random weights before pre-training, as here; † ImageNet weights before pre-training.",
    ),
    Table(
        3,
        "Ablation Study on DensePose, ITOP, Human3.6M and NTURGBD-Parsing-4K",
        "ablation",
        (
            Group(
                "DensePose 10%",
                "densepose",
                ("10%",),
                tuple((head.removesuffix(" AP"), name) for head, name in _DENSEPOSE),
                main=1,
            ),
            Group("ITOP 0.2%", "pose", ("35 samples", "itop-0.2%"), (("Acc", "acc_10cm"),)),
            Group("ITOP 0.1%", "pose", ("17 samples", "itop-0.1%"), (("Acc", "acc_10cm"),)),
            Group("Human3.6M 10%", "parsing-rgb", ("10%",), _PARSING[:2]),
            Group("NTURGBD 20%", "parsing-depth", ("20%", "10%"), _PARSING[:2]),
        ),
        _rows("""
            Sample-level Mod-invariant | | cmc    | yes | 49.21 48.82 52.57 57.94 57.73 50.08 54.35 67.47 30.40 51.54
            + Hard Dense Intra-sample  | | hard   | yes | 49.40 49.14 52.49 57.30 56.43 54.05 55.36 68.43 31.26 51.54
            + Soft Dense Intra-sample  | | soft   | yes | 50.21 50.25 53.42 57.70 62.33 51.50 56.35 69.26 32.20 51.06
            + Sparse Structure-aware   | | hcmoco | yes | 50.29 51.50 54.47 58.66 65.83 62.36 58.28 71.99 35.01 52.55
        """),
        "Each line adds a term to the one above; the last is HCMoCo. The paper heads the ITOP columns 0.1%/0.2%; by "
        "its "
        "Table 5 they are in the order shown here. 0.1% of ITOP are 17 samples. The paper's rows start from ImageNet "
        "weights, those here from random ones.",
    ),
    Table(
        4,
        "Human Parsing Results on NTURGBD-Parsing-4K (depth)",
        "label_fractions",
        (
            Group("Full Data", "parsing-depth", ("100%",), _PARSING),
            Group("20% Data", "parsing-depth", ("20%",), _PARSING),
        ),
        _rows("""
            From Scratch | | scratch  | no  |
            IN Pre-train | | imagenet | yes | 37.49 57.52 98.36 28.56 46.81 98.10
            CMC [45]     | | cmc      | yes | 38.20 58.73 98.39 30.40 51.54 98.02
            MMV [1]      | | mmv      | yes | 38.09 58.49 98.37 30.41 50.62 98.07
            Ours         | | hcmoco   | yes | 39.32 58.79 98.47 35.01 52.55 98.53
        """),
        "The paper does not have the row From Scratch; its other rows start from ImageNet weights, those here from "
        "random ones.",
    ),
    Table(
        5,
        "3D Pose Estimation Results on ITOP (depth): share of joints within 10 cm",
        "label_fractions",
        (
            Group("100%", "pose", ("100%",), (("Acc", "acc_10cm"),)),
            Group("10%", "pose", ("10%", "itop-10%"), (("Acc", "acc_10cm"),)),
            Group("1%", "pose", ("1%", "itop-1%"), (("Acc", "acc_10cm"),)),
            Group("0.5%", "pose", ("0.5%", "itop-0.5%"), (("Acc", "acc_10cm"),)),
            Group("0.2%", "pose", ("35 samples", "itop-0.2%"), (("Acc", "acc_10cm"),)),
            Group("0.1%", "pose", ("17 samples", "itop-0.1%"), (("Acc", "acc_10cm"),)),
        ),
        _rows("""
            From Scratch | | scratch  | no  |
            IN Pre-train | | imagenet | yes | 85.19 83.44 77.20 54.31 13.27 14.21
            CMC [45]     | | cmc      | yes | 87.08 85.36 79.49 75.07 57.73 50.08
            MMV [1]      | | mmv      | yes | 86.13 83.49 79.70 71.70 60.83 54.44
            Ours         | | hcmoco   | yes | 87.19 85.49 78.71 76.34 65.83 62.36
        """),
        "0.1% of ITOP are 17 samples. The paper does not have the row From Scratch; its other rows start from ImageNet "
        "weights, those here from random ones.",
    ),
    Table(
        6,
        "Cross-Modality Supervised Human Parsing Results on NTURGBD-Parsing-4K",
        "versatility",
        (
            Group("RGB → Depth", "rgb-to-depth", (), tuple((head, f"depth/{name}") for head, name in _PARSING)),
            Group("Depth → RGB", "depth-to-rgb", (), tuple((head, f"rgb/{name}") for head, name in _PARSING)),
        ),
        _rows("""
            No Contrastive | | none   | yes |  3.94  4.36 92.24  3.71  4.03 91.63
            CMC [45]       | | cmc    | yes |  3.86  5.59 86.81  3.85  4.27 91.75
            Ours           | | hcmoco | yes | 33.19 54.38 94.70 26.80 48.80 92.84
        """),
        "The head is trained on the first modality and tested on the second, whose labeled images are not seen in "
        "training.",
    ),
    Table(
        7,
        "Missing-Modality Human Parsing Results on NTURGBD-Parsing-4K",
        "versatility",
        (
            Group("Only RGB", "missing-modality", (), tuple((head, f"rgb/{name}") for head, name in _PARSING)),
            Group("Only Depth", "missing-modality", (), tuple((head, f"depth/{name}") for head, name in _PARSING)),
        ),
        _rows("""
            No Contrastive | | none   | yes | 13.45 14.77 93.35 24.41 30.49 95.27
            CMC [45]       | | cmc    | yes | 19.62 28.19 92.94 16.58 19.83 93.94
            Ours           | | hcmoco | yes | 43.88 64.27 96.15 43.98 63.66 96.34
        """),
        "The head is trained on the maximum of both modalities' features and tested on one modality.",
    ),
    Table(
        8,
        "Experiments on Changing the Backbone: DensePose (HRNet-W32) and NTURGBD 20% (PointNet++)",
        "backbones",
        (
            Group(
                "DensePose 10%",
                "densepose",
                ("10%",),
                tuple((head.removesuffix(" AP"), name) for head, name in _DENSEPOSE),
                main=1,
            ),
            Group("NTURGBD 20%", "parsing-depth", ("20%", "10%"), _PARSING[:2], ending="-points"),
        ),
        _rows("""
            *        | | scratch | yes | 55.10 54.60 57.60 61.73 45.36 59.51
            CMC [45] | | cmc     | yes | 53.88 54.62 57.46 61.14 48.74 62.94
            Ours     | | hcmoco  | yes | 54.55 55.80 58.36 61.75 49.43 63.52
        """),
        "* IN Pre-train for DensePose, From Scratch for NTURGBD; here From Scratch. The paper's other rows of "
        "DensePose start from ImageNet weights, those here from random ones. Which backbone of DensePose it is here, "
        "the grid of backbones.py says; depth is read as points here, too.",
    ),
)

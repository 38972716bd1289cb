"""The card says what the manifest says, in words."""

import numpy as np

from hcmoco.data.schema import Person
from hcmoco.data.shards.dataset_card import CARD
from hcmoco.data.shards.manifest import About, Provenance
from hcmoco.data.shards.writer import finish, write_part
from hcmoco.data.skeletons import joint_set
from hcmoco.storage import Folder

ABOUT = About(
    dataset="clips",
    joints="coco-17",
    size=8,
    license="research only",
    page="https://example.org/clips",
    provenance=Provenance(
        program="pipelines/prepare.py", arguments={"source": "clips", "pattern": "a|b"}, version="1.0"
    ),
)


def test_a_card_adds_up(tmp_path):
    people = [
        Person(
            id=f"clips/{k}",
            dataset="clips",
            split="train",
            size=8,
            keypoints=np.ones((len(joint_set("coco-17")), 3), np.float32),
        )
        for k in range(3)
    ]
    rejected = [("clips/7", "'a.avi' is cut short after 7 frames"), ("clips/8", "'b.avi' is cut short after 12 frames")]
    folder = Folder(str(tmp_path))
    parts = [
        write_part(folder, 0, ABOUT, people[:2], first_index=0, rejected=rejected[:1], skipped={"no body": 4}),
        write_part(
            folder, 1, ABOUT, people[2:], first_index=2, rejected=rejected[1:], skipped={"two bodies": 1, "no body": 1}
        ),
    ]
    manifest = finish(
        folder,
        ABOUT,
        parts,
        {"S001C002": {"residual": 0.123456, "clips": 2}, "S001C001": {"residual": 2.0, "clips": 9}},
    )
    assert manifest.skipped == {"no body": 5, "two bodies": 1}
    text = (tmp_path / CARD).read_text()
    assert "Of 11 records that were read, 3 are rows." in text
    for line in (
        "| license and terms | research only |",
        "| source | https://example.org/clips |",
        "| rows with | keypoints 3 |",
        "| 5 | skipped: no body |",
        "| 1 | skipped: two bodies |",
        "| 2 | rejected, such as: 'a.avi' is cut short after 7 frames |",
        "| pattern | a\\|b |",
        "|  | residual | clips |",
        "| S001C001 | 2 | 9 |",
        "| S001C002 | 0.1235 | 2 |",
        "rejected.jsonl lists every rejected record with its reason.",
    ):
        assert line in text.splitlines()


def test_a_card_without_terms_says_so(tmp_path):
    about = ABOUT.model_copy(update={"license": "", "page": ""})
    person = Person(id="clips/0", dataset="clips", split="train", size=8, keypoints=[[1, 1, 1]] * 17)
    finish(Folder(str(tmp_path)), about, [write_part(Folder(str(tmp_path)), 0, about, [person], first_index=0)])
    text = (tmp_path / CARD).read_text()
    assert "| license and terms | not stated" in text
    assert "source |" not in text.split("##")[0]
    assert "What is not in it" not in text

"""The program on a few synthetic people: what it writes is what `hcmoco.load(...).embed` returns."""

import io
import json
import re
import uuid
from contextlib import redirect_stdout

import numpy as np
import pyarrow.parquet as pq
import pytest

import hcmoco
from hcmoco.data.codecs import decode_depth, decode_rgb, encode_png
from hcmoco.data.shards.manifest import About, Provenance
from hcmoco.data.shards.writer import write_shards
from hcmoco.embedding.table import EmbeddingSet, to_numpy
from hcmoco.storage import Folder, join
from hcmoco.synthetic import DEPTH_CODEC, PeopleConfig, make_person
from hcmoco_ray.commands.embed import main
from tests.helpers.called import Called

SIDE, SIZE = 80, 64
CONFIG = PeopleConfig(size=SIDE, seed=5)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Twelve people in files of 5; some lack RGB, depth or keypoints."""
    folder = tmp_path_factory.mktemp("data") / "people"
    people = [make_person(CONFIG, number, dataset="people", split="train") for number in range(12)]
    for number in (1, 2):
        people[number].rgb = None
    people[3].depth = None
    people[4].keypoints = None
    people[5].keypoints[:, 2] = 0
    about = {"joints": "people-31", "joints3d": "people-31", "depth_codec": DEPTH_CODEC, "depth_masking": "masked"}
    write_shards(
        str(folder),
        people,
        About(dataset="people", size=SIDE, provenance=Provenance(program="tests"), **about),
        part_rows=5,
    )
    return folder


@pytest.fixture
def embed(tmp_path, capsys, ray_session):
    def call(*arguments, out="out") -> Called:
        capsys.readouterr()
        status = main([*map(str, arguments), f"--out={tmp_path / out}"])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return Called(status, said.out, said.err, tmp_path / out)

    return call


OPTIONS = (f"--size={SIZE}", "--joints", "--dense", "--batch=4")


@pytest.fixture(scope="module")
def embedded(data, tmp_path_factory, ray_session):
    """The people embedded, once for all tests; none changes the folder."""
    out, said = tmp_path_factory.mktemp("embedded") / "e", io.StringIO()
    with redirect_stdout(said):
        status = main(["people-small", str(data), *OPTIONS, f"--out={out}"])
    return Called(status, said.getvalue(), "", out)


def error(called: Called) -> str:
    assert called.status == 2, called
    (line,) = re.findall(r"^error: (.*)$", called.err, re.MULTILINE)
    return line


def test_rows_are_what_the_model_embeds(embedded, data):
    done = embedded
    assert done.status == 0
    assert "12 people (10 with rgb, 11 with depth, 10 with keypoints) in 1 files" in done.out
    assert sorted(each.name for each in done.folder.iterdir()) == [
        "features.png",
        "manifest.json",
        "part-00000.parquet",
    ]
    embeddings = EmbeddingSet.open(str(done.folder))
    manifest = embeddings.manifest
    table = pq.read_table(done.folder / "part-00000.parquet")
    rows = [row for file in sorted(data.glob("*.parquet")) for row in pq.read_table(file).to_pylist()]
    assert table["id"].to_pylist() == [row["id"] for row in rows]
    assert table["index"].to_pylist() == list(range(12))
    model = hcmoco.load("people-small")
    columns = {name: to_numpy(table[name], shape).astype(np.float32) for name, shape in manifest.shapes.items()}
    for number, row in enumerate(rows):
        given = {}
        if row["rgb"]:
            given["rgb"] = model.crop(decode_rgb(row["rgb"]), row["box"], size=SIZE)[None]
        if row["depth"]:
            given["depth"] = model.crop(decode_depth(row["depth"], DEPTH_CODEC), row["box"], size=SIZE)[None]
        keypoints = None if row["keypoints"] is None else np.asarray(row["keypoints"], np.float32).reshape(-1, 3)
        if keypoints is not None and (keypoints[:, 2] > 0).any():
            given["keypoints"] = model.crop_keypoints(keypoints, (SIDE, SIDE), row["box"], size=SIZE)[None]
        found = model.embed(**given, joint_set="people-31")
        for name in ("rgb", "depth", "keypoints"):
            assert table[f"has_{name}"][number].as_py() == (name in given)
            for part, ending in (("pooled", ""), ("joints", "_joints"), ("dense", "_dense")):
                column = columns.get(name + ending)
                wanted = getattr(getattr(found, name), part) if name in given else None
                if column is not None:
                    wanted = np.zeros(column.shape[1:]) if wanted is None else wanted[0].numpy()
                    assert np.abs(column[number] - wanted).max() < 2e-3, (row["id"], name, part)
    seen = to_numpy(table["joints_visible"], (16,))
    assert np.array_equal(np.abs(columns["keypoints_joints"]).sum(-1) > 0, seen)
    assert manifest.joints == model.joints
    assert manifest.weights["name"] == "people-small"


def test_a_finished_folder(embed, embedded, data):
    kept = {path.name: path.stat().st_mtime_ns for path in embedded.folder.iterdir()}
    again = embed("people-small", data, *OPTIONS, out=embedded.folder)
    assert (again.status, "already embedded, 12 people in 1 files" in again.out) == (0, True)
    other = error(embed("people-small", data, f"--size={SIZE}", "--joints", "--batch=4", out=embedded.folder))
    assert "already holds embeddings with dense = True, and dense = False is requested" in other
    assert kept == {path.name: path.stat().st_mtime_ns for path in embedded.folder.iterdir()}


def test_who_is_nearest(embed, embedded, data):
    embeddings = embedded.folder
    done = embed("--nearest", f"{embeddings}:rgb", f"{embeddings}:depth", out="matches")
    assert done.status == 0, done.err
    assert "10 queries among 11, same id" in done.out
    results = json.loads((done.folder / "results.json").read_text())
    assert results["recall@1"]["chance"] == pytest.approx(1 / 11)
    assert results["median_rank"]["chance"] == 6
    table = pq.read_table(done.folder / "matches.parquet")
    share = np.mean([row["rank"] == 1 for row in table.to_pylist() if row["rank"] is not None])
    assert results["recall@1"]["found"] == pytest.approx(share)
    assert share > 3 / 11
    for row in table.to_pylist():
        assert row["distances"] == sorted(row["distances"])
        assert row["rank"] != 1 or row["nearest"][0] == row["right"] == row["query"]
    assert (done.folder / "matches.png").stat().st_size > 10_000
    assert embed("--nearest", f"{embeddings}:keypoints", f"{embeddings}:rgb", out="matches").status == 0
    assert "no earlier matches" in error(embed("--nearest", f"{embeddings}:rgb", f"{embeddings}:depth", out=embeddings))
    assert "colon" in error(embed("--nearest", embeddings, f"{embeddings}:depth", out="m"))
    assert "embed first" in error(embed("people-small", data, "--nearest", "a:rgb", "b:rgb", out="m"))
    assert "holds embeddings" in error(embed("people-small", embeddings, out="m"))


def test_a_folder_of_pictures(embed, tmp_path):
    pictures = tmp_path / "photos"
    pictures.mkdir()
    person = make_person(CONFIG, 3, dataset="people", split="train")
    rgb = decode_rgb(person.rgb)
    for name in ("a", "b"):
        (pictures / f"{name}.png").write_bytes(encode_png(rgb))
    (pictures / "damaged.png").write_bytes(encode_png(rgb)[:-40])
    (pictures / "notes.txt").write_text("")
    x0, y0, x1, y1 = (float(each) for each in person.box)
    boxes = tmp_path / "boxes.jsonl"
    boxes.write_text(
        "".join(json.dumps({"image": f"{n}.png", "box": [x0, y0, x1, y1]}) + "\n" for n in ("a", "damaged"))
    )
    done = embed("people-small", pictures, f"--boxes={boxes}", f"--size={SIZE}")
    assert done.status == 0, done.err
    assert "passed over: files of .txt: 1" in done.out
    assert "1 people (1 with rgb) in 1 files" in done.out
    assert "2 rejected" in done.out
    reasons = {line["id"]: line["reason"] for line in map(json.loads, (done.folder / "rejected.jsonl").open())}
    assert reasons["photos/b.png"] == "the file of boxes has none for it"
    assert set(reasons) == {"photos/b.png", "photos/damaged.png"}
    model = hcmoco.load("people-small")
    table = pq.read_table(done.folder / "part-00000.parquet")
    assert table["source"].to_pylist() == ["a.png"]
    wanted = model.embed(rgb=model.crop(rgb, person.box, size=SIZE)).rgb.pooled[0].numpy()
    assert to_numpy(table["rgb"], (128,))[0].astype(np.float32) @ wanted > 0.99  # stored as JPEG on the way


@pytest.mark.slow
def test_everything_in_a_store(embed, data, s3):
    root = s3.uri(f"bucket/{uuid.uuid4().hex}")
    for path in data.iterdir():
        Folder(join(root, "people")).write(path.name, path.read_bytes())
    assert main(["people-small", join(root, "people"), f"--out={join(root, 'e')}", f"--size={SIZE}"]) == 0
    there, here = Folder(join(root, "e")), embed("people-small", data, f"--size={SIZE}").folder
    assert sorted(there.sizes()) == sorted(each.name for each in here.iterdir())
    assert not there.folders()
    for name in ("part-00000.parquet", "features.png"):
        assert there.read(name) == (here / name).read_bytes()
    sides = [f"{join(root, 'e')}:{name}" for name in ("rgb", "depth")]
    assert main(["--nearest", *sides, f"--out={join(root, 'm')}"]) == 0
    assert set(Folder(join(root, "m")).sizes()) == {"matches.parquet", "matches.png", "results.json"}


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--modalities=rgb,dept"], "must be some of rgb,depth,keypoints"),
        (["--size=100"], "must be a multiple of 32, such as 96"),
        (["--size=0"], "must be a multiple of 32"),
        (["--workers=0"], "must be at least 1"),
        (["--cpus=0"], "must be more than 0"),
        (["--boxes=b.jsonl"], "--boxes counts only with a folder of pictures"),
        (["--mask=rows", "--min-person-score=2"], "must be from"),
        (["--gpus=1"], "asks for 1 CPU and 1 GPU of one node"),
        (["--people-shown=99"], "must be from 0 to 16"),
    ],
)
def test_options_that_are_refused(embed, data, options, line):
    done = embed("people-small", data, *options)
    assert line in error(done)
    assert not done.folder.exists()


def test_what_is_not_there(embed, data, tmp_path):
    assert "does not exist" in error(embed("people-small", tmp_path / "nothing"))
    assert "no export is there" in error(embed(tmp_path / "nothing", data))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    assert "is not empty and holds no embeddings" in error(embed("people-small", data))
    assert "holds something else" in error(embed("people-small", data, out=data))
    assert "WEIGHTS and DATA are missing" in error(embed(out="x"))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"rgb":', "is not valid JSON"),
        ('{"rgb": "a.png", "bbox": [1, 2, 30, 40]}', "unknown key 'bbox'"),
        ('{"rgb": "gone.png", "box": [10, 20, 90, 140]}', "gone.png' does not exist"),
        ('{"rgb": "a.png", "box": [0.1, 0.2, 0.6, 0.9]}', "most probably shares of the picture"),
    ],
)
def test_where_nobody_can_be_read_the_first_reason_is_told(embed, tmp_path, line, said):
    """RGB alone is enough: nothing that concerns depth is set for it."""
    folder = tmp_path / "people"
    folder.mkdir()
    (folder / "a.png").write_bytes(encode_png(np.zeros((160, 120, 3), np.uint8)))
    (folder / "people.jsonl").write_text(f"{line}\n")
    assert said in error(embed("people-small", str(folder)))

"""A fine-tuned model in MLflow's hands: it predicts what predict.py predicts, without Ray, and refuses in one line."""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import cv2
import numpy as np
import pandas
import psutil
import pytest

from hcmoco.finetuning.saved_model import load_model
from hcmoco.synthetic import PeopleConfig, make_person
from hcmoco_ray.commands.predict import main
from hcmoco_ray.tracking import pyfunc
from hcmoco_ray.tracking.mlflow_models import _save
from hcmoco_ray.tracking.records import SHA256, LoggedModel, Pyfunc
from tests.helpers.drawn_models import CONFIGS, write_models
from tests.helpers.free_port import free_port
from tests.helpers.waiting import wait_until

ROOT = Path(__file__).parents[3]
CAMERA, BOX = [80, 80.0, 48, 48], [30, 10, 70, 90]
KINDS = {"parsing-rgb": "rgb", "parsing-depth": "depth", "pose": "depth", "densepose": "rgb"}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def person():
    return make_person(PeopleConfig(size=96, seed=4), 2, dataset="people", split="train")


@pytest.fixture(scope="module")
def saved(models, tmp_path_factory):
    """Saves a task's model as MLflow has it; returns its folder."""
    folder, written = tmp_path_factory.mktemp("saved"), {}

    def get(name: str) -> Path:
        if name not in written:
            task = load_model(str(models / name)).task()
            reference = pyfunc.make_reference(str(models / name), name, copied=False)
            loadable = Pyfunc(reference, pyfunc.interface(task), pyfunc.example(task), ("hcmoco",))
            _save(folder / name, LoggedModel(name, name, 1, {}, {SHA256: ""}, pyfunc=loadable), "m-1", "r-1")
            written[name] = folder / name
        return written[name]

    return get


@pytest.fixture(scope="module")
def loaded(saved):
    import mlflow

    held = {}
    return lambda name: held.setdefault(name, mlflow.pyfunc.load_model(str(saved(name))))


def needed(name: str) -> dict:
    """What a row of a task cannot be without."""
    return {"camera": CAMERA} if name == "pose" else {}


def pixels_of(person, name: str) -> np.ndarray:
    if KINDS[name] == "depth":
        return cv2.imdecode(np.frombuffer(person.depth, np.uint8), cv2.IMREAD_UNCHANGED)
    return cv2.imdecode(np.frombuffer(person.rgb, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


@pytest.mark.parametrize("name", CONFIGS)
def test_it_predicts_what_predict_predicts(loaded, models, person, tmp_path, name):
    boxes = {} if name == "densepose" else {"boxes": [BOX]}
    file = tmp_path / "pictures" / ("a.png" if KINDS[name] == "depth" else "a.jpg")
    file.parent.mkdir()
    file.write_bytes(getattr(person, KINDS[name]))
    (tmp_path / "boxes.jsonl").write_text(json.dumps({"image": file.name, "box": BOX}))
    options = ["--camera", ",".join(map(str, CAMERA))] if name == "pose" else []
    options += [] if name == "densepose" else ["--boxes", str(tmp_path / "boxes.jsonl")]
    options += ["--min-score", "0.01"] if name == "densepose" else []
    out = tmp_path / "out"
    given = [str(file.parent), f"--weights={models / name}", f"--out={out}", "--device=cpu", "--threads=1", *options]
    assert main(given) == 0
    (line,) = [json.loads(each) for each in (out / "predictions.jsonl").read_text().splitlines()]

    rows = [{key: value, **boxes, **needed(name)} for key, value in (
        ("path", str(file)), ("image", file.read_bytes()), ("pixels", pixels_of(person, name))
    )]  # fmt: skip
    params = {"min_score": 0.01} if name == "densepose" else None
    table = loaded(name).predict(pandas.DataFrame(rows, index=["x", "y", "z"]), params=params)
    assert list(table.index) == ["x", "y", "z"]
    assert table["error"].tolist() == [None] * 3
    for _, row in table.iterrows():
        assert (row["width"], row["height"]) == (line["width"], line["height"])
        assert len(row["people"]) == len(line["people"]) > 0
        for own, theirs in zip(row["people"], line["people"], strict=True):
            files = {key: (out / value).read_bytes() for key, value in theirs.items() if key in ("parts", "iuv")}
            assert own == theirs | files


@pytest.mark.parametrize("name", CONFIGS)
def test_its_example_is_predicted(loaded, name):
    model = loaded(name)
    (row,) = model.predict(model.input_example).to_dict("records")
    assert (row["error"], row["warning"], row["width"]) == (None, None, 96)


@pytest.mark.parametrize(
    ("name", "row", "words"),
    [
        ("parsing-rgb", {"boxes": [BOX]}, "give a column with the pictures: one of path, image, pixels"),
        ("parsing-rgb", {"path": "a.jpg", "image": b"x"}, "row 0: .* it has path and image"),
        ("parsing-rgb", {"path": "a.jpg", "boxes": [[0.1, 0.1, 0.5, 0.9]]}, "most probably of shares of the picture"),
        ("parsing-rgb", {"path": "a.jpg", "boxes": [[30, 40, 20, 10]]}, "x0 < x1 and y0 < y1"),
        ("parsing-rgb", {"path": "a.jpg", "boxes": [[30, 40, 20]]}, "row 0: boxes: four numbers are needed"),
        ("parsing-rgb", {"path": "a.jpg", "boxes": [30, 10, 70, 90]}, r"give \[\[30, 10, 70, 90\]\] in place of"),
        ("parsing-rgb", {"path": "a.jpg", "boxes": []}, "boxes is empty: drop the row"),
        ("parsing-rgb", {"pixels": np.zeros((20, 20), np.uint8)}, r"must be RGB, uint8 \[H, W, 3\]"),
        ("parsing-rgb", {"pixels": np.zeros((20, 20, 3), np.float32)}, "it is float32"),
        ("parsing-depth", {"pixels": np.zeros((20, 20, 3), np.uint8)}, r"must be depth \[H, W\]"),
        ("pose", {"path": "a.png", "camera": [0, 0, 9, 9]}, "fx and fy must be above 0"),
        ("pose", {"path": "a.png", "camera": [9, 9, 9]}, "row 0: camera: four numbers are needed"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(loaded, name, row, words):
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException, match=words) as caught:
        loaded(name).predict(pandas.DataFrame([row]))
    assert "\n" not in str(caught.value)


def test_depth_has_a_unit_and_a_wrong_one_is_the_row_s_error(loaded, person):
    depth_HW = pixels_of(person, "parsing-depth")
    rows = pandas.DataFrame([{"pixels": depth_HW, "boxes": [BOX]}, {"pixels": depth_HW / 1000, "boxes": [BOX]}])
    whole, meters = loaded("parsing-depth").predict(rows)["people"]  # whole numbers are mm, floating point is m
    assert whole == meters
    (error,) = loaded("parsing-depth").predict(rows[:1], params={"depth_unit": "cm"})["error"]
    assert error.endswith("set the parameter depth_unit to mm")
    with pytest.raises(Exception, match="depth_unit = 'inch': must be a unit of depth"):
        loaded("parsing-depth").predict(rows, params={"depth_unit": "inch"})


def test_a_bad_picture_is_an_error_in_its_row_alone(loaded, person):
    rows = [{"image": person.rgb}, {"image": person.rgb[:200]}, {"path": "/nowhere.jpg"}, {"pixels": [[[300, 0, 0]]]}]
    with pytest.raises(Exception, match="row 3: pixels must be RGB"):
        loaded("parsing-rgb").predict(rows)
    good, cut, missing = loaded("parsing-rgb").predict(rows[:3]).to_dict("records")
    assert (good["error"], good["people"][0]["box_from"]) == (None, "none")
    assert "truncated" in cut["error"] or "damaged" in cut["error"] or "not" in cut["error"]
    assert (missing["error"], missing["people"], missing["width"]) == ("it does not exist", [], None)


def test_a_model_of_masked_depth_warns_of_a_background(models, person, tmp_path):
    folder = Path(shutil.copytree(models / "parsing-depth", tmp_path / "masked"))
    facts = json.loads((folder / "config.json").read_text())
    facts["about"]["depth_masking"] = "masked"
    (folder / "config.json").write_text(json.dumps(facts))
    (tmp_path / "reference.json").write_text(
        json.dumps(pyfunc.make_reference(str(folder), "parsing-depth", copied=False))
    )
    room = make_person(PeopleConfig(size=96, seed=4, masked_depth=False), 2, dataset="people", split="train")
    model = pyfunc.PyfuncModel(str(tmp_path))
    alone, in_room = model.predict([{"image": person.depth}, {"image": room.depth}])["warning"]
    assert alone is None
    assert in_room.startswith("warning: the model was trained on depth that is masked to the person")


def test_weights_that_were_replaced_are_refused(models, tmp_path):
    folder = Path(shutil.copytree(models / "parsing-rgb", tmp_path / "model"))
    reference = pyfunc.make_reference(str(folder), "parsing-rgb", copied=False)
    (tmp_path / "reference.json").write_text(json.dumps(reference))
    assert pyfunc._load_pyfunc(str(tmp_path))
    (folder / "config.json").write_bytes((folder / "config.json").read_bytes() + b" ")
    with pytest.raises(Exception, match=r"config.json is not what was logged: another model lies there now"):
        pyfunc._load_pyfunc(str(tmp_path))


@pytest.mark.slow
def test_it_is_loaded_where_there_is_no_ray(saved, person, tmp_path):
    (tmp_path / "a.jpg").write_bytes(person.rgb)
    program = """
import sys

class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "ray":
            raise ImportError(f"imports {name}")

sys.meta_path.insert(0, Refused())
import mlflow
model = mlflow.pyfunc.load_model(sys.argv[1])
print(len(model.predict([{"path": sys.argv[2]}])["people"][0]))
"""
    command = [sys.executable, "-c", program, str(saved("parsing-rgb")), str(tmp_path / "a.jpg")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_DISABLE_TELEMETRY": "true"}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "1"


def test_the_page_s_code_predicts(saved, person, tmp_path, monkeypatch, capsys):
    """The first code of docs/mlflow.md, with a model in place of MODEL."""
    code = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "mlflow.md").read_text(), re.DOTALL)[0]
    assert "models:/MODEL" in code
    monkeypatch.chdir(tmp_path)
    for name in ("anna", "ben"):
        Path(f"{name}.jpg").write_bytes(person.rgb)
    exec(code.replace("models:/MODEL", str(saved("parsing-rgb"))), {})
    assert capsys.readouterr().out.splitlines() == ["['given']", "['none']"]


@pytest.mark.long
@pytest.mark.slow
def test_models_serve_answers_with_what_it_predicts(saved, loaded, person, tmp_path):
    """The command that people type, and HTTP."""
    port = free_port("127.0.0.1")
    command = ["-m", "mlflow", "models", "serve", "-m", str(saved("parsing-rgb")), "--env-manager", "local"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # as where the environment is active
    where = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, *command, *where],
            stdout=log,
            stderr=log,
            cwd=tmp_path,
            env=environment,
            start_new_session=True,
        )

    def ask(rows: list[dict]) -> tuple[int, dict]:
        content = json.dumps({"dataframe_records": rows}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{port}/invocations", content, headers)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=300) as reply:
                return reply.status, json.load(reply)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def answers() -> bool:
        try:
            ask([])
        except OSError:
            return False
        return True

    try:
        wait_until(answers, server, pause=0.5)
        sent = [{"image": base64.b64encode(person.rgb).decode(), "boxes": [BOX]}]
        status, answer = ask(sent)
        assert status == 200, answer
        (row,) = answer["predictions"]
        (expected,) = loaded("parsing-rgb").predict([{"image": person.rgb, "boxes": [BOX]}]).to_dict("records")
        parts = base64.b64decode(row["people"][0].pop("parts"))
        assert parts == expected["people"][0].pop("parts")
        assert row == expected
        status, answer = ask([{"image": sent[0]["image"], "boxes": [[0.1, 0.1, 0.4, 0.9]]}])
        assert status == 400
        assert "most probably of shares of the picture" in answer["message"]
        assert "Traceback" not in json.dumps(answer)
    finally:
        if server.poll() is None:
            for process in [*psutil.Process(server.pid).children(recursive=True), server]:
                process.kill()
        server.wait()

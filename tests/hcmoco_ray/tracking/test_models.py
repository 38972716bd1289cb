"""Weights as logged models, data sets as inputs and versions of registered models, in a real store: SQLite."""

import json
import shutil
from pathlib import Path

import pytest

from hcmoco.errors import UserError
from hcmoco.export import load_export
from hcmoco.finetuning.saved_model import load_model
from hcmoco.license_terms import SYNTHETIC
from hcmoco.storage import Folder
from hcmoco.training.config import SourceConfig
from hcmoco_ray.tracking.client import open_writer, start_run
from hcmoco_ray.tracking.config import TrackingConfig
from hcmoco_ray.tracking.data_sets import describe, describe_mixture
from hcmoco_ray.tracking.weights import export_model, fine_tuned_model, model_name
from tests.helpers import finetune_program
from tests.helpers.drawn_models import write_models
from tests.helpers.free_port import free_port
from tests.helpers.local_pretraining import write_blobs

TRAINING = {"recipe": "people: a/b", "steps": 6, "seed": 3, "terms": [{"name": "people", "terms": SYNTHETIC}]}


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return write_blobs(folder, "room", 5), write_blobs(folder, "street", 4, depth_of=(False,))


@pytest.fixture
def writer(out):
    return open_writer(TrackingConfig(), out, actor=False)


def encoders(folder: Path, seed: int = 0) -> str:
    return finetune_program.export(folder / f"export-{seed}", seed=seed)


def exported(folder: str, data, **more):
    settings = {"metrics": ["probe/a", "probe/b", "probe/old"], "held_out": data[1], **more}
    return export_model(folder, load_export(folder).model, TRAINING, **settings)


def models_of(writer, run_id: str):
    found = writer.client.search_logged_models([writer.experiment_id], max_results=100)
    return [each for each in found if each.source_run_id == run_id]


def test_an_export_is_an_external_model_with_the_points_of_its_probes(writer, out, data, tmp_path):
    from mlflow.pyfunc import load_model as load_pyfunc

    folder = encoders(tmp_path)
    run = start_run(writer)
    run.inputs(describe_mixture({"a": SourceConfig(path="a", weight=3)}, data[:1], data[1]))
    run.metrics(3, {"probe/old": 1.0, "probe/a": 10.0})
    run.metrics(6, {"probe/a": 12.5, "probe/b": float("nan"), "train/loss": 0.5})
    run.model(exported(folder, data))
    run.finish()

    (model,) = models_of(writer, run.run_id)
    assert (model.status, model.model_type, model.name) == ("READY", "encoders", "people- a-b")
    assert model.params["rgb.name"] == "test_resnet"
    assert model.params | {"recipe": "people: a/b", "steps": "6", "seed": "3", "embedding": "16"} == model.params
    assert model.tags["hcmoco.uri"] == folder
    assert model.tags["hcmoco.sha256"] == Folder(folder).sha256("config.json")
    assert model.tags["hcmoco.license"] == "apache-2.0"
    assert model.tags["hcmoco.recipe"] == "people: a/b"
    of_street = ("street", data[1].manifest.content[:32])
    measured = {each.key: (each.value, each.step, each.dataset_name, each.dataset_digest) for each in model.metrics}
    assert measured.pop("probe/a") == (12.5, 6, *of_street)
    assert measured.keys() == {"probe/b"}  # that of step 3 is of other weights
    history = writer.client.get_metric_history(run.run_id, "probe/a")
    assert [(each.step, each.value) for each in history] == [(3, 10.0), (6, 12.5)]  # no point twice
    (linked,) = writer.client.get_run(run.run_id).outputs.model_outputs
    assert (linked.model_id, linked.step) == (model.model_id, 6)
    # What the store holds of it is one small file: the weights are where they were.
    files = [each for each in Path(model.artifact_location).rglob("*") if each.is_file()]
    assert [each.name for each in files] == ["MLmodel"]
    with pytest.raises(Exception, match="artifacts are external"):
        load_pyfunc(str(Path(model.artifact_location)))


def test_data_sets_are_inputs_with_digest_source_columns_and_license(writer, data):
    import mlflow
    from mlflow.types import Schema

    run = start_run(writer)
    run.inputs(describe_mixture({"a": SourceConfig(path="a", weight=3)}, data[:1], data[1]))
    run.inputs([describe(data[0], "train")])  # a resumed run says it again
    run.finish()
    inputs = {each.dataset.name: each for each in writer.client.get_run(run.run_id).inputs.dataset_inputs}
    assert inputs.keys() == {"room", "street"}
    for name, shards, context in (("room", data[0], "train"), ("street", data[1], "test")):
        dataset, tags = inputs[name].dataset, {tag.key: tag.value for tag in inputs[name].tags}
        assert dataset.digest == shards.manifest.content[:32]
        assert tags["hcmoco.content"] == shards.manifest.content
        assert (dataset.source_type, json.loads(dataset.source)) == ("local", {"uri": shards.uri})
        assert mlflow.data.get_source(inputs[name]).load() == shards.uri
        assert json.loads(dataset.profile)["num_rows"] == shards.manifest.rows
        assert tags["mlflow.data.context"] == context
        assert tags["license"] == "terms of your data: not known to hcmoco"
        columns = Schema.from_json(json.dumps(json.loads(dataset.schema)["mlflow_colspec"]))
        assert columns.input_names() == shards.manifest.schema.names
        assert str(dict(zip(columns.input_names(), columns.input_types(), strict=True))["keypoints"]) == "Array(float)"
    assert {tag.key: tag.value for tag in inputs["room"].tags}["hcmoco.weight"] == "3"


def test_the_columns_of_scenes_are_mlflow_s_too():
    from mlflow.types import Schema

    from hcmoco.data.schema import scene_schema
    from hcmoco_ray.tracking.data_sets import _column

    columns = Schema.from_json(json.dumps([_column(each) for each in scene_schema()]))
    assert columns.input_names() == scene_schema().names


def test_a_resumed_run_completes_its_model_and_logs_no_second(writer, out, data, tmp_path):
    folder = encoders(tmp_path)
    run = start_run(writer)
    run.metrics(6, {"probe/a": 1.0})
    run.model(exported(folder, data))
    run.finish()
    again = start_run(open_writer(TrackingConfig(), out, actor=False), run_id=run.run_id)
    again.model(exported(folder, data))
    again.finish()
    (model,) = models_of(writer, run.run_id)
    assert [each.value for each in model.metrics] == [1.0]
    assert len(writer.client.get_metric_history(run.run_id, "probe/a")) == 1
    # Other weights in the same folder are another model.
    other = start_run(writer, run_id=run.run_id)
    shutil.rmtree(folder)
    Path(encoders(tmp_path, seed=1)).rename(folder)
    other.model(exported(folder, data))
    other.finish()
    assert len(models_of(writer, run.run_id)) == 2


def test_a_store_that_goes_away_keeps_the_training_and_says_what_is_missing(writer, data, tmp_path, monkeypatch):
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    run = start_run(writer)
    good, writer.client = writer.client, MlflowClient(f"http://127.0.0.1:{free_port('127.0.0.1')}")
    run.inputs([describe(data[0], "train")])
    run.metrics(6, {"probe/a": 1.0})
    run.model(exported(encoders(tmp_path), data))
    with pytest.raises(
        UserError, match=r"1 metric values and 0 artifacts and 1 data sets and 1 models of run .*not affe"
    ):
        run.finish()
    assert good.get_run(run.run_id).info.status == "RUNNING"


@pytest.mark.parametrize("fails", ["log_outputs", "log_model_artifacts", "finalize_logged_model"])
def test_what_fails_half_way_goes_on_there(writer, data, tmp_path, monkeypatch, fails):
    from mlflow.exceptions import MlflowException

    run = start_run(writer)
    run.metrics(6, {"probe/a": 1.0})
    calls, real = [], getattr(writer.client, fails)

    def once(*arguments, **named):
        calls.append(fails)
        if len(calls) == 1:
            raise MlflowException("away")
        return real(*arguments, **named)

    monkeypatch.setattr(writer.client, fails, once)
    run.model(exported(encoders(tmp_path), data))
    run.flush()
    run.finish()
    (model,) = models_of(writer, run.run_id)
    assert (model.status, [each.value for each in model.metrics]) == ("READY", [1.0])
    assert len(writer.client.get_run(run.run_id).outputs.model_outputs) == 1


def test_no_password_reaches_the_store(writer, data, monkeypatch):
    secret = "a-secret-of-this-test"
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    shards = type(data[0])(
        f"s3://key:{secret}@bucket/people?endpoint_override=http://u:{secret}@host", data[0].manifest
    )
    described = describe(shards, "train", key=f"x{secret}")
    assert secret not in repr(described)
    assert described.source_type == "s3"


@pytest.mark.parametrize("copied", [False, True])
def test_a_fine_tuned_model_is_loaded_from_its_folder_or_from_a_copy(writer, data, tmp_path, copied):
    import mlflow

    folder = str(write_models(tmp_path, **TRAINING) / "parsing-rgb")
    saved = load_model(folder)
    run = start_run(writer)
    run.metrics(6, {"test/mIoU": 0.5})
    settings = {"metrics": ["test/mIoU"], "test": data[1], "copied": copied}
    run.model(fine_tuned_model(folder, saved.task(), saved.encoder, TRAINING, **settings))
    run.finish()
    (model,) = models_of(writer, run.run_id)
    assert (model.model_type, model.params["encoder.name"]) == ("parsing-rgb", "test_resnet")
    assert [(each.key, each.value, each.dataset_name) for each in model.metrics] == [("test/mIoU", 0.5, "street")]
    assert "mlflow.model.isExternal" not in model.tags
    place = Path(model.artifact_location)
    copies = sorted(each.name for each in place.rglob("*") if each.is_file() and each.suffix == ".safetensors")
    assert copies == (["model.safetensors"] if copied else [])
    mlflow.set_tracking_uri(writer.uri)
    try:
        loaded = mlflow.pyfunc.load_model(f"models:/{model.model_id}")
        (people,) = loaded.predict(loaded.input_example)["people"]
        assert people[0]["parts"].startswith(b"\x89PNG")
        Path(folder, "model.safetensors").unlink()  # the training's folder goes away
        if copied:
            assert mlflow.pyfunc.load_model(f"models:/{model.model_id}").predict(loaded.input_example)["people"][0]
        else:
            with pytest.raises(Exception, match=f"{folder} holds no fine-tuned model") as caught:
                mlflow.pyfunc.load_model(f"models:/{model.model_id}")
            assert "\n" not in str(caught.value)
    finally:
        mlflow.set_tracking_uri(None)


def test_a_version_gets_the_alias_once_and_a_better_one_takes_it(writer, data, tmp_path):
    run = start_run(writer)
    run.metrics(6, {"probe/a": 1.0})
    run.finish()
    writer.check_registry("people")
    first, second = (exported(encoders(tmp_path, seed), data) for seed in (0, 1))
    assert [writer.register(run.run_id, first, "people", "best") for _ in range(2)] == ["1", "1"]
    version = writer.client.get_model_version_by_alias("people", "best")
    assert (version.version, version.run_id) in {("1", run.run_id), (1, run.run_id)}
    assert version.source in {each.artifact_location for each in models_of(writer, run.run_id)}
    assert writer.register(run.run_id, second, "people", "best") == "2"
    assert str(writer.client.get_model_version_by_alias("people", "best").version) == "2"
    assert len(writer.client.search_model_versions("name = 'people'")) == 2
    (measured,) = {each.value for model in models_of(writer, run.run_id) for each in model.metrics}
    assert measured == 1.0


def test_models_and_versions_follow_a_store_that_is_copied(writer, out, data, tmp_path):
    run = start_run(writer)
    run.finish()
    writer.register(run.run_id, exported(encoders(tmp_path), data), "copied", "best")
    copy = tmp_path / "a copy"
    shutil.copytree(out, copy)
    client = open_writer(TrackingConfig(), copy, actor=False).client
    version = client.get_model_version_by_alias("copied", "best")
    (model,) = models_of(writer, run.run_id)
    here = str(copy / "mlartifacts") + model.artifact_location.removeprefix(str(out / "mlartifacts"))
    assert client.get_logged_model(model.model_id).artifact_location == version.source == here
    assert client.get_model_version_download_uri("copied", version.version) == here
    assert Path(here, "MLmodel").is_file()
    # The original keeps its own.
    assert writer.client.get_logged_model(model.model_id).artifact_location == model.artifact_location


def test_names_are_what_mlflow_takes():
    assert model_name("people: a/b") == "people- a-b"
    assert model_name("a.b%c\"d'e") == "a-b-c-d-e"
    assert model_name("///") == "model"

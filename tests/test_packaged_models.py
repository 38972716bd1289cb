"""The fine-tuned models in the package: told apart from encoders, small, and of use."""

import numpy as np
import pytest
import safetensors.torch
import torch

import hcmoco
from hcmoco.data.codecs import decode_labels
from hcmoco.errors import UserError
from hcmoco.finetuning.saved_model import load_model, pack_model
from hcmoco.synthetic import PeopleConfig, make_person
from hcmoco.weights import find_weights
from hcmoco.weights.__main__ import main
from hcmoco_ray.paths import resolve_start


def test_the_two_kinds_of_weights_in_the_package_are_told_apart(capsys):
    assert hcmoco.list_weights("models") == ["people-small-parsing"]
    assert main(["--list"]) == 0
    kinds = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    assert kinds["people-small"].startswith("pre-trained encoders")
    assert kinds["people-small-parsing"].startswith("a fine-tuned model")
    for wrong in (hcmoco.load, find_weights, resolve_start):
        with pytest.raises(UserError, match=r"^people-small-parsing is a fine-tuned model, .*: people-small, or"):
            wrong("people-small-parsing")
    with pytest.raises(UserError, match=r"^people-small is pre-trained encoders, .*: people-small-parsing, or"):
        load_model("people-small")
    with pytest.raises(ValueError, match="encoders or models"):
        hcmoco.list_weights("both")


def test_the_model_in_the_package_predicts_and_is_float16_where_its_card_says(tmp_path):
    saved = load_model("people-small-parsing")
    model = saved.model()
    assert {each.dtype for each in model.parameters()} == {torch.float32}
    stored = safetensors.torch.load(saved.weights)
    assert {value.dtype for value in stored.values() if value.ndim >= 2} == {torch.float16}
    assert torch.float16 not in {value.dtype for value in stored.values() if value.ndim < 2}
    people = [make_person(PeopleConfig(size=128, seed=4), each, dataset="people", split="test") for each in range(4)]
    task = saved.task()
    with torch.inference_mode():
        found = task.predict(model, task.make_batch([each.to_row(0) for each in people], None), torch.device("cpu"))
    shares = []
    for person, prediction in zip(people, found, strict=True):
        truth, parts = decode_labels(person.parts) > 0, prediction["parts"] > 0
        shares.append((truth & parts).sum() / (truth | parts).sum())
    assert np.mean(shares) > 0.4, shares  # of people and not of backgrounds; drawn weights reach 0.1
    again = tmp_path / "again"
    pack_model(saved, str(again), note="Tried on nothing.")
    assert load_model(str(again)).weights == saved.weights
    assert "Tried on nothing." in (again / "README.md").read_text()

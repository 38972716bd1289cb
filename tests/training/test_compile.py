"""Compiled encoders: the same names, the same numbers to rounding, few compiled forms, and one line where it fails.

"aot_eager" traces and differentiates as the default backend does, but compiles nothing, so it is quick.
"""

import copy
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch._dynamo.backends.debugging import aot_eager

from hcmoco.errors import UserError
from hcmoco.models.encoders import EncoderConfig, build_encoder
from hcmoco.models.multimodal import HCMoCo
from hcmoco.pretraining.trainer import Pretraining
from hcmoco.training.compile import compile_encoders
from hcmoco.training.local import LocalContext
from tests.helpers import local_pretraining as tiny
from tests.helpers.tolerances import assert_step_close, flat_gradient

CPU = torch.device("cpu")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _forgotten():
    """Compiled forms are kept by code, for all models of a process."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class Counting:
    """A backend that counts what it is given."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph, inputs):
        self.graphs += 1
        return aot_eager(graph, inputs)


def test_it_is_no_part_of_the_identity_and_names_stay():
    assert tiny.tiny_config(train={"compile": True}).identity() == tiny.tiny_config().identity()
    model = HCMoCo(tiny.tiny_config().model, seed=1)
    names = list(model.state_dict())
    compile_encoders(model, CPU, "aot_eager")
    assert list(model.state_dict()) == names


def test_a_compiled_encoder_computes_the_same_and_moves_the_same_statistics():
    plain = build_encoder(EncoderConfig(name="test_resnet")).train()
    compiled, counting = copy.deepcopy(plain), Counting()
    compile_encoders(compiled, CPU, counting)
    x = torch.rand(3, 3, 64, 64)
    outputs, expected = compiled(x), plain(x)
    assert counting.graphs == 2  # that of the check, and the trunk as a whole
    for each, other in zip(outputs, expected, strict=True):
        assert_step_close(each, other)
    torch.autograd.backward([each.square().sum() for each in outputs])
    torch.autograd.backward([each.square().sum() for each in expected])
    assert_step_close(flat_gradient(compiled), flat_gradient(plain))
    for (name, value), other in zip(plain.named_buffers(), compiled.buffers(), strict=True):
        torch.testing.assert_close(other, value, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.slow
def test_a_run_of_both_stages_is_the_same_to_rounding_with_few_compiled_forms(sources):
    config = tiny.tiny_config(stages={"stage1_steps": 2, "stage2_steps": 3})
    feed = tiny.tiny_feed(config, sources)
    plain, compiled = (Pretraining(config, feed.plan, CPU, lanes_here=2) for _ in range(2))
    counting = Counting()
    compile_encoders(compiled.model, CPU, counting)
    numbers = set()
    for batch in LocalContext(feed, threads=1).batches(0):
        if batch.step == 0:
            # From the same weights: rounding grows with the steps.
            values, expected = compiled.train_step(batch), plain.train_step(batch)
        else:
            compiled.model.load_state_dict(plain.model.state_dict())
            for name, bank in compiled.banks.items():
                bank.rows.copy_(plain.banks[name].rows)
            values, expected = compiled.train_step(batch), plain.train_step(batch)
        numbers.add(int(batch.has_depth.sum()))
        assert_step_close(flat_gradient(compiled.model), flat_gradient(plain.model))
        for name, value in expected.items():
            torch.testing.assert_close(values[name], value, rtol=1e-4, atol=1e-4, msg=name)
        for (name, value), other in zip(
            plain.model.named_buffers(), dict(compiled.model.named_buffers()).values(), strict=True
        ):
            torch.testing.assert_close(other, value, rtol=1e-4, atol=1e-4, msg=name)
    assert len(numbers) > 2
    assert compiled.stage == 2
    # The check's; of RGB and depth one for the first number of rows, one for any and one for a single row; keypoints'.
    assert 4 <= counting.graphs <= 5, counting.graphs
    # A state goes on with or without.
    for saved in (compiled, plain):
        resumed = Pretraining(config, feed.plan, CPU, lanes_here=2)
        if saved is plain:
            compile_encoders(resumed.model, CPU, counting)
        resumed.load_state_dict(saved.state_dict(), "a folder")
        assert tiny.differences(resumed.state_dict(), saved.state_dict()) == []


def test_evaluation_runs_the_model_as_it_is():
    model, counting = HCMoCo(tiny.tiny_config().model, seed=1), Counting()
    compile_encoders(model, CPU, counting)
    before = counting.graphs
    model.eval()
    with torch.no_grad():
        for rows in (1, 2, 3):
            model.encode_rgb(torch.rand(rows, 3, 64, 64))
            model.encode_keypoints(torch.rand(rows, 16, 2), torch.ones(rows, 16))
    assert counting.graphs == before


def test_layers_that_draw_are_refused_and_what_the_line_says_helps():
    encoder = build_encoder(EncoderConfig(name="test_resnet", args={"drop_path_rate": 0.5}))
    with pytest.raises(UserError, match=r"layer \S+ draws random numbers .* leave drop_path_rate, .* out"):
        compile_encoders(encoder, CPU, "aot_eager")
    compile_encoders(build_encoder(EncoderConfig(name="test_resnet")), CPU, "aot_eager")


def test_batch_norms_that_exchange_are_refused_and_what_the_line_says_helps():
    with pytest.raises(UserError, match=r"which PyTorch cannot compile; set train\.micro_rows too"):
        tiny.tiny_config(train={"compile": True, "global_batch": True})
    tiny.tiny_config(train={"compile": True, "global_batch": True, "micro_rows": 2})


class Branches(torch.nn.Module):
    """Cannot be compiled: what it computes depends on a value."""

    def forward(self, x):
        return [x if x.sum() > 0 else -x]


def test_what_cannot_be_compiled_is_one_line():
    encoder = build_encoder(EncoderConfig(name="test_resnet"))
    encoder.trunk.stem = encoder.trunk.conv1 = Branches()
    encoder.trunk.forward = Branches().forward
    compile_encoders(encoder, CPU, "aot_eager")
    with pytest.raises(UserError, match=r"^train.compile: PyTorch cannot compile .*; set train.compile=false$"):
        encoder(torch.rand(2, 3, 64, 64))


PROGRAM = """
import torch
from hcmoco.training.compile import check_compiler
from hcmoco.errors import UserError
try:
    check_compiler(torch.device("cpu"))
except UserError as error:
    print(f"error: {error}")
"""


def test_without_a_compiler_there_is_one_line(tmp_path):
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "CXX": str(tmp_path / "none"),
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache"),
        "TORCHINDUCTOR_COMPILE_THREADS": "1",  # no processes that wait for work
    }
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True)
    assert done.stdout.startswith("error: train.compile: nothing can be compiled for cpu on this machine: "), done
    assert done.stdout.rstrip().endswith("; or set train.compile=false")
    assert "apt-get install g++, or CXX=" in done.stdout
    assert done.stdout.count("\n") == 1


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler")
def test_compiled_code_computes_the_same(tmp_path, monkeypatch):
    from torch._inductor import config as inductor

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(inductor, "compile_threads", 1)  # no processes that wait for work
    # Few layers: every one is compiled by g++, which takes its time.
    plain = HCMoCo(tiny.tiny_config(model={"skeleton": {"width": 8, "num_blocks": 0}}).model, seed=1).train()
    compiled = copy.deepcopy(plain)
    compile_encoders(compiled, CPU)
    keypoints, visible = torch.rand(3, 16, 2), torch.ones(3, 16)
    outputs = [model.encode_keypoints(keypoints, visible) for model in (compiled, plain)]
    assert_step_close(*outputs)
    for each in outputs:
        each.square().sum().backward()
    assert_step_close(flat_gradient(compiled), flat_gradient(plain))


def test_parts_with_graphs_are_compiled_for_them_and_compute_the_same(sources):
    """On a CPU nothing is replayed; the calls are those that a GPU gets."""
    modes = []

    def backend(graph, inputs, mode=None):
        modes.append(mode)
        return aot_eager(graph, inputs)

    config = tiny.tiny_config(stages={"stage1_steps": 1, "stage2_steps": 1})
    feed = tiny.tiny_feed(config, sources)
    plain, replayed = (Pretraining(config, feed.plan, CPU, lanes_here=2) for _ in range(2))
    train = config.train.model_copy(update={"compile": "graphs"})
    replayed.config = config.model_copy(update={"train": train})
    compile_encoders(replayed.model, CPU, backend, graphs=True)
    batch = next(LocalContext(feed, threads=1).batches(0))
    assert_step_close(replayed.train_step(batch)["loss"], plain.train_step(batch)["loss"])
    assert_step_close(flat_gradient(replayed.model), flat_gradient(plain.model))
    assert modes[1:] == ["reduce-overhead"] * 3  # the first is the check's

"""What auto is: by the processor's features, by every rank, and by what a run was begun with."""

import json

import pytest
import torch

from hcmoco.errors import UserError
from hcmoco.pretraining.loop import pretrain
from hcmoco.training import precision
from hcmoco.training.checkpoint import States
from hcmoco.training.precision import (
    autocast,
    chosen,
    computes_bfloat16,
    cpu_features,
    float32,
    linux_features,
    native_bfloat16,
    set_up,
    settle,
)
from tests.helpers import forked_runs
from tests.helpers import local_pretraining as tiny

HERE = chosen([native_bfloat16("cpu")])
OTHER = {"float32": "bfloat16", "bfloat16": "float32"}[HERE]
AVX2 = {"onednn", "avx", "avx2", "fma", "f16c"}
AVX512 = AVX2 | {"avx512f", "avx512bw", "avx512vl", "avx512_vnni"}


@pytest.mark.parametrize(
    ("features", "computes"),
    [
        (set(), False),
        (AVX2, False),  # Zen 3, desktop and laptop chips of Intel
        (AVX512, False),  # Skylake, Ice Lake
        (AVX512 | {"avx512_bf16"}, True),  # Cooper Lake, Zen 4
        (AVX512 | {"avx512_bf16", "amx_tile", "amx_bf16"}, True),  # Sapphire Rapids
        (AVX512 | {"amx_tile", "amx_int8"}, False),
        (AVX512 | {"amx_tile", "amx_bf16"}, True),
        ({"onednn", "asimd", "fphp", "asimdhp"}, False),  # Neoverse N1
        ({"onednn", "asimd", "sve", "bf16", "i8mm"}, True),  # Neoverse V1
        ({"asimd", "bf16"}, False),  # PyTorch without oneDNN has no kernel for it
    ],
)
def test_a_processor_computes_in_bfloat16_by_its_features(features, computes):
    assert computes_bfloat16(features) == computes


def test_features_of_every_core_count(tmp_path):
    (tmp_path / "x86").write_text(
        "processor\t: 0\nflags\t\t: fpu avx512_bf16 amx_bf16\n\nprocessor\t: 1\nflags\t\t: fpu avx512_bf16\n"
    )
    (tmp_path / "arm").write_text("processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd bf16\n")
    assert linux_features(str(tmp_path / "x86")) == {"fpu", "avx512_bf16"}
    assert linux_features(str(tmp_path / "arm")) == {"fp", "asimd", "bf16"}
    assert linux_features(str(tmp_path / "none")) == frozenset()


@pytest.mark.skipif(not linux_features(), reason="the system does not list the processor's features")
def test_linux_and_pytorch_say_the_same_of_this_processor():
    assert linux_features() & precision._COMPUTING == cpu_features() & precision._COMPUTING


def test_every_rank_counts():
    assert chosen([True, True]) == "bfloat16"
    assert chosen([True, False, True]) == chosen([False]) == chosen([]) == "float32"


def test_all_workers_settle_alike(tmp_path):
    arguments = {"out": str(tmp_path)}
    forked_runs.run_jobs(tmp_path, [{"call": "settled", "world": world, "arguments": arguments} for world in (1, 2)])
    for world in (1, 2):
        for rank in range(world):
            assert json.loads((tmp_path / f"{world}-{rank}.json").read_text()) == [
                "bfloat16",
                "float32",
                "bfloat16",
                "float32",
            ]


def test_what_is_given_is_kept():
    for given in ("float32", "bfloat16"):
        config = tiny.tiny_config(train={"precision": given})
        assert settle(config, given == "float32", {"train": {"precision": "auto"}}) is config


def test_an_undecided_precision_trains_nothing():
    with pytest.raises(RuntimeError, match=r"settle\(\) decides it"):
        autocast(torch.device("cpu"), "auto")
    for given, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        with autocast(torch.device("cpu"), given):
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


def test_tf32_is_a_gpu_s_and_what_the_lines_say_helps():
    with pytest.raises(UserError, match=r"train\.precision = tf32 is an arithmetic of GPUs.*train\.precision=float32"):
        tiny.tiny_config(train={"precision": "tf32"})
    config = tiny.tiny_config(train={"precision": "tf32", "gpu": True})
    assert settle(config, True, None) is config
    assert config.identity()["train"]["precision"] == "tf32"
    with pytest.raises(
        UserError, match=r"^train.precision = tf32: a CPU does not compute in it .* set train.precision=float32$"
    ):
        set_up(torch.device("cpu"), "tf32")
    with autocast(torch.device("cpu"), "tf32"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


def test_convolutions_of_scores_are_float32_and_then_as_before():
    cudnn = torch.backends.cudnn
    before = cudnn.allow_tf32
    try:
        for training in (True, False):
            cudnn.allow_tf32 = training
            with float32():
                assert cudnn.conv.fp32_precision != "tf32"
                assert not cudnn.allow_tf32  # torch.export asks, and fails where convolutions alone are set
            assert (cudnn.conv.fp32_precision == "tf32") == training
            assert cudnn.allow_tf32 == training
    finally:
        cudnn.allow_tf32 = before


def test_on_a_cpu_nothing_is_set():
    def settings():
        return (torch.backends.cudnn.conv.fp32_precision, torch.backends.cudnn.benchmark)

    before = settings()
    for given in ("float32", "bfloat16"):
        set_up(torch.device("cpu"), given)
    assert settings() == before


def test_a_run_settles_by_this_processor_and_goes_on_as_it_was_begun(sources, tmp_path):
    def run(asked: str, states: str, steps: int) -> str:
        config = tiny.tiny_config(
            train={"precision": asked, "save_every": 1}, stages={"stage1_steps": 2, "stage2_steps": 2}
        )
        feed = tiny.tiny_feed(config, sources)
        if steps < 4:
            with pytest.raises(tiny.DiedError):
                pretrain(config, feed.plan, tiny.StoppingContext(feed, states, stop=steps), None)
        else:
            pretrain(config, feed.plan, tiny.StoppingContext(feed, states), None)
        state = States(states).newest()
        assert state.step == steps
        return state.identity["train"]["precision"]

    assert run("auto", str(tmp_path / "fresh"), 1) == HERE
    # As if begun on another kind of machine.
    assert run(OTHER, str(tmp_path / "moved"), 1) == OTHER
    assert run("auto", str(tmp_path / "moved"), 4) == OTHER

"""Measure exported graphs beside PyTorch: their size, and the time of a forward pass from pixels.

    python benchmarks/exports.py

Every arm computes the same function of the same pixels, normalization and mappers included, with as many threads. The
encoders are RGB encoders: the one in the package at 96 pixels, and the paper's HRNet-W18 with drawn weights at 320.
"""

import io
import os
import time
from collections.abc import Callable
from functools import partial

import onnxruntime
import safetensors.torch
import torch

from benchmarks._measure import Table, arguments, in_turns, ratios, run
from hcmoco.export import load_export
from hcmoco.exporting.encoder_graphs import encoder_graph, example_rgb
from hcmoco.exporting.graphs import Graph, write_graph
from hcmoco.models.encoders import EncoderConfig
from hcmoco.models.multimodal import HCMoCo, ModelConfig, MultiModalEncoders
from hcmoco.weights import find_weights

ARMS = ("PyTorch", "pt2", "onnx")


def packaged() -> MultiModalEncoders:
    return load_export(find_weights("people-small")).model_with_mappers()


def paper() -> MultiModalEncoders:
    encoder = EncoderConfig(name="hrnet_w18", fusion="bilinear")
    model = HCMoCo(ModelConfig(rgb=encoder, depth=EncoderConfig(name="resnet18")), seed=0)
    model.add_dense_mappers()
    return model.eval()


# Name -> model, side in pixels, rows of a batch, passes of a turn.
CASES: dict[str, tuple[Callable[[], MultiModalEncoders], int, int, int]] = {
    "hrnet_w18_small, 1 x 96 px": (packaged, 96, 1, 20),
    "hrnet_w18_small, 16 x 96 px": (packaged, 96, 16, 3),
    "hrnet_w18, 1 x 320 px": (paper, 320, 1, 3),
}


def timed(call: Callable[[], object], passes: int) -> float:
    """Return milliseconds of a pass."""
    start = time.perf_counter()
    for _ in range(passes):
        call()
    return 1000 * (time.perf_counter() - start) / passes


def calls(graph: Graph, files: dict[str, bytes], rows: int, side: int, threads: int) -> dict[str, Callable[[], object]]:
    """Return a forward pass of each arm."""

    image = example_rgb(rows, side, side)
    program = torch.export.load(io.BytesIO(files["pt2"])).module()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 3
    session = onnxruntime.InferenceSession(files["onnx"], options, providers=["CPUExecutionProvider"])
    given = {"rgb": image.numpy()}
    return {"PyTorch": lambda: graph(image), "pt2": lambda: program(image), "onnx": lambda: session.run(None, given)}


@torch.inference_mode()
def main() -> None:
    given = arguments(__doc__, rounds=9, quick="one pass of a turn, and the smallest case alone").parse_args()
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(threads)
    table = Table("exports", {"threads": threads, "onnxruntime": onnxruntime.__version__})
    written: dict[tuple[str, int], tuple[Graph, dict[str, bytes]]] = {}
    for name, (make, side, rows, passes) in list(CASES.items())[: 1 if given.quick else None]:
        key = make.__name__, side
        if key not in written:
            with torch.inference_mode(False):
                graph = encoder_graph(make(), "rgb", side, {})
                written[key] = graph, {kind: write_graph(graph, kind).data for kind in ("pt2", "onnx")}
            weights = len(safetensors.torch.save({k: v.clone() for k, v in graph.state_dict().items()}))
            encoder = name.partition(",")[0]
            for kind, data in written[key][1].items():
                table.add(f"{encoder}: {kind} / its weights as safetensors, bytes", len(data) / weights, better="lower")
            table.add(f"{encoder}: onnx", len(written[key][1]["onnx"]) / 1e6, "MB")
        graph, files = written[key]
        arms = calls(graph, files, rows, side, threads)
        for call in arms.values():
            call()
        passes = 1 if given.quick else passes
        found = in_turns({arm: partial(timed, call, passes) for arm, call in arms.items()}, given.rounds)
        table.add(f"{name}: PyTorch", found["PyTorch"], "ms")
        for arm in ARMS[1:]:
            table.add(f"{name}: {arm} / PyTorch, time", ratios(found[arm], found["PyTorch"]), better="lower")
    table.show()
    table.write(given.results)


if __name__ == "__main__":
    run(main)

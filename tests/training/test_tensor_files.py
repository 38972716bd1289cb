"""The streamed safetensors file against the library that defines the format."""

import io

import pytest
import torch
from safetensors.torch import load, save

from hcmoco.training.tensor_files import write_tensors

DTYPES = [
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
]


def written(tensors) -> bytes:
    sink = io.BytesIO()
    write_tensors(sink, tensors)
    return sink.getvalue()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_library_reads_every_dtype_and_layout(dtype):
    values = torch.arange(-60, 60).reshape(2, 3, 4, 5).to(dtype)
    tensors = {
        "whole": values,
        "channels last": values.to(memory_format=torch.channels_last),
        "part": values[1, :, ::2],
        "scalar": values[0, 0, 0, 0],
        "empty": values[:0],
    }
    again = load(written(tensors))
    assert again.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert (again[name].dtype, again[name].shape) == (tensor.dtype, tensor.shape)
        assert again[name].equal(tensor)


def test_as_many_bytes_as_the_library_writes_and_every_tensor_aligned():
    tensors = {f"{dtype}": torch.ones(3, dtype=dtype) for dtype in DTYPES}
    assert len(written(tensors)) == len(save(tensors))
    assert load(written({})) == {}


def test_not_a_number_and_negative_zero_keep_their_bits():
    tensor = torch.tensor([float("nan"), -0.0, float("inf")])
    assert load(written({"x": tensor}))["x"].numpy().tobytes() == tensor.numpy().tobytes()


def test_no_second_copy_of_a_large_tensor_is_made():
    """Counted in bytes that are handed on at once."""
    sizes = []

    class Counting:
        def write(self, data):
            sizes.append(len(data))

    write_tensors(Counting(), {"bank": torch.zeros(20 << 20, dtype=torch.float32)})
    assert sum(sizes[1:]) == 80 << 20
    assert max(sizes) == 16 << 20

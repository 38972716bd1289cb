"""What is promised of one thing computed in two shapes, and the comparisons that hold the tests to it.

A computation has another shape where it has another batch, other pieces of an evaluation, another number of workers or
of threads. Other kernels then add the same numbers in another order. `docs/reproducibility.md` promises the same:

- The same shapes on one machine: the same bits. Tests compare with `==`.
- Samples, draws, their order and everything else that is a whole number: always the same.
- One step in float64: to FLOAT64 of the largest value of a tensor. The gradient is one tensor, the vector of all
  parameters: that of a single layer may be nothing but rounding, as a bias before batch norm has it.
- One step in float32: to FLOAT32 of the largest value. Float32 itself is that far from float64: 1.4e-5 was measured on
  a tiny model.
- Means over an evaluation in float32: to MEAN of the value, where it is below 1 to MEAN itself.
- Shares of what lies below a limit or is classified rightly: to one count, 1/N.
- bfloat16, and weights after the first step: nothing.
"""

import math
from collections.abc import Mapping

import numpy as np
import torch

FLOAT64, FLOAT32, MEAN = 1e-10, 1e-4, 1e-6


def flat_gradient(model: torch.nn.Module) -> torch.Tensor:
    """The gradients of all parameters as one vector; zeros where there is none."""
    return torch.cat(
        [torch.zeros_like(each).flatten() if each.grad is None else each.grad.flatten() for each in model.parameters()]
    )


def assert_step_close(found: torch.Tensor, expected: torch.Tensor) -> None:
    """The same values or gradient of one step, computed in two shapes; float64 or float32."""
    limit = {torch.float64: FLOAT64, torch.float32: FLOAT32}[expected.dtype] * expected.abs().max().item()
    torch.testing.assert_close(found, expected, rtol=0, atol=limit)


def assert_figures_close(found: Mapping, expected: Mapping, counts: Mapping[str, float]) -> None:
    """The same figures of an evaluation.

    `counts` has N of those that are shares; the others are means. None and NaN stay so.
    """
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if value is None or math.isnan(value):
            assert found[name] is None or math.isnan(found[name]), name
            continue
        limit = 1.0001 / counts[name] if name in counts else MEAN * max(1, abs(value))
        assert abs(found[name] - value) <= limit, f"{name}: {found[name]!r} is not {value!r}, to {limit:.2g}"


def assert_labels_close(found: np.ndarray, expected: np.ndarray) -> None:
    """The same class for every pixel [...], but for one."""
    assert found.shape == expected.shape
    assert (found != expected).sum() <= 1


def assert_confusion_close(found_KK: np.ndarray, expected_KK: np.ndarray) -> None:
    """The same pixels by class, but for one that has gone from a cell to another."""
    assert found_KK.sum() == expected_KK.sum()
    assert np.abs(found_KK - expected_KK).sum() <= 2

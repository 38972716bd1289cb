"""The RGB encoder beside the other two, each in a thread of its own: two cores for one worker.

More threads inside an operation help small pictures little: an encoder has hundreds of operations, each of them so
short that the threads wait for each other longer than they save. Two encoders have nothing to wait for. Their features
meet in the terms, whose backward pass ends at the features; from there each thread goes on through its own encoder.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from hcmoco.models.multimodal import MultiModalEncoders
from hcmoco.objectives import MODALITIES
from hcmoco.pretraining.losses import encode
from hcmoco.pretraining.views import Views

_BESIDE, _HERE = ("rgb",), ("depth", "keypoints")


class ConcurrentEncoders:
    """The encoders of one step.

    Args:
        pool: of one thread.
        views: of the batch.
        context: what the encoders run in, autocast for example; entered in each thread.
    """

    def __init__(
        self,
        pool: ThreadPoolExecutor,
        model: MultiModalEncoders,
        views: Views,
        context: Callable[[], AbstractContextManager],
    ):
        self._pool, self._model, self._views, self._context = pool, model, views, context
        self._found: dict[str, tuple[list[Tensor], list[Tensor]]] = {}

    def encode(self) -> tuple[dict[str, Any], Tensor]:
        """Return what `encode` returns, with features that are leaves which require a gradient."""
        beside = self._pool.submit(self._encode, _BESIDE)
        try:
            here, visible_BJ = self._encode(_HERE)
        finally:
            beside.exception()  # nothing runs on when this returns
        encoded, features = beside.result()[0] | here, {}
        for name in (name for name in MODALITIES if name in encoded):
            outputs = encoded[name] if isinstance(encoded[name], list) else [encoded[name]]
            leaves = [output.detach().requires_grad_() for output in outputs]
            self._found[name] = outputs, leaves
            features[name] = leaves if isinstance(encoded[name], list) else leaves[0]
        return features, visible_BJ

    def backward(self, last: Callable[[], AbstractContextManager] = nullcontext) -> None:
        """Add to the encoders' gradients what the features' gradients ask for. The terms' own backward pass has to be
        done before.

        Args:
            last: not entered: buckets of gradients would be sent from two threads. They are sent afterwards.
        """
        beside = self._pool.submit(self._backward, _BESIDE)
        try:
            self._backward(_HERE)
        finally:
            beside.exception()
        beside.result()

    def _encode(self, names: Sequence[str]) -> tuple[dict[str, Any], Tensor]:
        # A copy, since it knows which encoder draws.
        layers = self._views.layers
        others = " or ".join(_HERE if names == _BESIDE else _BESIDE)
        views = replace(self._views, layers=layers.beside(others) if layers else None)
        with self._context():
            return encode(self._model, views, names)

    def _backward(self, names: Sequence[str]) -> None:
        found = [pair for name in names if name in self._found for pair in zip(*self._found[name], strict=True)]
        asked = [(output, leaf.grad) for output, leaf in found if leaf.grad is not None and output.requires_grad]
        if asked:
            torch.autograd.backward([output for output, _ in asked], [gradient for _, gradient in asked])

"""What every term returns, and the few numeric habits that all terms share.

Shape suffixes in this package: B samples of the batch, G samples of the scope (B of one worker), D embedding width, J
joints, K drawn bank rows, N bank rows, P anchor cells, M any number of columns.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor

from hcmoco.objectives.scope import LOCAL, Scope

NEG_INF = float("-inf")  # a logit that is out of a softmax's sum


@dataclass(frozen=True)
class Terms:
    """Named loss terms of one batch, with what entered each. Nothing here has been read by the host.

    Names are `<group>/<anchor>-<target>`: group g (sample level), d (dense) or s (sparse); for example `g/rgb-depth`,
    `s/inter`.

    Attributes:
        values: the term, a scalar in the graph; an exact 0 with zero gradients where nothing entered.
        counts: int64 scalar, anchors that entered: samples in g, cells in d, joints in s.
        samples: bool [B], the samples of the batch that gave at least one anchor.
    """

    values: Mapping[str, Tensor] = field(default_factory=dict)
    counts: Mapping[str, Tensor] = field(default_factory=dict)
    samples: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, value: Tensor, count: Tensor, samples_B: Tensor) -> "Terms":
        """A single term."""
        return cls({name: value}, {name: count}, {name: samples_B})

    def __or__(self, other: "Terms") -> "Terms":
        """The terms of both; ValueError where both have one of the same name."""
        if twice := sorted(self.values.keys() & other.values.keys()):
            raise ValueError(f"terms given twice: {', '.join(twice)}")
        return Terms(
            {**self.values, **other.values}, {**self.counts, **other.counts}, {**self.samples, **other.samples}
        )


def at_least_float32(x: Tensor) -> Tensor:
    """`x` in float32 at least; float64 stays.

    A bfloat16 product near 1 is rounded by up to 0.002, at tau 0.07 by 0.03 nats.
    """
    return x.to(torch.promote_types(x.dtype, torch.float32))


def no_autocast(x: Tensor) -> AbstractContextManager:
    """A context in which autocast leaves the products of `x`'s device in the precision of their inputs."""
    device = x.device.type
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()


def zero_where_not(x: Tensor, keep: Tensor) -> Tensor:
    """`x` with zeros where `keep`, over `x`'s leading axes, is False.

    What stood there, even a NaN, reaches neither value nor gradient.
    """
    return x.masked_fill(~keep.reshape(keep.shape + (1,) * (x.dim() - keep.dim())), 0)


def masked_mean(loss: Tensor, valid: Tensor, scope: Scope = LOCAL) -> Tensor:
    """Mean of `loss` over the places where `valid`, 0 where there is none; see `Scope.mean` for several workers.

    `loss` must be finite everywhere, its gradient too.
    """
    return scope.mean(zero_where_not(loss, valid).sum(), valid.sum())

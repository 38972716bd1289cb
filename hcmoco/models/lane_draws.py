"""Layers and samplers that draw for themselves, by lane: what they draw for a row does not depend on the number of
workers.

A step's rows are dealt to lanes, and the lanes to workers, a lane's rows one after the other. Each lane has a generator
of its own, keyed by (seed, what draws, step, lane). A layer draws for every row of its worker's lanes, those included
that its encoder does not see, and takes what belongs to the rows that it is given. Outside of `LaneDraws.of` layers and
samplers take from torch's generator.

Shape suffixes: B rows of this worker, R rows of them that an encoder sees.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from copy import copy

import torch
from timm.layers import DropPath
from torch import Tensor, nn

from hcmoco.errors import UserError
from hcmoco.rng import make_rng


class LaneDraws:
    """The generators of one step on one worker.

    Args:
        lanes: which lanes the worker serves, in the order of its rows.
        batch_size_per_lane: B is as many times the number of lanes.
        device: where the layers are.
    """

    def __init__(self, seed: int, step: int, lanes: Sequence[int], batch_size_per_lane: int, device: torch.device):
        self._key, self._lanes, self._rows_per_lane, self._device = (seed, step), lanes, batch_size_per_lane, device
        self._part, self._beside = "", ""
        self._rows_R: Tensor | None = None
        self._generators: dict[tuple[str, int], torch.Generator] = {}
        self._first, self._count = 0, len(lanes) * batch_size_per_lane

    def part(self, rows: slice) -> "LaneDraws":
        """Return the draws of some of the rows, from their beginning: what a layer draws for a row is the same as for
        all rows together.

        Args:
            rows: first and last of the B rows, without a step.
        """
        size = self._rows_per_lane
        lanes = self._lanes[rows.start // size : -(-rows.stop // size)]
        seed, step = self._key
        part = LaneDraws(seed, step, lanes, size, self._device)
        part._first, part._count = rows.start % size, rows.stop - rows.start
        return part

    def beside(self, others: str) -> "LaneDraws":
        """Return a copy for a thread beside which `others` run, which draw from the same generator of torch."""
        found = copy(self)
        found._beside = f" or {others}, which runs beside it"
        return found

    @contextmanager
    def of(self, part: str, rows_R: Tensor | None = None) -> Iterator[None]:
        """Inside, layers and samplers draw from the generators of `part`.

        Args:
            part: what is run. A worker may have no row for an encoder; parts with names of their own do not notice.
            rows_R: int64 [R], which of the B rows the layers see; None: all of them.
        Raises:
            UserError: something inside has drawn from torch's generator, as DropBlock and fused attention's dropout do.
        """
        self._part, self._rows_R = part, rows_R
        before = self._torch_state()
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)
        if self._torch_state() != before:
            raise UserError(
                f"{part}{self._beside}: a layer of the encoder draws for a worker's rows together, so results would "
                "depend on the number of workers; "
                "of an encoder's args that draw, only drop_path_rate, drop_rate and proj_drop_rate can be used"
            )

    def _torch_state(self) -> bytes:
        cuda = self._device.type == "cuda"
        # A generator's state lies on the host, a GPU's too.
        return (torch.cuda.get_rng_state(self._device) if cuda else torch.random.get_rng_state()).numpy().tobytes()

    def generator(self, lane: int) -> torch.Generator:
        """The generator of a lane for the part that runs."""
        key = (self._part, lane)
        if key not in self._generators:
            seed, step = self._key
            number = int(make_rng(seed, f"layers/{self._part}", step, lane).integers(2**63))
            self._generators[key] = torch.Generator(self._device).manual_seed(number)
        return self._generators[key]

    def generator_of(self, row: int) -> torch.Generator:
        """The generator of the lane that the row of number `row` among the B belongs to."""
        return self.generator(self._lanes[(self._first + row) // self._rows_per_lane])

    def uniform(self, first: int, *rest: int) -> Tensor:
        """float32 [first, *rest] in [0, 1). `first` is R, or a multiple where each row is cut into as many windows,
        side by side.

        Raises RuntimeError for any other: the layer's first axis is not rows, so what it draws belongs to no lane.
        """
        rows = self._count if self._rows_R is None else len(self._rows_R)
        if first % rows:
            raise RuntimeError(
                f"a layer of {self._part} draws for {first} entries of a batch of {rows} rows; no lane owns them"
            )
        shape = (self._rows_per_lane, first // rows, *rest)
        drawn_B = torch.cat(
            [torch.rand(shape, generator=self.generator(lane), device=self._device) for lane in self._lanes]
        )
        drawn_B = drawn_B[self._first : self._first + self._count]
        return (drawn_B if self._rows_R is None else drawn_B[self._rows_R]).reshape(first, *rest)


_current: ContextVar[LaneDraws | None] = ContextVar("lane_draws", default=None)


class LaneDropPath(DropPath):
    """timm's stochastic depth, drawn by lane."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.drop_prob or (draws := _current.get()) is None:
            return super().forward(x)
        kept = draws.uniform(len(x), *(1,) * (x.ndim - 1)) >= self.drop_prob
        return x * kept.to(x.dtype).div_(1 - self.drop_prob if self.scale_by_keep and self.drop_prob < 1 else 1)


class LaneDropout(nn.Dropout):
    """torch's dropout, drawn by lane."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.p or (draws := _current.get()) is None:
            return super().forward(x)
        kept = draws.uniform(*x.shape) >= self.p
        return x * kept.to(x.dtype).div_(1 - self.p if self.p < 1 else 1)


def draw_by_lane(model: nn.Module) -> None:
    """Has all stochastic depth and dropout inside `model` draw by lane.

    They hold no tensors, so the state's names stay.
    """
    for parent in list(model.modules()):
        for name, layer in parent.named_children():
            if type(layer) is DropPath:
                setattr(parent, name, LaneDropPath(layer.drop_prob, layer.scale_by_keep))
            elif type(layer) is nn.Dropout:
                setattr(parent, name, LaneDropout(layer.p))


def drawing_layer(model: nn.Module) -> str:
    """Return the name of a layer inside `model` that draws by lane in training; "" if none does."""
    for name, layer in model.named_modules():
        if (isinstance(layer, LaneDropPath) and layer.drop_prob) or (isinstance(layer, LaneDropout) and layer.p):
            return name
    return ""


def permutation(count: int, row: int, device: torch.device) -> Tensor:
    """int64 [count]: 0 to count - 1 in random order, drawn for row `row` of the worker's batch."""
    draws = _current.get()
    return torch.randperm(count, generator=draws.generator_of(row) if draws else None, device=device)

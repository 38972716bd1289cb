"""The memory bank of one modality: a smoothed global embedding for the samples of the run, to draw negatives from.

Instance discrimination's memory bank (Wu et al., CVPR 2018) as Contrastive Multiview Coding keeps one per view (Tian et
al., ECCV 2020). Nothing here asks the device for a value, so a step on a GPU never waits for it.

A bank has a row for every sample, or, where it is bounded, for those that `choose_members` took.

Shape suffixes: N rows of the bank, D width, B samples of a batch, K drawn rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hcmoco.errors import UserError
from hcmoco.objectives.loss_terms import NEG_INF

_STATE = ("rows", "visited", "order", "count")


class Drawn(NamedTuple):
    """Bank rows that a whole batch shares as negatives.

    Attributes:
        rows: float32 [K, D], unit norm where eligible; a copy, so that the bank may be updated before the backward
            pass.
        address: int64 [K], the number of each row's sample.
        eligible: bool [K], False for places that hold no drawn row.
    """

    rows: Tensor
    address: Tensor
    eligible: Tensor

    def similarity(self, anchor_BD: Tensor, index_B: Tensor) -> Tensor:
        """Dot products [B, K]; -inf where a row is not eligible or is the anchor's own (`index_B` is each anchor's
        number)."""
        out_BK = (index_B[:, None] == self.address) | ~self.eligible
        return (anchor_BD @ self.rows.to(anchor_BD.dtype).T).masked_fill(out_BK, NEG_INF)


class DrawnPerSample(NamedTuple):
    """The published release's negatives: every sample has its own draw, in which its own row or a repetition may occur.

    One product with the whole bank and a gather of its columns gives what gathering B x K rows of width D would,
    without holding them.

    Attributes:
        rows: float32 [N, D], the bank itself, not a copy: update it after the backward pass.
        address: int64 [B, K].
    """

    rows: Tensor
    address: Tensor

    def similarity(self, anchor_BD: Tensor, index_B: Tensor) -> Tensor:
        """Dot products [B, K]; none is masked."""
        return (anchor_BD @ self.rows.to(anchor_BD.dtype).T).gather(1, self.address)


class Stale(NamedTuple):
    """The bank's rows of a batch's own samples.

    Attributes:
        rows: float32 [B, D], a copy.
        visited: bool [B], False where the bank has never seen the sample.
    """

    rows: Tensor
    visited: Tensor


def choose_members(samples: int, bank_rows: int | None, generator: np.random.Generator) -> np.ndarray | None:
    """Choose the samples of a run that have a row in its memory banks, where not all of them have.

    A bounded bank is the bank of a uniform sample of the people, drawn once, without replacement. So everything that a
    bank does stays: a row is one person's smoothed embedding, it is drawn uniformly, it is as old as that person's last
    visit, and it is never a negative of that person. A draw is uniform over the run's people, as from the whole bank,
    when the choice is drawn too. The other people are anchors, positives and negatives within the batch as ever; they
    just leave no row behind. Two other bounds would be another method. With row numbers modulo the bank's size several
    people share a row: their embeddings would be averaged, and a row would be masked for people whose it is not. A
    queue of the newest rows (MoCo) has no row to smooth, since a person is gone from it before they come again, and its
    negatives are those of the last steps alone.

    The people are divided into `bank_rows` runs of consecutive numbers, as equal as can be, beginning at a random one;
    one of each is taken. Every person is taken with probability `bank_rows` / `samples` exactly, each data set gets its
    share of the rows to within two rows, and nothing as long as the data is ever held.

    Args:
        samples: of the run, at least 1.
        bank_rows: most rows of a bank; None, or as many as there are samples or more: all have one.
        generator: of the choice.

    Returns:
        int64 [bank_rows], ascending and distinct, 0 to `samples` - 1; None if all samples have a row.
    """
    if bank_rows is None or bank_rows >= samples:
        return None
    bounds = np.arange(bank_rows + 1, dtype=np.int64) * samples // bank_rows
    taken = bounds[:-1] + generator.integers(np.diff(bounds))
    return np.sort((taken + generator.integers(samples)) % samples)


@dataclass
class Bank:
    """Rows for N samples and which of them hold something. All its state is in its first four tensors.

    Attributes:
        rows: float32 [N, D], unit norm where visited, else 0.
        visited: bool [N].
        order: int64 [N + 1], its first `count` entries are the addresses of the visited rows in the order of their
            first visit; the last entry is always N and takes the writes that must not land.
        count: int64 scalar, number of visited rows.
        members: int64 [N] of `choose_members`, the number of the sample whose row is at each address; None: a sample's
            number is its address.
    """

    rows: Tensor
    visited: Tensor
    order: Tensor
    count: Tensor
    members: Tensor | None = None

    @classmethod
    def empty(cls, size: int, width: int, device: torch.device | str = "cpu") -> "Bank":
        """A bank of `size` rows of which none has been visited."""
        order = torch.zeros(size + 1, dtype=torch.int64, device=device)
        order[size] = size
        return cls(
            torch.zeros(size, width, device=device),
            torch.zeros(size, dtype=torch.bool, device=device),
            order,
            torch.zeros((), dtype=torch.int64, device=device),
        )

    @classmethod
    def random(
        cls, size: int, width: int, generator: np.random.Generator, device: torch.device | str = "cpu"
    ) -> "Bank":
        """The release's start: every row a random unit vector, and all count as visited."""
        rows_ND = torch.from_numpy(generator.standard_normal((size, width), np.float32)).to(device)
        return cls(
            F.normalize(rows_ND, dim=1),
            torch.ones(size, dtype=torch.bool, device=device),
            torch.arange(size + 1, device=device),
            torch.tensor(size, device=device),
        )

    def __len__(self) -> int:
        return len(self.rows)

    def _places(self, index_B: Tensor, present_B: Tensor) -> tuple[Tensor, Tensor]:
        """Return the addresses of samples, and which of those present have one; one that has none gets any address."""
        if self.members is None:
            return index_B, present_B
        address_B = torch.searchsorted(self.members, index_B).clamp(max=len(self) - 1)
        return address_B, present_B & (self.members[address_B] == index_B)

    def _samples(self, address: Tensor) -> Tensor:
        """Return the numbers of the samples at these addresses."""
        return address if self.members is None else self.members[address]

    def gather(self, u_K: Tensor) -> Drawn:
        """Up to K visited rows: all of them, each once, if there are at most K; else the rows that `u_K` draws, with
        replacement.

        Args:
            u_K: float64 uniform draws in [0, 1); draw u takes the visited row number floor(u * count).
        Raises:
            ValueError: the draws are not float64 (float32 has too few values to reach every row of a large bank).
        """
        if u_K.dtype != torch.float64:
            raise ValueError(f"bank draws must be float64 in [0, 1), they are {u_K.dtype}")
        if len(self) <= len(u_K):
            everywhere = torch.arange(len(self), device=u_K.device)
            return Drawn(self.rows.clone(), self._samples(everywhere), self.visited.clone())
        place_K = torch.arange(len(u_K), device=u_K.device)
        few = self.count <= len(u_K)
        index_K = self.order[torch.where(few, place_K, (u_K * self.count).long())]
        return Drawn(self.rows[index_K], self._samples(index_K), ~few | (place_K < self.count))

    def gather_per_sample(self, u_BK: Tensor) -> DrawnPerSample:
        """The release's draw.

        K of all N rows for every sample, visited or not, with replacement; `u_BK` as in `gather`.
        """
        if u_BK.dtype != torch.float64:
            raise ValueError(f"bank draws must be float64 in [0, 1), they are {u_BK.dtype}")
        return DrawnPerSample(self.rows, (u_BK * len(self)).long())

    def own(self, index_B: Tensor) -> Stale:
        """The rows of the samples with these numbers, as the bank last saw them."""
        address_B, has_row_B = self._places(index_B, torch.ones_like(index_B, dtype=torch.bool))
        return Stale(self.rows[address_B], self.visited[address_B] & has_row_B)

    @torch.no_grad()
    def update(self, embedding_BD: Tensor, index_B: Tensor, present_B: Tensor, momentum: float) -> None:
        """Row i becomes normalized(momentum * row + (1 - momentum) * embedding), or the embedding itself at its first
        visit.

        Samples that are not present, or have no row, change nothing. Where a sample comes several times, the last
        present one counts and the others do not: the result depends on the order of the rows alone. Several workers
        stay equal if each is given all rows in one order.

        Args:
            embedding_BD: any floating type; kept in the bank's, float32, and normalized here once more.
            index_B: int64, the samples' numbers.
            present_B: bool.
            momentum: 0 to 1; the published constant is 0.5.
        """
        # A sample without a row shares its address with one that has it, and is written like a repetition of that.
        address_B, present_B = self._places(index_B, present_B)
        place_B = torch.arange(len(address_B), device=address_B.device)
        same_BB = (address_B[:, None] == address_B) & present_B
        last_B = torch.where(same_BB, place_B, -1).amax(1)
        written_B = last_B >= 0
        fresh_BD = F.normalize(embedding_BD.to(self.rows.dtype), dim=1)[last_B.clamp(min=0)]
        old_BD, seen_B = self.rows[address_B], self.visited[address_B]
        mixed_BD = F.normalize(torch.lerp(fresh_BD, old_BD, momentum), dim=1)
        new_BD = torch.where(seen_B[:, None], mixed_BD, fresh_BD)
        # Repeated addresses all write the same values, so it does not matter which write lands.
        self.rows[address_B] = torch.where(written_B[:, None], new_BD, old_BD)
        self.visited[address_B] = seen_B | written_B
        first_B = (last_B == place_B) & ~seen_B
        self.order[torch.where(first_B, self.count + first_B.cumsum(0) - 1, len(self))] = torch.where(
            first_B, address_B, len(self)
        )
        self.count += first_B.sum()


def bank_state(banks: Mapping[str, Bank]) -> dict[str, Tensor]:
    """All banks as plain named tensors, `<modality>.<attribute>`; the tensors are the banks' own."""
    return {f"{name}.{part}": getattr(bank, part) for name, bank in banks.items() for part in _STATE}


def load_bank_state(banks: Mapping[str, Bank], state: Mapping[str, Tensor]) -> None:
    """Copies `state` into `banks`. Raises UserError, and changes nothing, where names, shapes or types differ."""
    own = bank_state(banks)
    if differ := sorted(own.keys() ^ state.keys()):
        raise UserError(
            f"memory bank: the saved state and this run differ in {', '.join(differ[:4])}; "
            "resume with the modalities that the state was saved with"
        )
    for name, tensor in own.items():
        saved = state[name]
        if saved.shape != tensor.shape or saved.dtype != tensor.dtype:
            raise UserError(
                f"memory bank {name}: saved as {saved.dtype} {list(saved.shape)}, "
                f"this run needs {tensor.dtype} {list(tensor.shape)}; "
                "it belongs to other data sets, another embedding width or other objective.bank_rows"
            )
    for name, tensor in own.items():
        tensor.copy_(state[name])

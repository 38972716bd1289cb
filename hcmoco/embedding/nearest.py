"""Find who is nearest between two sets of embeddings, in blocks: never are all similarities there at once.

For each block of queries the gallery is gone through twice. The first time looks only at the rows that are the same
person as a query, and finds the most similar of them; the second time counts who is more similar, and
keeps the nearest.

Shapes: Q queries of a block, G gallery entries of a block, D embedding, K nearest that are kept.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from hcmoco.embedding.sides import Side
from hcmoco.errors import UserError
from hcmoco.pretraining.probes.nearest import TIE

QUERIES, GALLERY = 2048, 8192
"""Rows of a block. Their similarities take 64 MB."""

KEPT_BYTES = 512 << 20
"""A gallery of at most so many bytes is read once, and kept."""


@dataclass(frozen=True)
class Found:
    """What the queries found. Rows of the gallery are numbers among those that have its modality.

    Attributes:
        queries, gallery: `Side.keys` of the two.
        nearest: int64 [N, K], most similar first; -1 where the gallery has fewer.
        similarity: float32 [N, K], cosines; -inf likewise.
        right: int64 [N], the most similar gallery row that is the same person; -1 where there is none.
        right_similarity: float32 [N]; -inf likewise.
        num_right: int64 [N], how many gallery rows are the same person.
        better, tied, tied_right: int64 [N]: other people who are more similar than `right`; who are as similar; and
            rows of the same person that are as similar, `right` among them.
        candidates: int64 [N], gallery rows that a query is compared with.
    """

    queries: pa.Table
    gallery: pa.Table
    nearest: np.ndarray
    similarity: np.ndarray
    right: np.ndarray
    right_similarity: np.ndarray
    num_right: np.ndarray
    better: np.ndarray
    tied: np.ndarray
    tied_right: np.ndarray
    candidates: np.ndarray

    @property
    def asked(self) -> np.ndarray:
        """Return bool [N]: queries with a right answer in the gallery."""
        return self.num_right > 0

    @property
    def ranks(self) -> np.ndarray:
        """Return float64 [N]: the mean rank of the first right answer, from 1, where who is as similar comes in random
        order; NaN without a right answer."""
        ranks = self.better + (self.tied + self.tied_right + 1) / (self.tied_right + 1)
        return np.where(self.asked, ranks, np.nan)

    def recall(self, count: int) -> float:
        """Return the share of the asked queries that have a right answer among the `count` nearest, with ties in random
        order; NaN where none is asked."""
        asked = self.asked
        values = [
            1 - _misses(int(wrong), int(right), count - int(better))
            for better, wrong, right in zip(self.better[asked], self.tied[asked], self.tied_right[asked], strict=True)
        ]
        return float(np.mean(values)) if values else math.nan

    def chance_recall(self, count: int) -> float:
        """Return what `recall` is for a blind guess."""
        pairs = np.stack([self.candidates, self.num_right], 1)[self.asked]
        different, counts = np.unique(pairs, axis=0, return_counts=True)
        values = [1 - _misses(int(total - right), int(right), count) for total, right in different]
        return float(np.average(values, weights=counts)) if len(values) else math.nan

    @property
    def median_rank(self) -> float:
        """Return the median of `ranks`; NaN where none is asked."""
        return float(np.nanmedian(self.ranks)) if self.asked.any() else math.nan

    @property
    def chance_median_rank(self) -> float:
        """Return the median over queries of the mean rank that a blind guess gives the first right answer."""
        asked = self.asked
        return float(np.median((self.candidates[asked] + 1) / (self.num_right[asked] + 1))) if asked.any() else math.nan


def _misses(wrong: int, right: int, drawn: int) -> float:
    """Probability that none of `drawn` entries, drawn without replacement, is right."""
    if drawn <= 0:
        return 1.0
    if drawn > wrong:
        return 0.0
    # The share of ways to place the right ones outside the drawn: a product of `drawn` factors.
    return math.prod((wrong - k) / (wrong + right - k) for k in range(drawn))


def search(
    query: Side,
    gallery: Side,
    *,
    match: str = "id",
    top: int = 5,
    device: torch.device | str = "cpu",
    queries: int = QUERIES,
    entries: int = GALLERY,
) -> Found:
    """Find for every query the nearest of the gallery, and where the same person is among them.

    A row is never its own answer: where both sides are the same modality of one set, it is left out of its gallery.

    Args:
        query, gallery: the two sides.
        match: what makes two rows the same person, of MATCHES.
        top: K.
        device: where similarities are computed.
        queries, entries: rows of a block at most.

    Raises:
        UserError: the two are not of one space, or one has nobody with its modality.
    """
    _check(query, gallery)
    keys, gallery_keys = query.keys(match), gallery.keys(match)
    for side, table in ((query, keys), (gallery, gallery_keys)):
        if not len(table):
            raise UserError(f"nobody in {side.embeddings.uri} has {side.modality}; give another modality")
    codes, gallery_codes = _codes(keys["key"], gallery_keys["key"])
    is_itself = query.embeddings.uri == gallery.embeddings.uri and query.modality == gallery.modality
    num_right = _num_right(codes, gallery_codes) - (is_itself & (codes >= 0))
    read = _kept(gallery, entries, len(gallery_keys))
    parts, first = [], 0
    for block in query.blocks(queries):
        rows = slice(first, first + len(block))
        own = torch.arange(first, first + len(block), device=device) if is_itself else None
        query_QD = _unit(block, device)
        codes_Q = torch.from_numpy(codes[rows]).to(device)
        best_Q, right_Q = _best_right(query_QD, codes_Q, read, gallery_codes, own)
        parts.append([right_Q, best_Q, *_compare(query_QD, codes_Q, best_Q, read, gallery_codes, own, top)])
        first += len(block)
    right, best, nearest, similarity, better, tied, tied_right = (
        torch.cat(column).cpu().numpy() for column in zip(*parts, strict=True)
    )
    candidates = np.full(len(keys), len(gallery_keys) - is_itself)
    return Found(keys, gallery_keys, nearest, similarity, right, best, num_right, better, tied, tied_right, candidates)


def _check(query: Side, gallery: Side) -> None:
    first, second = query.embeddings.manifest, gallery.embeddings.manifest
    for side in (query, gallery):
        if side.modality not in side.embeddings.manifest.shapes:
            has = ", ".join(name for name in side.embeddings.manifest.shapes if "_" not in name)
            raise UserError(f"{side.embeddings.uri} has no embeddings of {side.modality}; it has {has}")
    if first.weights["sha256"] != second.weights["sha256"]:
        raise UserError(
            f"{query.embeddings.uri} is of the weights {first.weights['name']} and {gallery.embeddings.uri} of "
            f"{second.weights['name']}, which are others: their embeddings cannot be compared; embed both with the same"
        )
    shapes = first.shapes[query.modality], second.shapes[gallery.modality]
    if shapes[0] != shapes[1]:
        raise UserError(
            f"embeddings of {query.modality} and {gallery.modality} have {shapes[0][0]} and {shapes[1][0]} numbers: "
            "these weights have no space that both share"
        )


def _codes(keys: pa.ChunkedArray, gallery_keys: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Number the keys: int64, equal for equal keys; -1 and -2, which are never equal, for what is not known."""
    known = pc.unique(keys).drop_null()
    return tuple(
        pc.index_in(each, value_set=known, skip_nulls=True).fill_null(missing).to_numpy().astype(np.int64)
        for each, missing in ((keys, -1), (gallery_keys, -2))
    )


def _num_right(codes: np.ndarray, gallery_codes: np.ndarray) -> np.ndarray:
    counts = np.bincount(gallery_codes[gallery_codes >= 0], minlength=max(1, codes.max(initial=0) + 1))
    return np.where(codes >= 0, counts[np.maximum(codes, 0)], 0)


def _kept(gallery: Side, entries: int, rows: int) -> "_Gallery":
    width = gallery.embeddings.manifest.shapes[gallery.modality][0]
    kept = list(gallery.blocks(entries)) if 2 * width * rows <= KEPT_BYTES else None
    return _Gallery(gallery, entries, kept)


@dataclass(frozen=True)
class _Gallery:
    """The blocks of a gallery, from memory or from its files."""

    side: Side
    entries: int
    kept: list[np.ndarray] | None

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        first = 0
        for block in self.side.blocks(self.entries) if self.kept is None else self.kept:
            yield first, block
            first += len(block)


def _unit(block: np.ndarray, device: torch.device | str) -> Tensor:
    """float32, of unit length again: float16 rounds it."""
    return torch.nn.functional.normalize(torch.from_numpy(np.ascontiguousarray(block)).to(device).float(), dim=1)


def _best_right(
    query_QD: Tensor, codes_Q: Tensor, gallery: _Gallery, gallery_codes: np.ndarray, own_Q: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Similarity and number of the most similar row of the same person; -inf and -1 where there is none."""
    device = query_QD.device
    best_Q = torch.full((len(query_QD),), -math.inf, device=device)
    right_Q = torch.full((len(query_QD),), -1, dtype=torch.int64, device=device)
    wanted = np.unique(codes_Q.cpu().numpy())
    for first, block in gallery.blocks():
        codes_G = gallery_codes[first : first + len(block)]
        rows = np.flatnonzero(np.isin(codes_G, wanted))
        if not len(rows):
            continue
        numbers_G = torch.from_numpy(first + rows).to(device)
        same_QG = codes_Q[:, None] == torch.from_numpy(codes_G[rows]).to(device)
        if own_Q is not None:
            same_QG &= own_Q[:, None] != numbers_G
        similarity_QG = (query_QD @ _unit(block[rows], device).T).masked_fill(~same_QG, -math.inf)
        most_Q, at_Q = similarity_QG.max(1)
        is_better_Q = most_Q > best_Q
        best_Q, right_Q = most_Q.where(is_better_Q, best_Q), numbers_G[at_Q].where(is_better_Q, right_Q)
    return best_Q, right_Q


def _compare(
    query_QD: Tensor,
    codes_Q: Tensor,
    best_Q: Tensor,
    gallery: _Gallery,
    gallery_codes: np.ndarray,
    own_Q: Tensor | None,
    top: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The nearest with their similarities, and the counts of `Found`: better, tied and tied_right."""
    device, count = query_QD.device, len(query_QD)
    nearest_QK = torch.full((count, top), -1, dtype=torch.int64, device=device)
    similar_QK = torch.full((count, top), -math.inf, device=device)
    better_Q, tied_Q, tied_right_Q = torch.zeros((3, count), dtype=torch.int64, device=device)
    for first, block in gallery.blocks():
        similarity_QG = query_QD @ _unit(block, device).T
        numbers_G = torch.arange(first, first + len(block), device=device)
        if own_Q is not None:
            similarity_QG = similarity_QG.masked_fill(own_Q[:, None] == numbers_G, -math.inf)
        same_QG = codes_Q[:, None] == torch.from_numpy(gallery_codes[first : first + len(block)]).to(device)
        over_QG = similarity_QG > best_Q[:, None] + TIE
        near_QG = (similarity_QG >= best_Q[:, None] - TIE) & ~over_QG & torch.isfinite(similarity_QG)
        better_Q += (over_QG & ~same_QG).sum(1)
        tied_Q += (near_QG & ~same_QG).sum(1)
        tied_right_Q += ((near_QG | over_QG) & same_QG).sum(1)
        values_QK, at_QK = similarity_QG.topk(min(top, len(block)), dim=1)
        both = torch.cat([similar_QK, values_QK], 1), torch.cat([nearest_QK, numbers_G[at_QK]], 1)
        similar_QK, order_QK = both[0].topk(top, dim=1)
        nearest_QK = both[1].gather(1, order_QK).masked_fill(similar_QK.isinf(), -1)
    return nearest_QK, similar_QK, better_Q, tied_Q, tied_right_Q

"""Randomness as a function of what it is for, so that no generator state is ever saved.

Every random choice of a run (an augmentation, a set of anchors, the negatives of a step) comes from a generator that is
keyed by the run's seed, a purpose and integers such as step, lane or sample. The same key gives the same numbers on any
worker, in any order, before and after a restart.
"""

import hashlib

import numpy as np


def make_rng(seed: int, purpose: str, *key: int) -> np.random.Generator:
    """A counter-based generator for one purpose.

    Philox (Salmon et al., SC 2011) with the 128-bit BLAKE2 digest of (seed, purpose, key) as its key: distinct keys
    give independent streams, and making one costs about 10 microseconds.
    """
    text = f"{int(seed)}/{purpose}/" + "/".join(str(int(part)) for part in key)
    digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))

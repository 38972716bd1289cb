"""Ways to break the files of a data set, drawn from a seed, and the proof that a reader lives through them."""

import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from hcmoco.data.schema import Person, Scene
from hcmoco.datasets.person_crop import Rejected, Skipped
from hcmoco.errors import UserError
from hcmoco.rng import make_rng

_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_IN_PLACE_OF_A_NUMBER = (
    b"nan",
    b"inf",
    b"-1",
    b"0",
    b"1e308",
    b"99999999999999999999",
    b"",
    b"null",
    b'"text"',
    b"true",
    b"[]",
    b"{}",
    b"-0.5",
    "\u00e9\u65e5".encode(),
)
_TEXTS = (".json", ".jsonl", ".skeleton", ".txt", ".lst")


def damage(root: Path, rng: np.random.Generator) -> str:
    """Breaks one file under `root` in one way; returns what was done, for the message of a failing test."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    path = files[rng.integers(len(files))]
    ways = [
        truncate,
        flip_bits,
        blank,
        insert,
        empty,
        replace_by_another,
        remove,
        turn_into_folder,
        link_out,
        turn_into_text,
    ]
    if path.suffix in _TEXTS:
        ways += 6 * [change_a_number] + 2 * [drop_a_line, repeat_a_line]
    way = ways[rng.integers(len(ways))]
    way(path, rng, files)
    return f"{way.__name__} {path.relative_to(root)}"


def truncate(path: Path, rng, _) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: rng.integers(len(data) + 1)])


def flip_bits(path: Path, rng, _) -> None:
    data = bytearray(path.read_bytes())
    # Half of the time near the beginning, where formats keep what sizes everything else.
    reach = len(data) if rng.random() < 0.5 else min(len(data), 512)
    for at in rng.integers(reach, size=rng.integers(1, 9)) if reach else ():
        data[at] ^= 1 << rng.integers(8)
    path.write_bytes(data)


def blank(path: Path, rng, _) -> None:
    data = bytearray(path.read_bytes())
    at = int(rng.integers(len(data) + 1))
    length = min(len(data) - at, int(rng.integers(1, 4096)))
    data[at : at + length] = (b"\0" if rng.random() < 0.5 else b"\xff") * length
    path.write_bytes(data)


def insert(path: Path, rng, _) -> None:
    data = path.read_bytes()
    at = rng.integers(len(data) + 1)
    path.write_bytes(data[:at] + rng.bytes(int(rng.integers(1, 64))) + data[at:])


def empty(path: Path, rng, _) -> None:
    path.write_bytes(b"")


def replace_by_another(path: Path, rng, files) -> None:
    other = files[rng.integers(len(files))]
    if other != path:
        shutil.copy(other, path)


def remove(path: Path, rng, _) -> None:
    path.unlink()


def turn_into_folder(path: Path, rng, _) -> None:
    path.unlink()
    path.mkdir()


def link_out(path: Path, rng, _) -> None:
    path.unlink()
    path.symlink_to("/etc/hostname" if rng.random() < 0.5 else path)  # out of the folder, or to itself


def turn_into_text(path: Path, rng, _) -> None:
    path.write_bytes("what you look for has moved \u2014 \u0000 \u00e9".encode())


def change_a_number(path: Path, rng, _) -> None:
    data = path.read_bytes()
    numbers = list(_NUMBER.finditer(data))
    for _ in range(int(rng.integers(1, 3))) if numbers else ():
        found = numbers[rng.integers(len(numbers))]
        new = _IN_PLACE_OF_A_NUMBER[rng.integers(len(_IN_PLACE_OF_A_NUMBER))]
        path.write_bytes(data[: found.start()] + new + data[found.end() :])


def drop_a_line(path: Path, rng, _) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    at = int(rng.integers(len(lines))) if lines else 0
    path.write_bytes(b"".join(lines[:at] + lines[at + 1 :]))


def repeat_a_line(path: Path, rng, _) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    at = int(rng.integers(len(lines))) if lines else 0
    path.write_bytes(b"".join(lines[: at + 1] + lines[at:]))


def lives_through(
    original: Path, scratch: Path, read_all: Callable[[Path], Iterable], number: int, *, seed: str
) -> str:
    """Damages a copy of the folder `original` in the way of `number` and reads all of it.

    `read_all` gives every outcome of every item of the data set in that folder. Each must be a record, Rejected or Skipped with a reason in
    words, or the whole is refused with a UserError of one line; an id never comes twice among the records. Anything else fails the test.

    Returns "read" (nothing set aside), "set aside" or "refused".
    """
    root = scratch / str(number)
    shutil.copytree(original, root, symlinks=True)
    what = f"mutation {number}: {damage(root, make_rng(0, seed, number))}"
    print(what)  # shown where pytest's own time limit ends it: nothing may wait for ever
    try:
        outcomes = list(read_all(root))
    except UserError as error:
        line = str(error)
        outcomes = None
    except AssertionError:
        raise
    except Exception as error:
        raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
    if outcomes is None:
        assert "\n" not in line, f"{what}: {line!r}"
        assert len(line) > 20, f"{what}: {line!r} tells a person nothing"
        shutil.rmtree(root)
        return "refused"
    for each in outcomes:
        assert isinstance(each, Person | Scene | Rejected | Skipped), f"{what}: {each!r}"
        if isinstance(each, Rejected | Skipped):
            assert len(each.reason.split()) >= 2, f"{what}: {each!r} tells a person nothing"
            assert not re.search("Error|Traceback|object at 0x", each.reason), f"{what}: {each!r} is not for people"
    ids = Counter(each.id for each in outcomes if isinstance(each, Person | Scene))
    assert not [id for id, count in ids.items() if count > 1], f"{what}: ids come twice: {ids.most_common(3)}"
    shutil.rmtree(root)
    return "set aside" if any(isinstance(each, Rejected) for each in outcomes) else "read"

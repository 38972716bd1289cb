"""Parse the text format of Kinect skeletons, `<tag>.skeleton`.

The first line is the number of frames. A frame is a line with its number of bodies, and per body a line of 10 values
that begins with the body's id, a line that says 25, and 25 lines of 12 values: x y z (meters), depth x y, color x y
(pixels), orientation w x y z, tracking state (0 none, 1 inferred, 2 tracked).

When a file is opened, only the few lines that structure it are parsed. Numbers are parsed for the requested frames:
every tenth frame is a tenth of the work. Nothing is allocated from a count in the file.
"""

from dataclasses import dataclass, field

import numpy as np

from hcmoco.data.skeletons import KINECT_25

JOINTS = len(KINECT_25)
VALUES = 12
MAX_BYTES = 16 << 20
"""Largest file that is read; one of ten seconds with two bodies has 2 MB."""
MAX_FRAMES = 10_000
"""Most frames of a file that is read; a clip has a few hundred at most."""
MAX_BODIES = 6
"""As many as Kinect tracks."""
_BODY_VALUES = 10
_ID_DIGITS = 20


@dataclass(frozen=True)
class Body:
    """One body of one frame.

    Attributes:
        id: the same for a body over all frames in which Kinect follows it.
        line: number of the line of its first joint.
    """

    id: int
    line: int


@dataclass(frozen=True)
class Joints:
    """The joints of one body in one frame, as the file has them. Pixels count from 0 at the center of the first one.

    Attributes:
        xyz: float64 [25, 3], meters in Kinect's camera space (x to the sensor's left, y up, z forward). Any number may
            be NaN.
        depth_xy: float64 [25, 2], pixels of the 512 x 424 depth picture.
        color_xy: float64 [25, 2], pixels of the 1920 x 1080 color picture.
        state: int64 [25], 0 none, 1 inferred, 2 tracked.
    """

    xyz: np.ndarray
    depth_xy: np.ndarray
    color_xy: np.ndarray
    state: np.ndarray


@dataclass(frozen=True)
class Skeleton:
    """A skeleton file.

    Attributes:
        lines: the file's lines.
        declared: frames that the first line declares.
        frames: the bodies of each whole frame, up to the first fault.
        fault: what is wrong with the file after those frames; "" for a whole file.
    """

    lines: list[bytes] = field(repr=False)
    declared: int
    frames: tuple[tuple[Body, ...], ...]
    fault: str

    def joints(self, body: Body) -> Joints:
        """Return the numbers of one body.

        Raises:
            ValueError: a line has another count of values, a value is not a number, or a state is unknown.
        """
        rows = [line.split() for line in self.lines[body.line : body.line + JOINTS]]
        for at, row in enumerate(rows):
            if len(row) != VALUES:
                raise ValueError(
                    f"line {body.line + at + 1} of the skeleton has {len(row)} values, a joint has {VALUES}"
                )
        values = np.array([[_number(text) for text in row] for row in rows])
        state = values[:, 11]
        known = np.isin(state, (0, 1, 2))
        if not known.all():
            raise ValueError(f"the skeleton has the tracking state '{state[~known][0]:g}'; there are 0, 1 and 2")
        return Joints(values[:, :3], values[:, 3:5], values[:, 5:7], state.astype(np.int64))


def _number(text: bytes) -> float:
    try:
        return float(text)
    except ValueError:
        if b"#" in text:  # NaN and infinity as Microsoft's runtime writes them: -1.#IND, 1.#QNAN, 1.#INF
            return float("nan")
        raise ValueError(f"the skeleton has {_quoted(text)} in place of a number") from None


def _quoted(text: bytes) -> str:
    return repr(text[:40].decode(errors="backslashreplace"))


def _count(lines: list[bytes], at: int, what: str) -> int:
    """The whole number that is alone on line `at`."""
    text = lines[at].strip()
    if not text.isdigit() or len(text) > 18:
        raise ValueError(f"line {at + 1} of the skeleton is {_quoted(text)}, not {what}")
    return int(text)


def parse(data: bytes) -> Skeleton:
    """Parse the structure of a skeleton file. Its frames end at the first fault.

    Raises:
        ValueError: the first line is not a number of frames from 1 to MAX_FRAMES.
    """
    lines = data.split(b"\n")
    declared = _count(lines, 0, "a number of frames")
    if not 0 < declared <= MAX_FRAMES:
        raise ValueError(f"the skeleton declares {declared} frames; 1 to {MAX_FRAMES} are read")
    frames: list[tuple[Body, ...]] = []
    at, fault = 1, ""
    while len(frames) < declared and not fault:
        try:
            bodies, at = _frame(lines, at)
            frames.append(bodies)
        except ValueError as error:
            fault = str(error)
        except IndexError:
            fault = f"the skeleton ends after {len(frames)} of the {declared} frames that it declares"
    if not fault and any(line.strip() for line in lines[at:]):
        fault = f"the skeleton goes on after the {declared} frames that it declares"
    return Skeleton(lines, declared, tuple(frames), fault)


def _frame(lines: list[bytes], at: int) -> tuple[tuple[Body, ...], int]:
    """The bodies of the frame that begins on line `at`, and the line after it; IndexError if the file ends before."""
    if at == len(lines) - 1 and not lines[at].strip():
        raise IndexError
    count = _count(lines, at, "a number of bodies")
    if count > MAX_BODIES:
        raise ValueError(f"line {at + 1} of the skeleton declares {count} bodies; Kinect follows {MAX_BODIES} at most")
    bodies, at = [], at + 1
    for _ in range(count):
        head = lines[at].split()
        if len(head) != _BODY_VALUES or not (head[0].isdigit() and len(head[0]) <= _ID_DIGITS):
            lines[at + 1]  # a last line that is cut off is a file that ends
            raise ValueError(
                f"line {at + 1} of the skeleton has {len(head)} values, a body begins with its id and 9 more"
            )
        if _count(lines, at + 1, "a number of joints") != JOINTS:
            raise ValueError(
                f"line {at + 2} of the skeleton declares {lines[at + 1].strip().decode()} joints; Kinect has {JOINTS}"
            )
        bodies.append(Body(int(head[0]), at + 2))
        at += 2 + JOINTS
        lines[at - 1]
    return tuple(bodies), at

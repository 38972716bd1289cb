"""Human3.6M's videos and part labels as they are given out, of synthetic people: MP4, and MATLAB's v7.3 files, byte for byte."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import h5py
import numpy as np

from hcmoco.data.body_parts import RAW_IDS
from hcmoco.synthetic import PeopleConfig, render_person

RATE = 50
_HEADER = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Tue Mar  4 11:02:09 2014 HDF5 schema 1.00 ."
_USER_BLOCK = 512


@dataclass(frozen=True)
class Clip:
    """What was put in: a frame for each label, uint8 [F, H, W, 3], and train ids uint8 [F, H, W]."""

    rgb: np.ndarray
    parts: np.ndarray


def make_clip(seed: int, frames: int, size: int = 96, height: int | None = None) -> Clip:
    """A person who slides to the right by a pixel each frame; `height` above `size` adds rows of the room below."""
    seen = render_person(PeopleConfig(size=size, seed=seed), 0)
    below = ((0, (height or size) - size), (0, 0))
    rgb, parts = np.pad(seen.rgb, (*below, (0, 0)), mode="edge"), np.pad(seen.parts, below)
    return Clip(
        np.stack([np.roll(rgb, n % 20, 1) for n in range(frames)]),
        np.stack([np.roll(parts, n % 20, 1) for n in range(frames)]),
    )


def write_mp4(path: Path, rgb: np.ndarray) -> None:
    """uint8 [F, H, W, 3] as MPEG-4 video of 50 frames a second."""
    temporary = path.with_name("video.mp4")  # OpenCV takes a % in a path for a pattern
    video = cv2.VideoWriter(str(temporary), cv2.VideoWriter_fourcc(*"mp4v"), RATE, rgb.shape[2:0:-1])
    assert video.isOpened()
    for frame in rgb:
        video.write(frame[..., ::-1])
    video.release()
    temporary.rename(path)


def write_mat(path: Path, matrices: list[np.ndarray], **changes) -> None:
    """A v7.3 file with the 1 x N cell array Feat of matrices [rows, columns], as MATLAB's `save -v7.3` lays it out.

    A user block of 512 bytes with MATLAB's text, columns first, a cell array of object references into the group #refs#, and the class of
    every variable as an attribute. `changes`: keyword arguments of h5py's create_dataset for the matrices.
    """
    with h5py.File(path, "w", userblock_size=_USER_BLOCK, libver=("earliest", "v108")) as file:
        cells = file.create_dataset("Feat", (len(matrices), 1), h5py.ref_dtype)
        cells.attrs["MATLAB_class"] = np.bytes_("cell")
        group = file.create_group("#refs#")
        canonical = group.create_dataset("a", data=np.zeros(2, np.uint64))
        canonical.attrs["MATLAB_class"] = np.bytes_("canonical empty")
        canonical.attrs["MATLAB_empty"] = np.uint8(1)
        for number, matrix in enumerate(matrices):
            options = {"compression": "gzip", "compression_opts": 3, "chunks": matrix.T.shape, **changes}
            if not matrix.size:  # its size, as values
                matrix, options = np.array(matrix.shape, np.uint64), {}
            stored = group.create_dataset(_reference_name(number + 1), data=matrix.T, **options)
            stored.attrs["MATLAB_class"] = np.bytes_(
                {"float64": "double", "bool": "logical"}.get(str(matrix.dtype), str(matrix.dtype))
            )
            cells[number, 0] = stored.ref
    with path.open("r+b") as file:
        file.write(_HEADER.ljust(116) + bytes(8) + b"\x00\x02" + b"IM")


def _reference_name(number: int) -> str:
    """a, b, ... z, A, ... Z, aa, ...: how MATLAB calls the objects of #refs#."""
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    name = ""
    while True:
        name = letters[number % len(letters)] + name
        number = number // len(letters) - 1
        if number < 0:
            return name


def write_video(
    root: Path, subject: str, stem: str, clip: Clip, *, video_frames: int | None = None, label_frames: int | None = None
) -> None:
    """One video and its labels, each cut to so many frames."""
    videos, labels = root / subject / "Videos", root / subject / "MySegmentsMat" / "PartLabels"
    for folder in (videos, labels):
        folder.mkdir(parents=True, exist_ok=True)
    write_mp4(videos / f"{stem}.mp4", clip.rgb[:video_frames])
    write_mat(labels / f"{stem}.mat", [np.array(RAW_IDS, np.uint8)[parts] for parts in clip.parts[:label_frames]])


def write_h36m(root: Path, subjects=("S1", "S9"), frames: int = 60, size: int = 96) -> dict[str, Clip]:
    """Two videos, with cameras of two heights, of each subject; returns them by `<subject>/<stem>`."""
    clips = {}
    for number, subject in enumerate(subjects):
        for camera, (stem, height) in enumerate((("Directions 1.54138969", size + 2), ("Walking Dog.55011271", size))):
            clips[f"{subject}/{stem}"] = clip = make_clip(10 * number + camera, frames, size, height)
            write_video(root, subject, stem, clip)
    return clips


def damage_frame(data: bytes, number: int) -> bytes:
    """The MP4 with zeros for the data of one frame, as after a failed copy."""
    start, size = _frame_data(data, number)
    return data[:start] + bytes(size) + data[start + size :]


def skip_frame(data: bytes, number: int) -> bytes:
    """The MP4 with a frame that says that nothing is coded, which decoders pass over without a fault (ISO/IEC 14496-2, vop_coded = 0)."""
    start, size = _frame_data(data, number)
    frame = data[start : start + size]
    assert frame[:4] == b"\0\0\1\xb6"
    bits = "".join(f"{byte:08b}" for byte in frame[4:12])
    # vop_coding_type, ones and a zero of modulo_time_base, a marker, 6 bits of time at 50 frames a second, a marker.
    end = bits.index("0", 2) + 1 + 1 + 6 + 1
    bits = bits[:end] + "00"
    bits += "1" * (-len(bits) % 8)
    head = frame[:4] + int(bits, 2).to_bytes(len(bits) // 8, "big")
    return data[:start] + head.ljust(size, b"\0") + data[start + size :]


def hold_frame(data: bytes, number: int) -> bytes:
    """The MP4 with a frame that is shown for three times as long as the others."""
    at = data.index(b"stts") + 8
    count, delta = (int.from_bytes(data[at + k : at + k + 4], "big") for k in (4, 8))
    entries = [(number, delta), (1, 3 * delta), (count - number - 1, delta)]
    table = len(entries).to_bytes(4, "big") + b"".join(n.to_bytes(4, "big") + d.to_bytes(4, "big") for n, d in entries)
    data = bytearray(data[:at] + table + data[at + 12 :])
    for box in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stts"):
        size = data.index(box) - 4
        data[size : size + 4] = (int.from_bytes(data[size : size + 4], "big") + 16).to_bytes(4, "big")
    # The edit list would cut the film at its old length.
    return bytes(data).replace(b"edts", b"free")


def _frame_data(data: bytes, number: int) -> tuple[int, int]:
    """Where the data of a frame begin and how many bytes they have, in a file of OpenCV's, which has one chunk."""
    at = data.index(b"stsz") + 12
    sizes = np.frombuffer(data, ">u4", int.from_bytes(data[at : at + 4], "big"), at + 4).tolist()
    return data.index(b"mdat") + 4 + sum(sizes[:number]), sizes[number]

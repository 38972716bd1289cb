"""Write the folder of predictions.

<out>/
  about.json          the options, the model and the coordinates; `finished` is true when all is written
  predictions.jsonl   one JSON object per image or frame, in the order in which they were given
  labels/             label images, <image>.<number of the person>.png
  overlays/           the prediction over each image, over a legend, <image>.png
  videos/             the prediction over each video, <video>.mp4
  pictures/           each image beside its prediction, small, <image>.jpg
  coco/               COCO results, see coco.py
  index.jpg           the first images, small
  legend.png          what the colors mean
"""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from hcmoco.data.codecs import encode_png
from hcmoco.errors import UserError
from hcmoco.inference import coco
from hcmoco.inference.inputs import ImageFile
from hcmoco.inference.video.frames import VideoFacts, VideoFrame
from hcmoco.inference.video.writer import VideoWriter
from hcmoco.visualization.sheet import write_text

if TYPE_CHECKING:  # the programs look at this folder before they load PyTorch, which those modules do
    from hcmoco.inference.adapter import ImageResult, PreparedImage

ABOUT, LINES, INDEX, LEGEND = "about.json", "predictions.jsonl", "index.jpg", "legend.png"
FORMAT, FORMAT_VERSION = "hcmoco-predictions", 1
_FOLDERS = ("labels/", "overlays/", "pictures/", "videos/")
_LONGEST_NAME = 200
_INDEXED, _INDEX_HEIGHT, _INDEX_WIDTH, _CAPTION = 12, 200, 1600, 20
_LEGEND_WIDTH, _INDEX_LEGEND = 480, 820


class Output:
    """Writes the folder. The files of an earlier run are removed first.

    Args:
        folder: for the results.
        facts: JSON values for about.json.
        form: of the COCO results; None writes none.
        ids: of the images in them, see `coco.image_ids`.
        legend: returns the legend of a width, or None; see `Adapter.legend`.
        threads: of the encoder of videos.
    Raises:
        UserError: the folder holds other files, or cannot be written.
    """

    def __init__(
        self,
        folder: str | Path,
        facts: dict[str, Any],
        *,
        form: coco.CocoForm | None = None,
        ids: dict[str, int] | None = None,
        legend: Callable[[int], np.ndarray | None] = lambda width: None,
        threads: int = 1,
    ):
        self.folder = Path(folder)
        self._facts = {"format": FORMAT, "format_version": FORMAT_VERSION, **facts, "finished": False}
        self._index: list[tuple[str, np.ndarray]] = []
        self._legend, self._threads = legend, threads
        self._video: VideoWriter | None = None
        self._video_size = (0, 0)
        self._videos: list[dict[str, Any]] = []
        check_out(self.folder)
        for name in _files_there(self.folder):
            (self.folder / name).unlink(missing_ok=True)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # First of all files: from here on the folder is known as this program's own.
            self._write_about()
        except OSError as error:
            raise UserError(
                f"--out {folder} cannot be written to: {error.strerror or error}; choose another folder"
            ) from None
        self._lines = (self.folder / LINES).open("w", encoding="ascii")
        self._coco = None if form is None else coco.CocoWriter(self.folder / coco.FOLDER, form, ids)
        small = legend(_LEGEND_WIDTH)
        if small is not None:
            (self.folder / LEGEND).write_bytes(encode_png(small))

    def add(
        self,
        item: ImageFile | VideoFrame,
        line: dict[str, Any],
        prepared: "PreparedImage",
        result: "ImageResult",
        preview: np.ndarray | None,
    ) -> None:
        """Write an image's files, and then its line, which names them.

        Args:
            item: the image.
            line: JSON values; gets the names of the files.
            prepared: the image as it was read.
            result: its predictions.
            preview: uint8 [h, w, 3], RGB: the image beside its prediction; None for a frame but the first of a video.
        """
        for (number, key), png in result.labels.items():
            line["people"][number][key] = self._write(f"labels/{file_name(item.name, f'.{number}.png')}", png)
        if isinstance(item, VideoFrame):
            line["overlay"] = self._add_frame(item, result.overlay)
        else:
            overlay = encode_png(self._over_legend([result.overlay, *result.panels]), compression=4)
            line["overlay"] = self._write(f"overlays/{file_name(item.name, '.png')}", overlay)
            assert preview is not None
            line["picture"] = self._write(f"pictures/{file_name(item.name, '.jpg')}", _jpeg(preview))
        if self._coco is not None:
            facts = _frame_facts(item) if isinstance(item, VideoFrame) else {}
            self._coco.add(item.name, prepared.width, prepared.height, result.coco, **facts)
        self._line(line)
        if preview is not None and len(self._index) < _INDEXED:
            self._index.append((item.name, preview))

    def add_error(self, item: ImageFile | VideoFrame | None, line: dict[str, Any]) -> None:
        """Write the line of an image that was rejected. A frame of a video is shown without a prediction."""
        if isinstance(item, VideoFrame):
            shown = item.shown()
            write_text(shown, "no prediction", 8, 22, scale=0.6, color=(255, 80, 80))
            line["overlay"] = self._add_frame(item, shown)
        self._line(line)

    def end_video(self, facts: VideoFacts) -> None:
        """Complete the file of a video."""
        written = self._video is not None
        self._close_video()
        self._videos.append(
            {
                "video": facts.name, "frames": facts.seen, "frames_per_second": round(float(facts.rate), 6),
                "every": facts.every, "faults": facts.faults(), "damaged_frames": facts.damaged[:1000],
                **({"overlay": video_name(facts)} if written else {}),
            }
        )  # fmt: skip

    def finish(self, counts: dict[str, Any]) -> None:
        """Write the index, and mark the results as complete.

        Args:
            counts: JSON values for about.json.
        """
        if self._index:
            sheet = _index_sheet(self._index, self._legend(_INDEX_LEGEND))
            (self.folder / INDEX).write_bytes(_jpeg(sheet))
        if self._coco is not None:
            self._coco.finish()
        self._facts.update(counts, **({"videos": self._videos} if self._videos else {}), finished=True)
        self._write_about()
        self.close()

    def close(self) -> None:
        """Close what is open: lines and videos keep what they have, COCO results that are not whole go."""
        self._close_video()
        self._lines.close()
        if self._coco is not None:
            self._coco.close()

    def _add_frame(self, item: VideoFrame, rgb_HW3: np.ndarray) -> str:
        """Add a frame to the video of its file, and return the name of that video."""
        height, width = rgb_HW3.shape[:2]
        name, facts = video_name(item.facts), item.facts
        if self._video is None:
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            self._video_size = width, height
            self._video = VideoWriter(
                path, width, height, rate=facts.rate / facts.every, time_base=facts.time_base,
                pixel_aspect=facts.pixel_aspect, threads=self._threads,
            )  # fmt: skip
        if (width, height) != self._video_size:
            facts.resized += 1
            rgb_HW3 = cv2.resize(rgb_HW3, self._video_size, interpolation=cv2.INTER_AREA)
        self._video.add(rgb_HW3, item.pts)
        return name

    def _close_video(self) -> None:
        if self._video is not None:
            video, self._video = self._video, None
            video.close()

    def _over_legend(self, views: list[np.ndarray]) -> np.ndarray:
        """The views side by side, over the legend."""
        row = np.concatenate(views, axis=1)
        legend = self._legend(max(row.shape[1], _LEGEND_WIDTH))
        return row if legend is None else _stacked([row, legend])

    def _line(self, line: dict[str, Any]) -> None:
        # ASCII and no NaN: any JSON reader takes it, also where a file's name is no text.
        print(json.dumps(line, allow_nan=False), file=self._lines, flush=True)

    def _write(self, name: str, data: bytes) -> str:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return name

    def _write_about(self) -> None:
        (self.folder / ABOUT).write_text(json.dumps(self._facts, indent=1, allow_nan=False) + "\n", encoding="ascii")


def line_of(item: ImageFile | VideoFrame) -> dict[str, Any]:
    """Return what a line says of an image or frame before anything is predicted."""
    return {"image": item.facts.name, **_frame_facts(item)} if isinstance(item, VideoFrame) else {"image": item.name}


def _frame_facts(item: VideoFrame) -> dict[str, Any]:
    seconds = float(item.pts * item.facts.time_base)
    return {"frame": item.frame.number, "seconds": round(seconds, 6)}


def video_name(facts: VideoFacts) -> str:
    """Return the path of the overlay of a video in the folder."""
    return f"videos/{file_name(facts.name, '' if facts.name.lower().endswith('.mp4') else '.mp4')}"


def check_out(folder: Path) -> None:
    """Raise UserError for a folder that holds files other than earlier predictions."""
    if folder.is_dir():
        if any(folder.iterdir()) and not _is_ours(folder):
            raise UserError(
                f"--out {folder} holds other files and no earlier predictions; give an empty or a new folder"
            )
    elif folder.exists():
        raise UserError(f"--out {folder} is a file; give a folder")


def file_name(picture: str, suffix: str) -> str:
    """Return the path of a file that belongs to an image: the image's own name with `suffix` appended.

    Different images never share one. Names that are too long for a file system, and paths that would lead out of the
    folder (an absolute one, or one with `..`, of a list), end in a digest of themselves.

    Args:
        picture: name of the image, with `/`.
        suffix: e.g. ".jpg".
    """
    path = PurePosixPath(picture)
    inside = PurePosixPath(*(part for part in path.parts if part not in ("/", "//", "..")))
    name = inside.name
    if inside != path:
        name = f"{inside.stem}-{hashlib.sha256(os.fsencode(picture)).hexdigest()[:12]}{inside.suffix}"
    data = name.encode(errors="surrogateescape")
    if len(data) > _LONGEST_NAME:
        kept = data[: _LONGEST_NAME - 20].decode(errors="ignore")
        name = f"{kept}-{hashlib.sha256(data).hexdigest()[:16]}"
    return (inside.parent / f"{name}{suffix}").as_posix()


def _is_ours(folder: Path) -> bool:
    try:
        return json.loads((folder / ABOUT).read_bytes())["format"] == FORMAT
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _files_there(folder: Path) -> list[str]:
    """Files of an earlier run: those that its lines name, and its own."""
    names: list[str] = []
    lines = folder / LINES
    for text in lines.read_text(encoding="utf-8", errors="replace").splitlines() if lines.is_file() else ():
        try:
            line = json.loads(text)
            people = [value for person in line["people"] for value in person.values()]
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # cut short
        for name in [line.get("picture"), line.get("overlay"), *people]:
            if isinstance(name, str) and name.startswith(_FOLDERS) and ".." not in PurePosixPath(name).parts:
                names.append(name)
    own = [each.relative_to(folder).as_posix() for each in sorted((folder / coco.FOLDER).glob("*.json*"))]
    return [*dict.fromkeys(names), *own, INDEX, LEGEND, LINES]


def _jpeg(rgb_HW3: np.ndarray) -> bytes:
    done, data = cv2.imencode(".jpg", np.ascontiguousarray(rgb_HW3[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 90])
    assert done
    return data.tobytes()


def _index_sheet(pictures: list[tuple[str, np.ndarray]], legend: np.ndarray | None) -> np.ndarray:
    """uint8 [H, W, 3]: the previews with their names, two abreast unless they are wide, over the legend."""
    cells = []
    for name, preview in pictures:
        zoom = _INDEX_HEIGHT / preview.shape[0]
        small = cv2.resize(
            preview, (max(1, round(preview.shape[1] * zoom)), _INDEX_HEIGHT), interpolation=cv2.INTER_AREA
        )
        caption = np.zeros((_CAPTION, small.shape[1], 3), np.uint8)
        text = name.encode("ascii", "replace").decode()[-max(1, small.shape[1] // 8) :]
        write_text(caption, text, 4, _CAPTION - 6)
        cells.append(np.concatenate([caption, small]))
    abreast = 2 if len(cells) > 1 and max(each.shape[1] for each in cells) <= _INDEX_WIDTH // 2 else 1
    widths = [max(each.shape[1] for each in cells[column::abreast]) for column in range(abreast)]
    lines = []
    for start in range(0, len(cells), abreast):
        line = [
            np.pad(each, ((0, 6), (0, width - each.shape[1] + 6), (0, 0)))
            for each, width in zip(cells[start:], widths, strict=False)
        ]
        lines.append(np.concatenate(line, axis=1))
    if legend is not None:
        lines.append(legend)
    return _stacked(lines)


def _stacked(images: list[np.ndarray]) -> np.ndarray:
    """uint8 [H, W, 3]: images under each other, black on their right where they are narrower."""
    width = max(each.shape[1] for each in images)
    return np.concatenate([np.pad(each, ((0, 0), (0, width - each.shape[1]), (0, 0))) for each in images])

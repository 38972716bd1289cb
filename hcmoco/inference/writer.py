"""Write the folder of predictions.

<out>/
  about.json          the options, the model and the coordinates; `finished` is true when all is written
  predictions.jsonl   one JSON object per image, in the order of their names
  labels/             label images, <image>.<number of the person>.png
  pictures/           each image beside its prediction, <image>.jpg
  index.jpg           the first of them, small
"""

import hashlib
import json
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np

from hcmoco.errors import UserError
from hcmoco.visualization.sheet import write_text

ABOUT, LINES, INDEX = "about.json", "predictions.jsonl", "index.jpg"
FORMAT, FORMAT_VERSION = "hcmoco-predictions", 1
_LONGEST_NAME = 200
_INDEXED, _INDEX_HEIGHT, _INDEX_WIDTH, _CAPTION = 12, 200, 1600, 20


class Output:
    """Writes the folder. The files of an earlier run are removed first.

    Args:
        folder: for the results.
        facts: JSON values for about.json.
    Raises:
        UserError: the folder holds other files, or cannot be written.
    """

    def __init__(self, folder: str | Path, facts: dict[str, Any]):
        self.folder = Path(folder)
        self._facts = {"format": FORMAT, "format_version": FORMAT_VERSION, **facts, "finished": False}
        self._index: list[tuple[str, np.ndarray]] = []
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

    def add(self, line: dict[str, Any], labels: dict[tuple[int, str], bytes], preview: np.ndarray) -> None:
        """Write an image's files, and then its line, which names them.

        Args:
            line: JSON values; gets the names of the files.
            labels: PNG bytes by (number of the person, key in their JSON object).
            preview: uint8 [h, w, 3], RGB.
        """
        for (number, key), png in labels.items():
            line["people"][number][key] = self._write(f"labels/{file_name(line['image'], f'.{number}.png')}", png)
        line["picture"] = self._write(f"pictures/{file_name(line['image'], '.jpg')}", _jpeg(preview))
        self._line(line)
        if len(self._index) < _INDEXED:
            self._index.append((line["image"], preview))

    def add_error(self, line: dict[str, Any]) -> None:
        """Write the line of an image that was rejected."""
        self._line(line)

    def finish(self, counts: dict[str, Any], legend: np.ndarray | None) -> None:
        """Write the index, and mark the results as complete.

        Args:
            counts: JSON values for about.json.
            legend: uint8 [h, w, 3], RGB, for the index; or None.
        """
        if self._index:
            (self.folder / INDEX).write_bytes(_jpeg(_index_sheet(self._index, legend)))
        self._facts.update(counts, finished=True)
        self._write_about()
        self.close()

    def close(self) -> None:
        self._lines.close()

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

    Different images never share one. Names that are too long for a file system end in a digest of themselves.

    Args:
        picture: name of the image, with `/`.
        suffix: e.g. ".jpg".
    """
    path = PurePosixPath(picture)
    name = path.name
    data = name.encode(errors="surrogateescape")
    if len(data) > _LONGEST_NAME:
        kept = data[: _LONGEST_NAME - 20].decode(errors="ignore")
        name = f"{kept}-{hashlib.sha256(data).hexdigest()[:16]}"
    return (path.parent / f"{name}{suffix}").as_posix()


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
        for name in [line.get("picture"), *people]:
            if (
                isinstance(name, str)
                and name.startswith(("labels/", "pictures/"))
                and ".." not in PurePosixPath(name).parts
            ):
                names.append(name)
    return [*names, INDEX, LINES]


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
    width = max(each.shape[1] for each in lines)
    return np.concatenate([np.pad(each, ((0, 0), (0, width - each.shape[1]), (0, 0))) for each in lines])

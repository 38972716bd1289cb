"""An ONNX file as a function of pictures, run by onnxruntime.

What such a file says: names, shapes and types of its inputs and outputs, and metadata that a program may have added. It
says neither in which order and range colors are expected nor what its outputs mean. The format:
https://github.com/onnx/onnx/blob/main/docs/IR.md (graphs, inputs and outputs, metadata).

Shapes: N pictures, H, W of the model's input.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hcmoco.detection.options import DetectOptions
from hcmoco.errors import UserError, one_line
from hcmoco.models.normalization import RGB_MEAN, RGB_STD

EXTRA = "detect"
_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}
_CUDA = "CUDAExecutionProvider"


@dataclass(frozen=True, eq=False)
class OnnxModel:
    """A model that takes pictures of one size.

    Attributes:
        path: of the file, for messages.
        session: onnxruntime's.
        channels_first: its input is [N, 3, H, W], else [N, H, W, 3].
        size: width and height of its input, pixels.
        one_by_one: it takes one picture at a time.
        dtype: of its input.
        colors: as of DetectOptions; "": neither the file nor the options say, see `check_colors`.
        metadata: what a program added, by name.
    """

    path: Path
    session: Any
    channels_first: bool
    size: tuple[int, int]
    one_by_one: bool
    dtype: Any
    colors: str
    metadata: dict[str, str]

    def run(self, pictures_NHW3: np.ndarray) -> list[np.ndarray]:
        """Return the outputs for uint8 pictures in RGB, float32, each with N in front.

        Raises:
            ValueError: the model fails on them.
        """
        if self.one_by_one and len(pictures_NHW3) > 1:
            each = [self.run(picture[None]) for picture in pictures_NHW3]
            return [np.concatenate(outputs) for outputs in zip(*each, strict=True)]
        x = self._expected(pictures_NHW3)
        name = self.session.get_inputs()[0].name
        try:
            found = self.session.run(None, {name: np.ascontiguousarray(x)})
        except Exception as error:  # onnxruntime's errors have no common type but this
            raise ValueError(f"{self.path.name} fails: {one_line(error)}") from None
        return [np.asarray(output, np.float32) for output in found]

    def _expected(self, pictures_NHW3: np.ndarray) -> np.ndarray:
        order, _, scale = self.colors.partition("-")
        x: np.ndarray = pictures_NHW3.astype(np.float32)
        if scale != "0-255":
            x /= 255
        if scale == "imagenet":
            x = (x - np.array(RGB_MEAN, np.float32)) / np.array(RGB_STD, np.float32)
        x = x[..., ::-1] if order == "bgr" else x
        return (x.transpose(0, 3, 1, 2) if self.channels_first else x).astype(self.dtype)

    def check_colors(self, *, asks: bool) -> None:
        """Raise UserError if it is not known which colors the model expects.

        Args:
            asks: as of `open_onnx`.
        """
        if self.colors:
            return
        raise UserError(
            f"{self.path} does not say which colors it expects; "
            + (
                "give --detect-input rgb-imagenet (MMPose, ViTPose, HRNet), rgb-0-1 (YOLO), rgb-0-255, or bgr instead "
                "of rgb"
                if asks
                else "--detect-input is of --detect alone: give a Keypoint R-CNN, or a YOLO pose model that "
                "Ultralytics' export wrote, which says it"
            )
        )

    def blank_shapes(self) -> list[tuple[int, ...]]:
        """Return the shapes of the outputs for one black picture; raise UserError if the model fails on it."""
        width, height = self.size
        try:
            return [each.shape for each in self.run(np.zeros((1, height, width, 3), np.uint8))]
        except ValueError as error:
            raise UserError(f"{self.path}: it does not run on a picture of {width} x {height}: {error}") from None


def open_onnx(
    path: Path, data: bytes, options: DetectOptions, *, asks: bool = True, threads: int = 1, cuda: bool = False
) -> OnnxModel:
    """Open a model.

    Args:
        path: of its file, for messages.
        data: of the file.
        options: what the user says of its input.
        asks: whether options can say it, as of --detect; else the file has to, as that of --detect-boxes.
        threads: of its arithmetic.
        cuda: compute on the GPU.

    Raises:
        UserError: onnxruntime is not installed or lacks CUDA, the file is no such model, its weights lie elsewhere, its
            input is no picture of a size that it or `options` say; the line names the option.
    """
    try:
        import onnxruntime
    except ImportError:
        raise UserError(f"{path} needs onnxruntime, which is not installed; pip install 'hcmoco[{EXTRA}]'") from None
    if cuda and _CUDA not in onnxruntime.get_available_providers():
        raise UserError(
            "the installed onnxruntime has no CUDA; install onnxruntime-gpu in its place, or leave out --gpus"
        )
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.log_severity_level = 4  # errors are raised, and told in one line
    providers = [_CUDA, "CPUExecutionProvider"] if cuda else ["CPUExecutionProvider"]
    try:
        # From memory, so that the file's SHA-256 tells everything: weights in further files are not found.
        session = onnxruntime.InferenceSession(data, settings, providers=providers)
    except Exception as error:
        reason = one_line(error)
        if "xternal" in reason or "model_path" in reason:
            raise UserError(
                f"{path} keeps its weights in another file; write both as one, with "
                "onnx.save(onnx.load(path), path, save_as_external_data=False)"
            ) from None
        raise UserError(
            f"{path} is no ONNX model that onnxruntime reads, or is damaged or incomplete: {reason}"
        ) from None
    return _described(path, session, options, asks)


def is_ultralytics(metadata: dict[str, str]) -> bool:
    """Return whether Ultralytics' export wrote the file; it says so, and its models take RGB from 0 to 1.

    Source: https://docs.ultralytics.com/modes/export, engine/exporter.py of github.com/ultralytics/ultralytics.
    """
    return metadata.get("author") == "Ultralytics"


def _described(path: Path, session: Any, options: DetectOptions, asks: bool) -> OnnxModel:
    given = session.get_inputs()
    shape: Sequence[Any] = given[0].shape if len(given) == 1 else ()
    axes = [axis for axis in (1, 3) if len(shape) == 4 and shape[axis] == 3]
    if len(axes) != 1 or given[0].type not in _TYPES:
        shown = ", ".join(f"{each.name} {each.shape} {each.type}" for each in given)
        raise UserError(
            f"{path} takes {shown}; read are models of one input, [N, 3, H, W] or [N, H, W, 3], float or uint8"
        )
    first = axes[0] == 1
    height, width = (shape[2], shape[3]) if first else (shape[1], shape[2])
    size = options.detect_size
    if isinstance(width, int) and isinstance(height, int):
        if size not in (None, (width, height)):
            raise UserError(f"{path} takes pictures of {width} x {height}; leave --detect-size out")
        size = (width, height)
    if size is None:
        how = (
            "give --detect-size width,height" if asks else "--detect-size is of --detect alone: export it for one size"
        )
        raise UserError(f"{path} does not say how large its input is; {how}")
    if isinstance(shape[0], int) and shape[0] != 1:
        raise UserError(f"{path} takes {shape[0]} pictures at once; export it for one, or for any number")
    meta = dict(session.get_modelmeta().custom_metadata_map)
    chosen = options.detect_input or ("rgb-0-1" if is_ultralytics(meta) else "")
    dtype = _TYPES[given[0].type]
    if dtype is np.uint8 and chosen and not chosen.endswith("0-255"):
        raise UserError(f"{path} takes whole numbers, 0 to 255; give --detect-input rgb-0-255 or bgr-0-255")
    return OnnxModel(path, session, first, size, isinstance(shape[0], int), dtype, chosen, meta)

"""Recordings in the formats that cameras' own programs write: a person-sized box in a room, which is known in full."""

import json
import struct
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import av
import cv2
import numpy as np

from hcmoco.data import codecs
from hcmoco.datasets.cameras.camera import Camera
from hcmoco.datasets.cameras.registration import Rig
from tests.helpers.rgbd_scene import hit, pixels, seen_by_depth, turned

DEPTH = Camera(212, 120, 107.0, 107.5, 105.5, 60.0)
COLOR = Camera(160, 120, 114.0, 114.0, 80.2, 59.5, "modified-brown-conrady", (-0.05, 0.06, -0.0007, 0.0005, -0.02))
RIG = Rig(DEPTH, COLOR, tuple(float(each) for each in turned(0.3, -0.4, 0.2).ravel()), (15.0, 0.2, -0.4))


@dataclass(frozen=True)
class Frame:
    """What the cameras see.

    Attributes:
        rgb: uint8 [h, w, 3]: the box is red, the rest gray.
        depth: uint16 [H, W], millimeters, by the depth camera.
    """

    rgb: np.ndarray
    depth: np.ndarray


@cache
def frame(rig: Rig = RIG, brightness: int = 120) -> Frame:
    """One frame; `brightness` tells frames apart."""
    rotation, translation = np.array(rig.rotation).reshape(3, 3), np.array(rig.translation_mm)
    rays = rig.color.rays(pixels(rig.color))
    directions, origin = np.column_stack([rays, np.ones(len(rays))]) @ rotation, -rotation.T @ translation
    z = hit(origin, directions) * directions[:, 2] + origin[2]
    box = (np.abs(z - 1800) < 1).reshape(rig.color.height, rig.color.width)
    rgb = np.full((*box.shape, 3), brightness, np.uint8)
    rgb[box] = (230, 30, 30)
    return Frame(rgb, np.rint(seen_by_depth(rig)).astype(np.uint16))


def camera_json(rig: Rig = RIG, **more) -> dict:
    """`camera.json` of a rig."""

    def one(camera: Camera) -> dict:
        return {
            "width": camera.width,
            "height": camera.height,
            "fx": camera.fx,
            "fy": camera.fy,
            "cx": camera.cx,
            "cy": camera.cy,
            "distortion_model": camera.model,
            "distortion": list(camera.distortion),
        }

    rotation = np.array(rig.rotation).reshape(3, 3).tolist()
    placed = {"rotation": rotation, "translation_mm": list(rig.translation_mm)}
    return {"color": one(rig.color), "depth": one(rig.depth), "depth_to_color": placed, **more}


def write_plain(root: Path, count: int = 3) -> None:
    """rgb/, depth/ and camera.json; masks and people.jsonl are left to the test."""
    seen = frame()
    for number in range(count):
        _write(root / "rgb" / f"{number:04d}.jpg", codecs.encode_rgb(frame(brightness=100 + number).rgb))
        _write(root / "depth" / f"{number:04d}.png", codecs.encode_depth(seen.depth, "png16"))
    (root / "camera.json").write_text(json.dumps(camera_json(model="test rig", depth_unit="mm")))


def write_open3d(root: Path, count: int = 3, name: str = "intrinsic.json") -> None:
    """What Open3D's recorders write: registered pictures and the column-major matrix of PinholeCameraIntrinsic."""
    pinhole = Camera(160, 120, 114.0, 114.5, 80.2, 59.5)
    seen = frame(Rig(pinhole, pinhole))
    for number in range(count):
        _write(root / "color" / f"{number:05d}.jpg", codecs.encode_rgb(seen.rgb))
        _write(root / "depth" / f"{number:05d}.png", codecs.encode_depth(seen.depth, "png16"))
    matrix = [114.0, 0.0, 0.0, 0.0, 114.5, 0.0, 80.2, 59.5, 1.0]
    (root / name).write_text(json.dumps({"width": 160, "height": 120, "intrinsic_matrix": matrix}, indent=4))


METADATA = """Frame Info:{space}
Type,Depth
Format,Z16
Frame Number,{number}
Timestamp (ms),{time:.2f}
Resolution x,{width}
Resolution y,{height}
Bytes per pixel,2

Intrinsic:,
Fx,{fx:.6f}
Fy,{fy:.6f}
PPx,{cx:.6f}
PPy,{cy:.6f}
Distorsion,Brown Conrady
"""


def write_realsense_viewer(root: Path, count: int = 3, unit_mm: float = 1.0) -> None:
    """Snapshots of RealSense's viewer, color and depth under the same name, and camera.json by hand."""
    seen = frame()
    for number in range(count):
        name = f"anna {number}"
        _write(root / f"{name}_Color.png", codecs.encode_png(frame(brightness=100 + number).rgb))
        _write_depth(root, f"{name}_Depth", f"{name}_Depth", seen.depth, unit_mm)
        text = METADATA.format(
            space=" ", number=number, time=1700000000000 + 33.3 * number, width=DEPTH.width, height=DEPTH.height,
            fx=DEPTH.fx, fy=DEPTH.fy, cx=DEPTH.cx, cy=DEPTH.cy,
        )  # fmt: skip
        (root / f"{name}_Depth_metadata.csv").write_text(text)
    given = camera_json(model="RealSense D435", depth_unit=f"{unit_mm:g}mm")
    del given["depth"]  # it is in the csv
    (root / "camera.json").write_text(json.dumps(given))


def write_rs_convert(root: Path, count: int = 3) -> None:
    """What `rs-convert -p PREFIX -r PREFIX` writes: names with times, which differ between color and depth."""
    seen = frame()
    for number in range(count):
        time = 1700000000000 + 33.366 * number
        color, depth = f"rec_Color_{time + 4:.14f}", f"rec_Depth_{time:.14f}"
        _write(root / f"{color}.png", codecs.encode_png(frame(brightness=100 + number).rgb))
        _write(root / f"{color}.raw", frame(brightness=100 + number).rgb.tobytes())
        _write_depth(root, depth, depth, seen.depth, 1.0)
        (root / f"rec_Depth_metadata_{time:.14f}.txt").write_text("Stream type: Depth\n")
    (root / "camera.json").write_text(json.dumps(camera_json(model="RealSense D435")))


def _write_depth(root: Path, colored: str, raw: str, depth: np.ndarray, unit_mm: float) -> None:
    shown = cv2.applyColorMap((depth / 20).clip(0, 255).astype(np.uint8), cv2.COLORMAP_JET)
    _write(root / f"{colored}.png", codecs.encode_png(shown))
    _write(root / f"{raw}.raw", np.rint(depth / unit_mm).astype("<u2").tobytes())


def write_tum(root: Path, count: int = 4) -> None:
    """TUM's layout: names are seconds, color and depth are not taken at the same time, 5000 is a meter."""
    pinhole = Camera(160, 120, 114.0, 114.5, 80.2, 59.5)
    seen = frame(Rig(pinhole, pinhole))
    for number in range(count):
        time = 1305031102.175304 + number / 30
        _write(root / "rgb" / f"{time:.6f}.png", codecs.encode_png(seen.rgb))
        _write(root / "depth" / f"{time - 0.011:.6f}.png", codecs.encode_depth(seen.depth * np.uint16(5), "png16"))
    for kind in ("rgb", "depth"):
        names = sorted(each.name for each in (root / kind).iterdir())
        lines = [f"{name.removesuffix('.png')} {kind}/{name}" for name in names]
        (root / f"{kind}.txt").write_text("\n".join(["# timestamp filename", *lines]))


def write_video(root: Path, name: str = "walk.mp4", count: int = 24, turned_by: int = 0) -> None:
    """An H.264 video whose frames are told apart by their brightness; `turned_by` degrees, as phones store them."""
    root.mkdir(parents=True, exist_ok=True)
    with av.open(str(root / name), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"crf": "12", "g": "8", "bf": "2"})
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for number in range(count):
            picture = np.full((120, 160, 3), 40 + 6 * number, np.uint8)
            picture[:30, :40] = (220, 30, 30)
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    if turned_by:
        _turn(root / name, turned_by)


def _turn(path: Path, degrees: int) -> None:
    """Write the matrix of the track header (ISO/IEC 14496-12, 8.3.2) that turns the picture clockwise."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    one, none, w = (1 << 16).to_bytes(4, "big"), bytes(4), (1 << 30).to_bytes(4, "big")
    minus = ((-1 << 16) & 0xFFFFFFFF).to_bytes(4, "big")
    a, b, c, d = {90: (none, one, minus, none), 180: (minus, none, none, minus), 270: (none, minus, one, none)}[degrees]
    data[at : at + 36] = a + b + none + c + d + none + none + none + w
    path.write_bytes(data)


# As a device writes it, with its cameras' numbers made simpler: see azure_kinect.py for what they mean.
KINECT_COLOR = (0.4987, 0.5021, 0.4782, 0.6374, 0.58, -2.49, 1.36, 0.46, -2.34, 1.30, 0.0, 0.0, -0.000177, 0.000653)
KINECT_DEPTH = (0.5041, 0.5052, 0.4926, 0.4927, 6.26, 4.17, 0.236, 6.41, 6.42, 1.22, 0.0, 0.0, 0.000065, -0.0000553)


def kinect_calibration() -> dict:
    """The content of the attachment calibration.json."""

    def camera(location: str, numbers: tuple, rotation: np.ndarray, translation: list[float], size: tuple) -> dict:
        return {
            "Intrinsics": {
                "ModelParameterCount": 14,
                "ModelParameters": list(numbers),
                "ModelType": "CALIBRATION_LensDistortionModelBrownConrady",
            },
            "Location": f"CALIBRATION_CameraLocation{location}",
            "MetricRadius": 1.74,
            "Rt": {"Rotation": rotation.ravel().tolist(), "Translation": translation},
            "SensorWidth": size[0],
            "SensorHeight": size[1],
        }

    cameras = [
        camera("D0", KINECT_DEPTH, np.eye(3), [0.0, 0.0, 0.0], (1024, 1024)),
        camera("PV0", KINECT_COLOR, turned(-5.9, 0.1, 0.1), [-0.032, -0.0021, 0.0039], (4096, 3072)),
    ]
    return {"CalibrationInformation": {"Cameras": cameras, "InertialSensors": []}}


def kinect_rig() -> Rig:
    """The cameras of `kinect_calibration` at 320 x 288 (NFOV 2x2) and 1280 x 720, worked out by hand."""
    cx, cy, fx, fy, k1, k2, k3, k4, k5, k6, _, _, p2, p1 = KINECT_COLOR
    lens = (k1, k2, p1, p2, k3, k4, k5, k6)
    color = Camera(1280, 720, fx * 1280, fy * 960, cx * 1280 - 0.5, cy * 960 - 120 - 0.5, "brown-conrady", lens)
    cx, cy, fx, fy, k1, k2, k3, k4, k5, k6, _, _, p2, p1 = KINECT_DEPTH
    lens = (k1, k2, p1, p2, k3, k4, k5, k6)
    depth = Camera(320, 288, fx * 512, fy * 512, cx * 512 - 96 - 0.5, cy * 512 - 90 - 0.5, "brown-conrady", lens)
    return Rig(depth, color, tuple(float(each) for each in turned(-5.9, 0.1, 0.1).ravel()), (-32.0, -2.1, 3.9))


@cache
def kinect_depth() -> np.ndarray:
    """What the depth camera of `kinect_rig` measures, uint16 [288, 320], millimeters."""
    return np.rint(seen_by_depth(kinect_rig())).astype(np.uint16)


def write_azure_kinect(root: Path, name: str = "kinect.mkv", count: int = 3, calibration: bool = True) -> None:
    """A recording of Azure Kinect: MJPEG color, b16g depth in big-endian millimeters, calibration.json attached."""
    root.mkdir(parents=True, exist_ok=True)
    gray = np.full((720, 1280, 3), 120, np.uint8)
    with av.open(str(root / name), "w", format="matroska", options={"allow_raw_vfw": "1"}) as container:
        color = container.add_stream("mjpeg", rate=30)
        color.width, color.height, color.pix_fmt = 1280, 720, "yuvj422p"
        color.metadata["title"] = "COLOR"
        depth = container.add_stream("rawvideo", rate=30)
        depth.width, depth.height, depth.pix_fmt = 320, 288, "gray16be"
        depth.metadata["title"] = "DEPTH"
        if calibration:
            data = json.dumps(kinect_calibration()).encode() + b"\0"
            container.add_attachment("calibration.json", "application/octet-stream", data)
        for number in range(count):
            picture = av.VideoFrame.from_ndarray(gray, "rgb24").reformat(format="yuvj422p")
            stored = av.VideoFrame.from_ndarray(kinect_depth(), "gray16be")
            for stream, each in ((color, picture), (depth, stored)):
                each.pts = number
                for packet in stream.encode(each):
                    container.mux(packet)
        for stream in (color, depth):
            for packet in stream.encode():
                container.mux(packet)
    # FFmpeg's muxer has no way to write the name of the pixels into the track's BITMAPINFOHEADER.
    data = bytearray((root / name).read_bytes())
    at = data.index(struct.pack("<IiiHHI", 40, 320, -288, 1, 16, 0))
    data[at : at + 20] = struct.pack("<IiiHH4s", 40, 320, 288, 1, 16, b"b16g")
    (root / name).write_bytes(data)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)

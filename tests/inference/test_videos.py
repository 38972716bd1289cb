"""A video comes back as a video: its frames, their times and their turn, predicted one by one."""

import json
import weakref
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch

from hcmoco.data.codecs import decode_labels, encode_png
from hcmoco.finetuning.saved_model import load_model
from hcmoco.inference.adapter import PredictOptions
from hcmoco.inference.inputs import VideoFile
from hcmoco.inference.run import make_adapter, predict_images
from hcmoco.inference.video.frames import VideoFrame, look_at, read_frames
from hcmoco.inference.video.writer import VideoWriter
from hcmoco.inference.writer import Output
from hcmoco.tasks.parsing.sheet import PALETTE
from hcmoco_ray.commands.predict import main
from tests.helpers.called import Called
from tests.helpers.drawn_models import write_model
from tests.helpers.tolerances import assert_labels_close

WIDTH, HEIGHT = 96, 64
# Not all as far apart: a phone's video, in units of a 1/90000 second.
TIMES = (0, 3000, 6000, 9000, 15000, 18000, 21000, 24000, 27000)


def picture(number: int) -> np.ndarray:
    """uint8 [HEIGHT, WIDTH, 3]: blobs, brighter at the top left, that are others in each frame."""
    blobs = np.random.default_rng(number).integers(0, 160, (4, 6, 3), np.uint8)
    image = cv2.resize(blobs, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    image[:12, :12] = 250
    return image


def write_video(path: Path, times=TIMES, *, codec="libx264", turn=0, size=(WIDTH, HEIGHT), options=None) -> Path:
    """A video of `picture`s; `turn` is by how many degrees, counterclockwise, players turn what is stored."""
    container = av.open(str(path), "w")
    stream = container.add_stream(codec, rate=30, options=options or {"crf": "4", "g": "3", "bf": "0"})
    stream.width, stream.height = size if turn % 180 == 0 else size[::-1]
    stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    base = Fraction(1, 30) if path.suffix == ".avi" else Fraction(1, 90000)  # an AVI has no other times
    stream.time_base = stream.codec_context.time_base = base
    if turn:
        stream.set_display_rotation(turn)
    for number, time in enumerate(times):
        stored = np.ascontiguousarray(np.rot90(cv2.resize(picture(number), size), -turn // 90))
        frame = av.VideoFrame.from_ndarray(stored, format="rgb24")
        frame.pts, frame.time_base = round(time / 90000 / base), base
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
    container.close()
    return path


def played(path: Path) -> list[tuple[float, np.ndarray]]:
    """Time and stored pixels of each frame, by PyAV's own loop."""
    with av.open(str(path)) as container:
        return [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


class Done(Called):
    @property
    def lines(self) -> list[dict]:
        return [json.loads(line) for line in (self.folder / "predictions.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"), "parsing-rgb")


@pytest.fixture
def predict(model, tmp_path, capsys):
    def call(*images, out="out", **more) -> Done:
        capsys.readouterr()
        options = [f"--{name}={value}" for name, value in more.items()]
        given = [model, *images, f"--out={tmp_path / out}", "--device=cpu", "--threads=1", "--box=picture", *options]
        status = main([str(each) for each in given])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return Done(status, said.out, said.err, tmp_path / out)

    return call


@pytest.mark.parametrize(("name", "turn"), [("walk.mp4", 0), ("phone.mov", 90), ("phone.mp4", 270)])
def test_each_frame_is_predicted_as_the_picture_that_it_shows(predict, tmp_path, name, turn):
    path = write_video(tmp_path / name, turn=turn)
    done = predict(path)
    assert done.status == 0, done.err
    frames = played(path)
    (tmp_path / "stills").mkdir()
    for number, (_, stored) in enumerate(frames):
        upright = np.rot90(stored, turn // 90)
        assert upright[:8, :8].mean() > 235, "the test's own turn is wrong"
        (tmp_path / "stills" / f"{number}.png").write_bytes(encode_png(upright))
    stills = predict(tmp_path / "stills", out="of stills")
    assert [(line["image"], line["frame"]) for line in done.lines] == [(name, number) for number in range(len(frames))]
    assert [line["seconds"] for line in done.lines] == pytest.approx([time / 90000 for time in TIMES], abs=1e-3)
    for line, still in zip(done.lines, stills.lines, strict=True):
        assert (line["width"], line["height"]) == (WIDTH, HEIGHT)
        labels = [
            decode_labels((each.folder / one["people"][0]["parts"]).read_bytes())
            for each, one in ((done, line), (stills, still))
        ]
        assert_labels_close(*labels)


def test_the_overlay_has_the_times_and_the_turn_of_its_video(predict, tmp_path):
    path = write_video(tmp_path / "phone.mov", turn=90)
    done = predict(path)
    (name,) = {line["overlay"] for line in done.lines}
    with av.open(str(done.folder / name)) as container:
        (stream,) = container.streams
        assert (stream.codec_context.name, stream.width, stream.height) == ("h264", WIDTH, HEIGHT)
        assert "mp4" in container.format.name
        assert float(stream.average_rate) == pytest.approx(27, rel=0.02)  # nine frames in the time of ten
    shown = played(done.folder / name)
    assert [time for time, _ in shown] == pytest.approx([time / 90000 for time in TIMES], abs=1e-6)
    for (_, stored), (_, drawn), line in zip(played(path), shown, done.lines, strict=True):
        labels = decode_labels((done.folder / line["people"][0]["parts"]).read_bytes())
        upright = np.rot90(stored).astype(float)
        tinted = np.where((labels > 0)[..., None], 0.38 * upright + 0.62 * PALETTE[labels], upright)
        inside = (slice(4, -4), slice(4, -4))  # the box of the person is drawn at the edge
        difference = np.abs(cv2.blur(tinted, (3, 3)) - cv2.blur(drawn.astype(float), (3, 3)))[inside]
        assert np.median(difference) < 6, "colors"
        assert np.mean(difference) < 12


def test_every_nth_frame(predict, tmp_path):
    done = predict(write_video(tmp_path / "walk.mp4"), every=4)
    assert [line["frame"] for line in done.lines] == [0, 4, 8]
    (name,) = {line["overlay"] for line in done.lines}
    assert [time for time, _ in played(done.folder / name)] == pytest.approx(
        [0, 15000 / 90000, 27000 / 90000], abs=1e-6
    )
    assert sorted(each.name for each in (done.folder / "labels" / "walk.mp4").iterdir()) == [
        "000000.0.png", "000004.0.png", "000008.0.png",
    ]  # fmt: skip


def test_odd_sides_and_pixels_that_are_no_squares(tmp_path):
    path, image = tmp_path / "odd.mp4", picture(0)[:41, :63]
    base = Fraction(1, 1000)
    with VideoWriter(path, 63, 41, rate=Fraction(25), time_base=base, pixel_aspect=Fraction(16, 11)) as video:
        video.add(image, 7)
        video.add(image, 50)
    with pytest.raises(ValueError, match="the frame is 41 x 63, the video 63 x 41 pixels"):
        VideoWriter(path, 63, 41, rate=Fraction(25), time_base=base).add(image.transpose(1, 0, 2), 0)
    with VideoWriter(path, 63, 41, rate=Fraction(25), time_base=base, pixel_aspect=Fraction(16, 11)) as video:
        video.add(image, 7)
        video.add(image, 50)
    (first, _), (second, drawn) = played(path)
    assert second - first == pytest.approx(0.043, abs=1e-6)
    assert drawn.shape == (42, 64, 3)
    assert drawn[41:].mean() < 40 < drawn[40].mean()
    *frames, end = read_frames(VideoFile("odd.mp4", path))
    assert len(frames) == 2
    assert end.facts.pixel_aspect == Fraction(16, 11)


def test_a_turned_frame_has_its_pixels_turned_too(tmp_path):
    path = write_video(tmp_path / "a.mov", turn=90)
    *_, end = read_frames(VideoFile("a.mov", path))
    assert end.facts.pixel_aspect == 1
    assert not end.facts.faults()


def hurt(path: Path, first: int, count: int) -> Path:
    """Overwrite the middle of the packets `first` to `first` + `count` - 1 of a video."""
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    for pos, size in packets[first : first + count]:
        data[pos + size // 4 : pos + size] = np.random.default_rng(pos).bytes(size - size // 4)
    path.write_bytes(data)
    return path


def test_damaged_frames_are_told_and_the_others_predicted(predict, tmp_path):
    whole = predict(write_video(tmp_path / "walk.mp4"), out="whole")
    done = predict(hurt(tmp_path / "walk.mp4", 4, 1))
    assert done.status == 0
    # Frames 3 to 5 are built on each other, and 6 begins again.
    failed = [line["frame"] for line in done.lines if line["error"]]
    assert failed
    assert set(failed) <= {4, 5}
    assert f"video walk.mp4: {len(failed)} of 9 frames are damaged, first frame {failed[0]}" in done.err
    about = json.loads((done.folder / "about.json").read_text())
    assert about["videos"][0]["damaged_frames"] == failed
    sound = {line["frame"]: line for line in done.lines if not line["error"]}
    assert sound.keys() == {0, 1, 2, 3, 6, 7, 8}
    for line in whole.lines:
        if line["frame"] in sound:
            name = line["people"][0]["parts"]
            assert (whole.folder / name).read_bytes() == (done.folder / name).read_bytes()
    # The damaged ones are shown, without a prediction, so that what follows keeps its time.
    times = [time for time, _ in played(done.folder / "videos" / "walk.mp4")]
    assert times == pytest.approx([TIMES[line["frame"]] / 90000 for line in done.lines], abs=1e-6)


def test_frames_without_a_picture_and_a_cut_end_are_told(predict, tmp_path):
    path = write_video(tmp_path / "clip.avi", range(0, 30000, 3000), codec="mjpeg", options={"qscale": "2"})
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * 0.7)])
    done = predict(path)
    assert done.status == 0, done.err
    last = done.lines[-1]["frame"]
    assert 3 < last < 9
    assert "video clip.avi: " in done.err
    assert [line["frame"] for line in done.lines] == list(range(last + 1))


def test_a_gap_between_the_times_is_told(tmp_path):
    path = write_video(tmp_path / "web.mkv")  # its header tells the rate, 30 frames a second
    *frames, end = read_frames(VideoFile("web.mkv", path))
    assert [each.frame.number for each in frames] == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert end.facts.faults() == ["its times have room for 1 frames more, first frame 4"]


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.mp4", b"\0\0\0\x18ftypisom" + bytes(200), "none of 1 video could be used; a.mp4: "),
        ("a.mp4", b"text", "'a.mp4' is no MP4, MOV, Matroska or AVI file, or another video that is read"),
        ("a.mp4", b"#EXTM3U\nfile:///etc/passwd\n", "is no MP4"),
        ("a.mkv", b"ffconcat version 1.0\nfile b.mp4\n", "is no MP4"),
    ],
)
def test_what_is_no_video_is_one_line(predict, tmp_path, name, data, said):
    (tmp_path / name).write_bytes(data)
    done = predict(tmp_path / name)
    assert done.status == 2
    assert said in done.err.splitlines()[-1]


def test_a_video_beside_pictures_and_a_bad_one(predict, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    write_video(folder / "b.mp4", TIMES[:2])
    (folder / "a.png").write_bytes(encode_png(picture(0)))
    (folder / "c.mov").write_bytes(b"nothing")
    done = predict(folder)
    assert done.status == 0
    assert [line["image"] for line in done.lines] == ["a.png", "b.mp4", "b.mp4"]
    with av.open(str(done.folder / "videos" / "b.mp4")) as container:
        assert container.streams.video[0].average_rate == 30
    assert "1 picture and 2 frames, 3 people" in done.out
    assert "video c.mov: " in done.err
    # The first frame stands for its video.
    assert cv2.imread(str(done.folder / "index.jpg")).shape[1] > 480


def test_boxes_of_a_video_are_of_all_frames_but_those_with_boxes_of_their_own(model, tmp_path, capsys):
    path = write_video(tmp_path / "walk.mp4", TIMES[:3])
    boxes = [
        {"image": "walk.mp4", "box": [10, 10, 60, 60]}, {"image": "walk.mp4", "frame": 1, "box": [5, 6, 50, 60]},
        {"image": "walk.mp4", "frame": 1, "box": [40, 2, 90, 60]},
    ]  # fmt: skip
    lines = tmp_path / "boxes.jsonl"
    lines.write_text("\n".join(map(json.dumps, boxes)))
    arguments = [model, path, f"--boxes={lines}", f"--out={tmp_path / 'out'}", "--threads=1", "--device=cpu"]
    assert main([str(each) for each in arguments]) == 0
    found = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()]
    given = [[person["box"] for person in line["people"]] for line in found]
    assert given == [[[10, 10, 60, 60]], [[5, 6, 50, 60], [40, 2, 90, 60]], [[10, 10, 60, 60]]]
    lines.write_text(json.dumps({"image": "walk.mp4", "frame": -1, "box": [5, 6, 50, 60]}))
    assert main([str(each) for each in arguments]) == 2
    assert "frame -1 must be the number of a frame, from 0, of a video" in capsys.readouterr().err


def test_a_model_of_depth_refuses_a_video(tmp_path, capsys):
    model = write_model(tmp_path / "model", "parsing-depth")
    path = write_video(tmp_path / "walk.mp4", TIMES[:2])
    assert main([str(model), str(path), f"--out={tmp_path / 'out'}", "--threads=1", "--device=cpu"]) == 2
    assert "walk.mp4: a video has no depth; give depth pictures" in capsys.readouterr().err


def test_a_long_video_takes_the_memory_of_a_few_frames(model, tmp_path, monkeypatch):
    path = write_video(tmp_path / "long.mp4", range(0, 3000 * 60, 3000), options={"preset": "ultrafast", "bf": "0"})
    saved = load_model(str(model))
    adapter = make_adapter(saved.task(), PredictOptions(box="picture"))
    seen: list[weakref.ref] = []
    held = []

    def watched(file: VideoFile, every: int):
        for item in read_frames(file, every):
            if isinstance(item, VideoFrame):
                seen.append(weakref.ref(item))
            yield item
            held.append(sum(each() is not None for each in seen))

    monkeypatch.setattr("hcmoco.inference.run.read_frames", watched)

    output = Output(tmp_path / "out", {}, form=adapter.coco)
    summary = predict_images(
        adapter, saved.model(), torch.device("cpu"), [VideoFile("long.mp4", path)], output, batch=4, threads=1,
        every=2,
    )  # fmt: skip
    output.finish({})
    assert summary.frames == len(seen) == 30
    assert max(held) <= 4 + 4 + 1 + 1, held  # a batch, what is read ahead, and the one at hand
    assert look_at(VideoFile("long.mp4", path)).declared == 60

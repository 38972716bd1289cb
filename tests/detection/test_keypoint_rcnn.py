"""A Keypoint R-CNN is rebuilt from its state dict alone, and what is no such file is one line."""

import hashlib

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision.models.detection import KeypointRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.resnet import Bottleneck, resnet18, resnet34, resnet50, resnet101

from hcmoco.data.skeletons import COCO_17
from hcmoco.detection import keypoint_rcnn, rcnn_parts
from hcmoco.detection.opened import joint_set_of, open_detector
from hcmoco.detection.options import DetectOptions
from hcmoco.errors import UserError
from tests.helpers.fitted_rcnn import small_keypoint_rcnn
from tests.helpers.torchvision_files import old_names

SIZE = (64, 128)


@pytest.fixture(scope="module")
def small() -> KeypointRCNN:
    torch.manual_seed(0)
    return small_keypoint_rcnn().eval()


@pytest.fixture
def weights(small, tmp_path):
    path = tmp_path / "small.pth"
    torch.save(small.state_dict(), path)
    return path


def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (64, 80, 3), np.uint8)


def test_it_answers_as_the_model_that_was_saved(small, weights):
    opened = open_detector(DetectOptions(detect=str(weights), detect_size=SIZE, min_score=0))
    assert opened.model.sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert joint_set_of(opened.model, "", "") == COCO_17.name
    small.transform.min_size, small.transform.max_size, small.roi_heads.score_thresh = (SIZE[0],), SIZE[1], 0
    maps = []
    hook = small.roi_heads.keypoint_predictor.register_forward_hook(lambda module, given, found: maps.append(found))
    with torch.no_grad():
        expected = small([torch.from_numpy(picture()).permute(2, 0, 1) / 255])[0]
    hook.remove()
    found = opened.detector.detect(picture())
    assert len(found) == len(expected["boxes"]) > 0
    for k, each in enumerate(found):
        assert np.allclose(each.box, expected["boxes"][k], atol=1e-4)
        assert each.score == pytest.approx(float(expected["scores"][k]), abs=1e-5)
        # COCO counts pixels' centers from 0.
        assert np.allclose(each.joints[:, :2], expected["keypoints"][k, :, :2] + 0.5, atol=1e-4)
        share = torch.exp(maps[0][k] - maps[0][k].amax((1, 2), keepdim=True)).sum((1, 2))  # of the highest cell
        assert np.allclose(each.joints[:, 2], 1 / share, atol=1e-5)


def test_people_below_the_score_are_left_out(weights):
    everybody = open_detector(DetectOptions(detect=str(weights), detect_size=SIZE, min_score=0)).detector
    scores = [each.score for each in everybody.detect(picture())]
    limit = float(np.median(scores))
    some = open_detector(DetectOptions(detect=str(weights), detect_size=SIZE, min_score=limit)).detector
    assert all(each.score > limit for each in some.detect(picture()))
    assert (
        open_detector(DetectOptions(detect=str(weights), detect_size=SIZE, min_score=1)).detector.detect(picture())
        == []
    )


def test_torchvisions_own_names_and_depths():
    backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None, trainable_layers=3)  # frozen normalization
    state = KeypointRCNN(backbone, 2, num_keypoints=17).state_dict()
    built = keypoint_rcnn.build(state)
    assert isinstance(built.backbone.body.layer1[0], Bottleneck)
    assert [len(built.backbone.body[f"layer{k}"]) for k in (1, 2, 3, 4)] == [3, 4, 6, 3]
    assert (built.transform.min_size, built.transform.max_size) == ((800,), 1333)
    assert all(torch.equal(value, state[name]) for name, value in built.state_dict().items())


def test_names_from_before_torchvision_0_13(small, tmp_path):
    """The released files have them; torchvision's own model translates them, which is what is compared with."""
    old = old_names(small.state_dict())
    assert "backbone.fpn.inner_blocks.0.weight" in old
    assert "rpn.head.conv.weight" in old
    torch.save(old, tmp_path / "old.pth")
    other = small_keypoint_rcnn()
    other.load_state_dict(dict(old))
    built = keypoint_rcnn.build(old).state_dict()
    assert all(torch.equal(built[name], value) for name, value in other.state_dict().items())
    torch.save(small.state_dict(), tmp_path / "new.pth")
    options = {"detect_size": SIZE, "min_score": 0}
    found, right = (
        open_detector(DetectOptions(detect=str(tmp_path / name), **options)).detector.detect(picture())
        for name in ("old.pth", "new.pth")
    )
    assert len(found) == len(right) > 0
    assert all(np.array_equal(one.joints, other.joints) for one, other in zip(found, right, strict=True))


@pytest.mark.parametrize(("make", "depth"), [(resnet18, 18), (resnet34, 34), (resnet50, 50), (resnet101, 101)])
def test_a_resnet_is_called_by_its_depth(make, depth):
    with torch.device("meta"):
        state = make().state_dict()
    assert rcnn_parts.depth({f"backbone.body.{name}": value for name, value in state.items()}) == depth


def test_the_released_file_has_no_epsilon(small):
    frozen = {name: value for name, value in small.state_dict().items() if not name.endswith("num_batches_tracked")}
    for sha256, epsilon in (("fc266e95" + "0" * 56, 0.0), ("9f466800" + "0" * 56, 1e-5)):
        model = keypoint_rcnn.KeypointRcnn(frozen, sha256)._model
        assert model.backbone.body.bn1.eps == epsilon


def test_safetensors(small, tmp_path):
    path = tmp_path / "small.safetensors"
    save_file({name: value.contiguous() for name, value in small.state_dict().items()}, path)
    assert open_detector(DetectOptions(detect=str(path))).model.kind == "Keypoint R-CNN"


def _changed(state, name, value):
    return {**state, name: value} if value is not None else {key: state[key] for key in state if key != name}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: {"epoch": 3, "loss": [0.5]}, "holds no mapping of names to tensors; save a model's state_dict"),
        (
            lambda state: _changed(state, "roi_heads.keypoint_predictor.kps_score_lowres.weight", None),
            "it lacks roi_heads.keypoint_predictor.kps_score_lowres.weight",
        ),
        (
            lambda state: _changed(state, "rpn.head.bbox_pred.bias", torch.zeros(5)),
            r"rpn.head.bbox_pred.bias is \[5\], not \[12\]",
        ),
        (
            lambda state: {name: value for name, value in state.items() if "keypoint_head" not in name},
            r"it lacks roi_heads\.keypoint_head\.0\.weight",
        ),
        (lambda state: _changed(state, "roi_heads.mask_head.0.weight", torch.zeros(1)), "it has roi_heads.mask_head"),
        (lambda state: {"weight": torch.zeros(3)}, "it lacks roi_heads.keypoint_predictor"),
    ],
)
def test_other_weights_are_one_line(small, tmp_path, change, said):
    path = tmp_path / "other.pth"
    torch.save(change(small.state_dict()), path)
    with pytest.raises(UserError, match=said) as caught:
        open_detector(DetectOptions(detect=str(path)))
    assert str(caught.value).startswith(f"--detect {path}")
    assert "\n" not in str(caught.value)


def test_another_file_is_one_line(tmp_path):
    for name, said in (
        ("a.pth", "is not a torch file"),
        ("a.safetensors", "is not a safetensors file"),
        ("a.bin", "ends in .bin"),
    ):
        (tmp_path / name).write_bytes(b"something else")
        with pytest.raises(UserError, match=said):
            open_detector(DetectOptions(detect=str(tmp_path / name)))


def test_a_checkpoint_that_holds_the_state_and_one_in_half(small, tmp_path):
    path = tmp_path / "checkpoint.pth"
    torch.save({"model": small.state_dict(), "epoch": 3}, path)
    assert open_detector(DetectOptions(detect=str(path))).model.num_joints == 17
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=r"is damaged or incomplete .*; copy or download it again") as caught:
        open_detector(DetectOptions(detect=str(path)))
    assert str(caught.value).startswith(f"--detect {path}")
    assert str(caught.value).count(str(path)) == 1


def test_its_colors_are_known(weights):
    with pytest.raises(UserError, match=r"--detect-input counts only with an \.onnx model"):
        open_detector(DetectOptions(detect=str(weights), detect_input="bgr-0-1"))

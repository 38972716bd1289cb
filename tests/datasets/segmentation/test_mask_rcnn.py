"""Weight files of torchvision's networks, and the choice of one person among those that are found."""

import hashlib

import numpy as np
import pytest
import safetensors.torch
import torch
from torchvision.models import detection

from hcmoco.data import codecs
from hcmoco.data.schema import Person
from hcmoco.datasets import folder
from hcmoco.datasets.base import read_all
from hcmoco.datasets.segmentation import parse
from hcmoco.datasets.segmentation.mask_rcnn import Found, MaskRcnn, choose
from hcmoco.errors import UserError
from hcmoco.finetuning.row_mask import RowMask
from hcmoco.inference.masks import make_mask
from tests.helpers.fitted_rcnn import small_rcnn, without
from tests.helpers.torchvision_files import old_names

SIDE = 64


def found(score: float, x0: int, y0: int, x1: int, y1: int) -> Found:
    """A person who fills their box."""
    mask = np.zeros((60, 80), bool)
    mask[y0:y1, x0:x1] = True
    return Found(score, np.array([x0, y0, x1, y1], float), mask)


ONE, OTHER, SMALL = found(0.7, 0, 0, 20, 50), found(0.9, 30, 10, 50, 50), found(0.99, 60, 0, 64, 8)
ALL = [SMALL, OTHER, ONE]


def test_without_a_hint_the_largest_is_the_person():
    assert choose(ALL) is ONE


def test_joints_choose_whose_mask_holds_most_of_them():
    assert choose(ALL, [0, 0, 20, 50], np.array([[35.5, 20.5], [45.5, 40.5], [5.5, 5.5]])) is OTHER
    assert choose(ALL, None, np.array([[25.0, 3.0], [-5.0, 700.0]])) is None
    assert choose(ALL, [0, 0, 20, 50], np.empty((0, 2))) is ONE


def test_a_box_chooses_whose_box_overlaps_it_most():
    assert choose(ALL, [28, 8, 55, 55]) is OTHER
    assert choose(ALL, [59, 0, 65, 9]) is SMALL
    assert choose(ALL, [0, 51, 80, 60]) is None


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return detection.maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=2)


@pytest.fixture(scope="module")
def weights(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "people.pth"
    torch.save({f"module.{key}": value for key, value in network.state_dict().items()}, path)
    return path


def test_a_file_says_of_what_it_is(weights):
    rcnn = MaskRcnn(str(weights), 0.5, SIDE)
    facts = rcnn.facts()
    assert facts["network"] == "maskrcnn_resnet50_fpn"
    assert facts["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    # Drawn weights are sure of nobody.
    with pytest.raises(ValueError, match=r"finds no person with a score of 0\.99 or more; see --min-person-score"):
        MaskRcnn(str(weights), 0.99, SIDE).mask(np.full((SIDE, SIDE, 3), 90, np.uint8))


def largest_mask(network, rgb):
    """Of torchvision's own network, seen at the same size: class 1."""
    network.eval().transform.min_size, network.transform.max_size = (SIDE,), 107
    with torch.inference_mode():
        (right,) = network([torch.from_numpy(rgb).permute(2, 0, 1).float() / 255])
    largest = max((right["masks"][right["labels"] == 1, 0] >= 0.5).numpy(), key=np.sum)
    assert largest.any()
    return largest


def test_masks_are_those_of_torchvision(network, weights):
    rgb = np.random.default_rng(1).integers(0, 255, (SIDE, 80, 3), np.uint8)
    np.testing.assert_array_equal(MaskRcnn(str(weights), 0.0, SIDE).mask(rgb), largest_mask(network, rgb))


@pytest.mark.parametrize("name", ["small", "old"])
def test_another_resnet_and_names_from_before_torchvision_0_13(tmp_path, name):
    torch.manual_seed(0)
    network = small_rcnn()
    state = without(network.state_dict(), "keypoint")
    torch.save(old_names(state) if name == "old" else state, tmp_path / f"{name}.pth")
    rcnn = MaskRcnn(str(tmp_path / f"{name}.pth"), 0.0, SIDE)
    assert rcnn.facts()["network"] == "maskrcnn_resnet10_fpn"
    rgb = np.random.default_rng(1).integers(0, 255, (SIDE, 80, 3), np.uint8)
    np.testing.assert_array_equal(rcnn.mask(rgb), largest_mask(network, rgb))


def test_the_second_version_is_known_by_its_keys(tmp_path):
    torch.manual_seed(0)
    network = detection.maskrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None, num_classes=3)
    safetensors.torch.save_file(network.state_dict(), tmp_path / "v2.safetensors")
    assert MaskRcnn(str(tmp_path / "v2.safetensors"), 0.5, SIDE).facts()["network"] == "maskrcnn_resnet50_fpn_v2"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (("backbone.body.conv1.weight", "roi_heads.keypoint_predictor.kps_score_lowres.weight"), "a Keypoint R-CNN"),
        (("conv1.weight",), "something else, which draws no masks; give the state dict of torchvision's maskrcnn_res"),
        (("roi_heads.mask_predictor.mask_fcn_logits.weight",), "do not say of how many classes they are"),
        (
            ("roi_heads.mask_predictor.mask_fcn_logits.weight", "roi_heads.box_predictor.cls_score.bias"),
            "tensors that tell its shape are missing, such as backbone",
        ),
    ],
)
def test_other_weights_are_refused(tmp_path, network, keys, message):
    shapes = network.state_dict()
    torch.save({key: shapes.get(key, torch.zeros(1)) for key in keys}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=message):
        MaskRcnn(str(tmp_path / "other.pth"), 0.5, SIDE).facts()


def test_a_network_that_lacks_a_part_is_refused(tmp_path):
    whole = without(small_rcnn().state_dict(), "keypoint")
    for part, message in (
        ("rpn.head.bbox_pred", r"do not fit maskrcnn_resnet10_fpn: 2 tensors are missing, 0 unknown, such as rpn"),
        ("roi_heads.mask_head", r"tensors that tell its shape are missing, such as roi_heads\.mask_head\.0\.0\.weight"),
    ):
        torch.save({key: value for key, value in whole.items() if not key.startswith(part)}, tmp_path / "part.pth")
        with pytest.raises(UserError, match=message):
            MaskRcnn(str(tmp_path / "part.pth"), 0.5, SIDE).facts()


def test_a_file_that_is_none_is_one_line(tmp_path):
    (tmp_path / "x.pth").write_bytes(b"no weights")
    with pytest.raises(UserError, match=r"weights .*x\.pth"):
        MaskRcnn(str(tmp_path / "x.pth"), 0.5, SIDE).facts()


def test_a_file_that_is_cut_in_half_is_called_incomplete(tmp_path):
    path = tmp_path / "half.pth"
    torch.save({"roi_heads.mask_predictor.mask_fcn_logits.weight": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UserError, match=r"weights .*half\.pth is damaged or incomplete .*; copy or download it again"):
        MaskRcnn(str(path), 0.5, SIDE).facts()


@pytest.mark.slow
def test_all_three_programs_ask_the_same_network(tmp_path, weights):
    """The reader of a folder, predict and evaluate: depth is left where the network's mask is."""
    rgb = np.random.default_rng(1).integers(0, 255, (SIDE, 80, 3), np.uint8)
    data = codecs.encode_png(rgb)
    depth = np.full((SIDE, 80), 2000, np.uint16)
    (tmp_path / "a.png").write_bytes(data)
    (tmp_path / "depth.png").write_bytes(codecs.encode_depth(depth, "png16"))
    (tmp_path / "people.jsonl").write_text('{"rgb": "a.png", "depth": "depth.png"}')
    right = MaskRcnn(str(weights), 0.0, SIDE).mask(rgb)
    options = {"segment": str(weights), "min_person_score": 0.0, "segment_side": SIDE}
    (person,) = read_all(folder.READER, folder.FolderConfig(path=str(tmp_path), size=4096, **options))
    assert isinstance(person, Person), person
    x0, y0, side, width, height = person.crop.astype(int)
    inside = np.s_[max(0, -y0) : min(side, height - y0), max(0, -x0) : min(side, width - x0)]
    shown = np.s_[max(0, y0) : y0 + side, max(0, x0) : x0 + side]
    np.testing.assert_array_equal(codecs.decode_depth(person.depth, "png16")[inside] > 0, right[shown])

    request = parse(str(weights), "--mask")
    how = {"tolerance_mm": 50.0, "min_score": 0.0, "side": SIDE}
    mask, facts = make_mask(request, [], unit=None, rgb=str(tmp_path / "a.png"), **how)
    np.testing.assert_array_equal(mask.apply("x.png", depth) > 0, right)
    assert facts["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()

    row = {"id": "d/a", "rgb": data, "depth": codecs.encode_depth(depth, "png16"), "box": None}
    left = RowMask("png16", MaskRcnn(str(weights), 0.0, SIDE)).apply(row)["depth"]
    np.testing.assert_array_equal(codecs.decode_depth(left, "png16") > 0, right)

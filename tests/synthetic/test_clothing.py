"""Outfits: what is covered, whatever is drawn."""

import numpy as np
import pytest

from hcmoco.rng import make_rng
from hcmoco.synthetic.body import clothing
from hcmoco.synthetic.body.mesh import BODY, EYE, HAIR, SKIRT, load_asset
from hcmoco.synthetic.body.outfit import Outfit
from hcmoco.synthetic.body.surface_labels import limb_position
from hcmoco.synthetic.scene.textures import passes_for


def outfits(count: int) -> list[Outfit]:
    return [Outfit.draw(make_rng(0, "test", number), number % 2, 18 + number % 60) for number in range(count)]


@pytest.fixture(scope="module")
def places():
    asset = load_asset()
    group, position = limb_position(asset, asset.label_points, asset.label_groups)
    return asset, group, position


def test_torso_and_hips_are_covered_up_to_the_neckline(places):
    asset, group, position = places
    neck = asset.template_heads[asset.bone("neck01")]
    body = asset.vertex_kind == BODY
    torso = body & (group == asset.group("torso")) & (asset.template[:, 2] < neck[2] - 0.09)
    upper_thigh = body & np.isin(group, [asset.group("thigh.L"), asset.group("thigh.R")]) & (position < 0.3)
    assert torso.sum() > 300
    assert upper_thigh.sum() > 50
    for outfit in outfits(200):
        cover = clothing.cover(asset, outfit, asset.template, group, position, asset.vertex_kind)
        assert np.isin(cover[torso | upper_thigh], (clothing.TOP, clothing.BOTTOM)).all()


def test_pieces_of_the_mesh_are_what_they_are(places):
    asset, group, position = places
    for outfit in outfits(5):
        cover = clothing.cover(asset, outfit, asset.template, group, position, asset.vertex_kind)
        for kind, what in ((HAIR, clothing.SCALP), (SKIRT, clothing.BOTTOM), (EYE, clothing.EYEBALL)):
            assert (cover[asset.vertex_kind == kind] == what).all()


def test_cloth_never_has_the_color_of_the_wearers_skin():
    for outfit in outfits(200):
        solid = [outfit.inner, *(pattern.colors[0] for pattern in (outfit.top, outfit.bottom))]
        assert not any(passes_for(color, outfit.skin) for color in solid)


def test_cloth_stands_off_the_skin_and_colors_are_colors(places):
    asset, group, position = places
    for outfit in outfits(20):
        cover = clothing.cover(asset, outfit, asset.template, group, position, asset.vertex_kind)
        off = clothing.stand_off(asset, outfit, cover)
        assert (off >= 0).all()
        assert off.max() < 0.04
        assert (off[(cover == clothing.TOP) | (cover == clothing.BOTTOM)] > 0.001).all()
        color = clothing.color(asset, outfit, asset.template, group, cover, asset.lips)
        assert np.isfinite(color).all()
        assert color.min() >= 0
        assert color.max() < 1.5

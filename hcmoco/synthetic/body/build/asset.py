"""Build the body asset that all synthetic people share: `python -m hcmoco.synthetic.body.build.asset OUT.npz`.

This needs the extra `asset` (anny and its dependencies, with some gigabytes of cache under ANNY_CACHE_DIR). The result
is committed, so the script is run only to change it. Bodies are adults. See NOTICE for the sources of the data and
`body.mesh.Asset` for the meaning of each array.
"""

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np

from hcmoco.synthetic.body.build import mesh as mesh_tools
from hcmoco.synthetic.body.mesh import BODY

PEOPLE = 700
COMPONENTS = 32
TARGET_FACES = 9000
WEIGHTS_PER_VERTEX = 6
ADULT_YEARS = (18.0, 80.0)
HEIGHT_RANGE = (1.42, 2.05)  # meters
KEYPOINTS = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
)  # fmt: skip


def sample_people(model, count: int, body: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Sample rest shapes of adults from anny.

    The shape distribution is anny's, calibrated on the heights of the World Health Organization. Gender is drawn near
    its two ends.

    Args:
        model: anny's body model.
        count: number N of adults.
        body: int, numbers of the vertices between which height is measured.
        seed: seed of the draws.

    Returns:
        Arrays by name: vertices [N, S, 3] and heads [N, Bn, 3] in meters, age [N] in years, female [N] in 0..1, height
            [N] in meters.
    """
    import torch
    from anny.shape_distribution import SimpleShapeDistribution
    from anny.skinning.skinning import apply_linear_blendshape

    torch.manual_seed(seed)
    drawn = count * 5 // 4
    ages, traits = SimpleShapeDistribution(
        model, morphological_age_distribution=torch.distributions.Uniform(*ADULT_YEARS)
    ).sample(drawn)
    distance = torch.rand(drawn) * 0.15
    traits["gender"] = torch.where(torch.rand(drawn) < 0.5, distance, 1 - distance)
    for name in ("cupsize", "firmness"):
        traits[name] = torch.rand(drawn) * 0.6 + 0.2
    for name in ("african", "asian", "caucasian"):
        traits[name] = torch.rand(drawn) ** 2
    vertices, heads = [], []
    with torch.inference_mode():
        for start in range(0, drawn, 50):
            chunk = {name: values[start : start + 50] for name, values in traits.items()}
            coefficients = model.get_phenotype_blendshape_coefficients(**chunk)
            vertices.append(model.get_rest_vertices(coefficients))
            heads.append(apply_linear_blendshape(model.template_bone_heads, model.bone_heads_blendshapes, coefficients))
    X, H = torch.cat(vertices).numpy(), torch.cat(heads).numpy()
    height = np.ptp(X[:, body, 2], axis=1)
    usual = np.flatnonzero((height >= HEIGHT_RANGE[0]) & (height <= HEIGHT_RANGE[1]))[:count]
    print(f"  {drawn} drawn, {len(usual)} kept, heights {height[usual].min():.2f}..{height[usual].max():.2f} m")
    if len(usual) < count:
        raise ValueError(f"only {len(usual)} of {drawn} people are of a usual height; draw more")
    return {
        "vertices": X[usual],
        "heads": H[usual],
        "age": ages.numpy()[usual],
        "female": traits["gender"].numpy()[usual],
        "height": height[usual],
    }


def principal_components(rows: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Reduce shapes to their principal components.

    Args:
        rows: float [N, P, 3], meters.
        count: number K of components.

    Returns:
        Mean [P, 3], basis [K, P, 3] in meters per standard deviation, and the rows' coefficients [N, K] of unit
        variance.
    """
    people = len(rows)
    flat = rows.reshape(people, -1)
    mean = flat.mean(0)
    centered = flat - mean
    values, vectors = np.linalg.eigh((centered @ centered.T).astype(np.float64))
    order = np.argsort(-values)[:count]
    coefficients = vectors[:, order] * np.sqrt(people)
    basis = coefficients.T @ centered / people
    # an eigenvector's sign is arbitrary: fix it, so that another linear-algebra library builds the same asset
    signs = np.sign(basis[np.arange(count), np.abs(basis).argmax(1)])
    basis, coefficients = basis * signs[:, None], coefficients * signs
    error = np.linalg.norm((centered - coefficients @ basis).reshape(people, -1, 3), axis=-1)
    print(
        f"  {count} components: error {error.mean() * 1e3:.2f} mm, "
        f"p99 {np.percentile(error, 99) * 1e3:.2f}, max {error.max() * 1e3:.1f}"
    )
    return mean.reshape(-1, 3), basis.reshape(count, -1, 3), coefficients


def keypoint_regressors(source: np.ndarray, points: np.ndarray, kept: np.ndarray, body: np.ndarray) -> np.ndarray:
    """Move keypoint regressors from the source mesh to the kept vertices.

    Each weight goes to the nearest kept vertex of the body. The weights are then corrected by the smallest change that
    restores the keypoint on the mean person and the sum of the weights.

    Args:
        source: float [J, S], regressors over the source mesh.
        points: float [S, 3], the mean person, meters.
        kept: int [V], number of each kept vertex in the source mesh.
        body: int, numbers of the kept vertices of the body.

    Returns:
        float [J, V].
    """
    nearest = body[np.argmin(((points[:, None, :] - points[kept][None, body, :]) ** 2).sum(-1), axis=1)]
    moved = np.zeros((len(source), len(kept)))
    for row, weights in enumerate(source):
        np.add.at(moved[row], nearest, weights)
        moved[row, np.abs(moved[row]) < 1e-5] = 0
        # restore the keypoint and the sum of the weights by the smallest change of the weights
        support = np.flatnonzero(moved[row])
        A = np.concatenate([points[kept][support].T, np.ones((1, len(support)))])
        gap = np.append(weights @ points, weights.sum()) - A @ moved[row, support]
        moved[row, support] += np.linalg.pinv(A) @ gap
    return moved


def top_weights(dense: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the `count` largest skin weights of each vertex, renormalized, and their bones, both [V, count]."""
    bones = np.argsort(-dense, axis=1)[:, :count]
    weights = np.take_along_axis(dense, bones, 1)
    print(f"  top {count} skin weights hold {weights.sum(1).mean():.4f} of the mass (worst {weights.sum(1).min():.3f})")
    return weights / weights.sum(1, keepdims=True), bones


def build(seed: int = 0) -> dict[str, np.ndarray]:
    """Return all arrays of the asset by name, as `body.mesh.Asset` documents them."""
    sys.modules.setdefault("warp", None)  # type: ignore[arg-type]  # plain linear blend skinning needs no GPU compiler
    import anny
    import torch
    from anny.models.full_model import get_edited_mesh_faces
    from anny.paths import get_anny_root_dir
    from anny.utils.obj_utils import load_obj_file

    torch.set_num_threads(2)
    data = Path(str(get_anny_root_dir())) / "data"
    print("loading the model (the first time takes minutes)")
    model = anny.Anny(topology="anny-full", phenotypes="all", skinning_method="lbs").to(dtype=torch.float32)
    _, uv, groups = load_obj_file(str(data / "mpfb2/3dobjs/base.obj"), dtype=torch.float64)

    # mouth and eye-socket cavities are invisible; the other edit is that of anny's default body
    cavities = torch.load(data / "template_mesh_internal_cavities.pth", weights_only=True)["face_indices"]
    visible = np.setdiff1d(np.arange(len(groups["body"]["face_vertex_indices"])), cavities)
    quads, quads_uv = get_edited_mesh_faces(
        *(groups["body"][key][visible] for key in ("face_vertex_indices", "face_texture_coordinate_indices"))
    )
    body_faces, uv_faces, uv = mesh_tools.triangles(quads.numpy()), mesh_tools.triangles(quads_uv.numpy()), uv.numpy()

    print("sampling people")
    people = sample_people(model, PEOPLE, np.unique(body_faces), seed)
    source_count = people["vertices"].shape[1]
    mean, basis, coefficients = principal_components(
        np.concatenate([people["vertices"], people["heads"]], axis=1), COMPONENTS
    )
    points = mean[:source_count].astype(np.float64)

    print("thinning the mesh")
    helpers = [
        mesh_tools.triangles(np.concatenate([groups[name]["face_vertex_indices"].numpy() for name in names]))
        for names in (("helper-l-eye", "helper-r-eye"), ("helper-hair",), ("helper-skirt",))
    ]
    mesh = mesh_tools.assemble([mesh_tools.decimate(points, body_faces, TARGET_FACES), *helpers])
    kept = mesh.kept

    dense = np.zeros((source_count, len(model.bone_labels)))
    np.add.at(
        dense,
        (np.arange(source_count)[:, None], model.vertex_bone_indices.numpy()),
        model.vertex_bone_weights.double().numpy(),
    )
    weights, weight_bones = top_weights(dense[kept], WEIGHTS_PER_VERTEX)
    group_weights = mesh_tools.group_weights(points, dense, list(model.bone_labels), body_faces)
    label_groups = mesh_tools.label_groups(points[kept], group_weights[kept], mesh)
    island_uv = mesh_tools.islands(points, mesh, group_weights, body_faces, uv_faces, uv)

    regressors = torch.load(data / "keypoints/coco.pth", weights_only=True)
    source_regressors = np.stack([regressors[name].double().numpy() for name in KEYPOINTS])
    on_body = np.flatnonzero(mesh.vertex_kind == BODY)
    moved = keypoint_regressors(source_regressors, points, kept, on_body)
    error = np.linalg.norm(
        np.einsum("jv,nvc->njc", moved, people["vertices"][:, kept])
        - np.einsum("js,nsc->njc", source_regressors, people["vertices"]),
        axis=-1,
    )
    print(f"  keypoints moved by {error.mean() * 1e3:.2f} mm (max {error.max() * 1e3:.1f})")

    lips = cv2.imread(str(data / "mpfb2/textures/mpfb_lips.jpg"), cv2.IMREAD_GRAYSCALE)
    vertex_uv = np.zeros((source_count, 2))
    vertex_uv[body_faces] = uv[uv_faces]
    column, row = (
        (np.clip(vertex_uv[kept] * [1, -1] + [0, 1], 0, 1) * [lips.shape[1] - 1, lips.shape[0] - 1]).astype(int).T
    )
    crown = on_body[np.argmax(points[kept][on_body, 2])]

    return {
        "template": points[kept].astype(np.float32),
        "basis": basis[:, :source_count][:, kept].astype(np.float16),
        "template_heads": mean[source_count:].astype(np.float32),
        "head_basis": basis[:, source_count:].astype(np.float16),
        "people": coefficients.astype(np.float16),
        "age": people["age"].astype(np.float16),
        "female": people["female"].astype(np.float16),
        "height": people["height"].astype(np.float16),
        "skin_weights": weights.astype(np.float16),
        "skin_bones": weight_bones.astype(np.uint8),
        "parents": np.array(model.bone_parents, np.int16),
        "bone_names": np.array(model.bone_labels),
        "group_names": np.array(mesh_tools.GROUPS),
        "faces": mesh.faces.astype(np.uint16),
        "face_kind": mesh.face_kind,
        "vertex_kind": mesh.vertex_kind,
        "label_groups": label_groups.astype(np.float16),
        "island_uv": island_uv.astype(np.float16),
        "lips": np.where(mesh.vertex_kind == BODY, lips[row, column] / 255, 0).astype(np.float16),
        "keypoint_weights": moved.astype(np.float32),
        "crown": np.array(crown, np.int32),
    }


def main() -> None:
    """Build the asset and write it to the file that is named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="the .npz file to write")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    arrays = build(options.seed)
    np.savez_compressed(options.out, **arrays)
    print(
        f"{options.out}: {options.out.stat().st_size / 1e6:.2f} MB, {len(arrays['template'])} vertices, "
        f"{len(arrays['faces'])} triangles"
    )


if __name__ == "__main__":
    main()

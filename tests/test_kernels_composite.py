"""The compositing kernels against a plain numpy twin, and the promises made to the dataset."""

import numpy as np
import pytest

from phototwin.errors import InputError
from phototwin.kernels.composite import (
    DEPTH_TOLERANCE_M,
    DEPTH_TOLERANCE_RELATIVE,
    Light,
    composite,
    linear_to_srgb,
    srgb_to_linear,
)

LIGHT = Light((0.3, -0.2, 1.0), (0.3, 0.25, 0.2), (0.6, 0.5, 0.4))


def twin(albedo, depth, normals, ids, plate, plate_depth, light, robot_ids, object_ids):
    """The same by whole-array numpy: float64, exact sRGB curves."""
    limit = np.where(plate_depth > 0, plate_depth * (1 + DEPTH_TOLERANCE_RELATIVE) + DEPTH_TOLERANCE_M, np.inf)
    robot = np.isin(ids, robot_ids)
    mask = (robot | np.isin(ids, object_ids)) & (depth > 0) & (depth < limit)
    color = srgb_to_linear(albedo[..., :3] / 255.0)
    if normals is not None:
        direction = np.array(light.direction_w) / np.linalg.norm(light.direction_w)
        cosine = np.maximum(normals @ direction, 0)[..., None]
        shade = np.array(light.ambient) + np.array(light.directional) * cosine
        color = np.where(robot[..., None], np.clip(color * shade, 0, 1), color)
    color = np.where(mask[..., None], color, 0.0)
    pad = ((0, 0), (1, 1), (1, 1))
    label = np.where(mask, ids, 0)
    m, c = np.pad(label, pad, mode="edge"), np.pad(color, (*pad, (0, 0)), mode="edge")
    alpha, front = np.zeros(mask.shape), np.zeros(color.shape)
    height, width = mask.shape[1:]
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            weight = (2 - abs(dy)) * (2 - abs(dx)) / 16
            near = m[:, 1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]
            alpha += weight * (near > 0)
            same = (near == label)[..., None]
            front += weight * np.where(same, color, c[:, 1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width])
    out = front + (1 - alpha[..., None]) * srgb_to_linear(plate / 255.0)
    return np.round(linear_to_srgb(out) * 255), alpha, mask


def random_case(seed, count=3, height=23, width=31, channels=4):
    rng = np.random.default_rng(seed)
    normals = rng.normal(size=(count, height, width, 3)).astype(np.float32)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    ids = np.kron(rng.integers(0, 6, (count, -(-height // 4), -(-width // 5))), np.ones((1, 4, 5), int))
    plate_depth = rng.uniform(0.5, 1.5, (height, width)).astype(np.float32)
    plate_depth[rng.random((height, width)) < 0.2] = 0
    return {
        "albedo": rng.integers(0, 256, (count, height, width, channels), dtype=np.uint8),
        "depth_m": rng.uniform(0, 1.5, (count, height, width)).astype(np.float32),
        "normals_w": normals,
        "ids": ids[:, :height, :width].astype(np.int32),
        "background": rng.integers(0, 256, (height, width, 3), dtype=np.uint8),
        "background_depth_m": plate_depth,
    }


@pytest.mark.parametrize("seed,channels", [(0, 3), (1, 4), (2, 4)])
def test_equals_numpy(seed, channels):
    case = random_case(seed, channels=channels)
    want, alpha, _ = twin(*case.values(), LIGHT, [2, 5], [1])
    got = composite(**case, light=LIGHT, robot_ids=[2, 5], object_ids=[1])
    assert np.abs(got.astype(int) - want).max() <= 1
    assert (got == want).mean() > 0.95  # foreground is rounded to 8 bits before edges are blended
    empty = alpha == 0
    assert empty.any() and (got[empty] == np.broadcast_to(case["background"], got.shape)[empty]).all()


def test_nothing_rendered_is_the_photo_and_everything_in_front_is_the_albedo():
    case = random_case(3)
    got = composite(**case, light=LIGHT, robot_ids=[], object_ids=[])
    assert (got == case["background"]).all()
    case["ids"][:] = 4
    case["depth_m"][:] = 0.1
    assert (composite(**case, light=LIGHT, robot_ids=[], object_ids=[4]) == case["albedo"][..., :3]).all()
    case["depth_m"][:] = 0.0
    assert (composite(**case, light=LIGHT, robot_ids=[], object_ids=[4]) == case["background"]).all()


def test_occlusion_by_the_photo_and_contact_tolerance():
    """A wall in the photo hides what is behind it; what rests on a noisy support is not eaten."""
    case = random_case(4, count=1, height=20, width=20)
    case["ids"][:] = 1
    case["depth_m"][:] = 1.0
    case["background_depth_m"][:, :10] = 0.8
    case["background_depth_m"][:, 10:] = 1.0 + np.random.default_rng(0).normal(0, 0.002, (20, 10)).clip(-0.006, 0.006)
    got = composite(**case, light=LIGHT, robot_ids=[], object_ids=[1])
    assert (got[0, :, :9] == case["background"][:, :9]).all()
    assert (got[0, :, 11:] == case["albedo"][0, :, 11:, :3]).all()


def test_a_lambertian_plane_shows_the_closed_form():
    shape = (1, 6, 6)
    normals = np.broadcast_to(np.array([0, 0, 1], np.float32), (*shape, 3))
    albedo = np.full((*shape, 3), 188, np.uint8)  # 0.5 in linear light
    got = composite(
        albedo,
        np.ones(shape, np.float32),
        normals,
        np.ones(shape, np.int32),
        np.zeros((6, 6, 3), np.uint8),
        np.zeros((6, 6), np.float32),
        Light((0, 0, 2), (0.1, 0.2, 0.3), (0.5, 0.5, 0.5)),
        [1],
        [],
    )
    want = linear_to_srgb(srgb_to_linear(np.array(188 / 255)) * np.array([0.6, 0.7, 0.8])) * 255
    assert np.abs(got[0, 3, 3] - want).max() <= 0.5001


def test_edges_blend_symmetrically_without_bleeding():
    """White object on black: coverage falls off 12/16, 4/16; the colour of id 0 (green) never shows."""
    albedo = np.zeros((1, 9, 9, 3), np.uint8)
    albedo[..., 1] = 255
    ids = np.zeros((1, 9, 9), np.int32)
    ids[0, 3:6, 3:6] = 1
    albedo[0, 3:6, 3:6] = 255
    args = (albedo, np.ones(ids.shape, np.float32), None, ids, np.zeros((9, 9, 3), np.uint8))
    got = composite(*args, np.zeros((9, 9), np.float32), LIGHT, [], [1])[0]
    assert (got[..., 0] == got[..., 1]).all() and (got[..., 0] == got[..., 2]).all()
    linear = srgb_to_linear(got[4, :, 0] / 255.0)
    np.testing.assert_allclose(linear, [0, 0, 0.25, 0.75, 1, 0.75, 0.25, 0, 0], atol=0.004)


def test_edges_between_two_things_are_soft_and_textures_sharp():
    """Left black, right white with one grey texel inside: the border is 1/4 and 3/4, the texel keeps its sharp outline."""
    albedo = np.zeros((1, 8, 8, 3), np.uint8)
    albedo[:, :, 4:] = 255
    albedo[:, 2, 6] = 100
    ids = np.ones((1, 8, 8), np.int32)
    ids[:, :, 4:] = 2
    args = (albedo, np.ones(ids.shape, np.float32), None, ids, np.full((8, 8, 3), 90, np.uint8))
    got = composite(*args, np.zeros((8, 8), np.float32), LIGHT, [1], [2])[0, :, :, 0]
    np.testing.assert_allclose(srgb_to_linear(got[5] / 255.0), [0, 0, 0, 0.25, 0.75, 1, 1, 1], atol=0.004)
    assert got[2, 6] == 100 and (got[1:4, [5, 7]] == 255).all() and got[3, 6] == 255


def test_batch_equals_single_images_and_warp_arrays_are_accepted():
    import warp as wp

    case = random_case(5)
    batch = composite(**case, light=LIGHT, robot_ids=[2], object_ids=[1])
    for i in range(3):
        one = {k: v[i : i + 1] if not k.startswith("background") else v for k, v in case.items()}
        assert (composite(**one, light=LIGHT, robot_ids=[2], object_ids=[1])[0] == batch[i]).all()
    case["depth_m"] = case["depth_m"][..., None]
    case["ids"] = case["ids"][..., None]
    arrays = {k: v if k.startswith("background") else wp.array(v, device="cpu") for k, v in case.items()}
    assert (composite(**arrays, light=LIGHT, robot_ids=[2], object_ids=[1]) == batch).all()


def test_shapes_that_do_not_fit_are_named():
    case = random_case(6)
    case["ids"] = case["ids"][:, :-1]
    with pytest.raises(InputError, match="ids"):
        composite(**case, light=LIGHT, robot_ids=[], object_ids=[1])


@pytest.mark.gpu
def test_cuda_equals_cpu():
    import warp as wp

    if not wp.is_cuda_available():
        pytest.skip("no CUDA device")
    case = random_case(7)
    on_cpu = composite(**case, light=LIGHT, robot_ids=[2], object_ids=[1])
    on_gpu = composite(**case, light=LIGHT, robot_ids=[2], object_ids=[1], device="cuda:0")
    assert np.abs(on_cpu.astype(int) - on_gpu).max() <= 1

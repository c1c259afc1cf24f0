"""The compositing kernels against a plain numpy twin, and the promises made to the dataset."""

import numpy as np
import pytest

from phototwin.errors import InputError
from phototwin.kernels.composite import (
    DEPTH_TOLERANCE_M,
    DEPTH_TOLERANCE_RELATIVE,
    FAINT,
    LEAST_RATIO,
    STILL_CODES,
    composite,
)
from phototwin.kernels.plate_arrays import make_plate_arrays
from phototwin.kernels.srgb import linear_to_srgb, srgb_to_linear


def enlarge(values, height, width):
    """(h, w, 3) at (height, width), linearly between the pixels that were sampled (1, 3, 5 ...), the rim repeated."""
    for axis, size in ((0, height), (1, width)):
        at = (np.arange(size) - 1) / 2
        low = np.floor(at).astype(int)
        t = (at - low).reshape([-1, 1, 1] if axis == 0 else [1, -1, 1])
        near, far = (np.clip(v, 0, values.shape[axis] - 1) for v in (low, low + 1))
        values = values.take(near, axis) * (1 - t) + values.take(far, axis) * t
    return values


def shadows(plate, share, blocked, occluded):
    """Ratio (N, h, w, 3) of light that is left."""
    out = []
    for kept, b, o in zip(share, blocked, occluded, strict=True):
        lit = np.prod(1 - kept[:, None, None] * plate["rest_blocked"], 0)[..., None]
        sky = np.prod(1 - kept[:, None, None] * plate["rest_occluded"], 0)[..., None]
        k = plate["source_share"] * lit
        k = k / np.maximum(k + (1 - plate["source_share"]) * sky, 1e-4)
        b, o = ((v - np.clip(v, -FAINT, FAINT))[..., None] / (1 - FAINT) for v in (b, o))
        out.append(np.maximum(1 - (1 - k) * o - k * b, LEAST_RATIO))
    return np.stack(out)


def twin(color, depth, ids, plate, robot_ids, object_ids, share, blocked, occluded):
    """The same by whole-array numpy: float64, exact sRGB curves."""
    behind = plate["depth_m"]
    limit = np.where(behind > 0, behind * (1 + DEPTH_TOLERANCE_RELATIVE) + DEPTH_TOLERANCE_M, np.inf)
    mask = np.isin(ids, [*robot_ids, *object_ids]) & (depth > 0) & (depth < limit)
    linear = {name: srgb_to_linear(plate[name] / 255.0) for name in ("rgb", "photo", "rest")}
    shown = srgb_to_linear(color / 255.0)
    base = np.stack([linear["rgb"]] * len(ids))
    for i, index in enumerate(object_ids):
        kept = share[:, i, None, None, None]
        base = np.where((plate["owners"] == i + 1)[..., None], kept * linear["photo"] + (1 - kept) * base, base)
        same = (plate["rest_owner"] == i + 1)[..., None]
        bright = (1.0, 1.5)[i]
        step = color.astype(int) - plate["rest"]
        step -= np.clip(step, -STILL_CODES, STILL_CODES)
        after = srgb_to_linear((plate["rest"] + step) / 255.0)
        lost = np.where(same, np.minimum((after + 0.002) / (linear["rest"] + 0.002), 1.5), 1)
        own = kept * linear["photo"] * lost + (1 - kept) * bright * shown
        of_it = (ids == index)[..., None]
        untouched = of_it & (~same | (step == 0).all(-1, keepdims=True)) & (kept >= 1)
        mask &= ~untouched[..., 0]
        shown = np.where(of_it, own, shown)
    shown = np.where(mask[..., None], np.clip(shown, 0, 1), 0.0)
    pad = ((0, 0), (1, 1), (1, 1))
    label = np.where(mask, ids, 0)
    m, c = np.pad(label, pad, mode="edge"), np.pad(shown, (*pad, (0, 0)), mode="edge")
    alpha, front = np.zeros(mask.shape), np.zeros(shown.shape)
    height, width = mask.shape[1:]
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            weight = (2 - abs(dy)) * (2 - abs(dx)) / 16
            near = m[:, 1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]
            alpha += weight * (near > 0)
            same = (near == label)[..., None]
            front += weight * np.where(same, shown, c[:, 1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width])
    left = np.stack([enlarge(r, height, width) for r in shadows(plate, share, blocked, occluded)])
    out = front + (1 - alpha[..., None]) * left * base
    return np.round(linear_to_srgb(out) * 255), (alpha == 0) & (left == 1).all(-1)


def random_case(seed, count=3, height=24, width=30, objects=2):
    rng = np.random.default_rng(seed)
    blocks = lambda n, shape: np.kron(rng.integers(0, n, (-(-shape[0] // 4), -(-shape[1] // 5))), np.ones((4, 5), int))  # noqa: E731
    depth = rng.uniform(0.5, 1.5, (height, width)).astype(np.float32)
    depth[rng.random((height, width)) < 0.2] = 0
    small = (height // 2, width // 2)
    photo = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    owners = blocks(objects + 1, (height, width))[:height, :width]
    rgb = np.where(owners[..., None] > 0, rng.integers(0, 256, photo.shape), photo).astype(np.uint8)
    rest = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    plate = {
        "rgb": rgb, "photo": photo, "owners": owners, "depth_m": depth, "rest": rest,
        "rest_owner": blocks(objects + 1, (height, width))[:height, :width],
        "source_share": rng.uniform(0, 1, (*small, 3)), "rest_blocked": rng.uniform(0, 1, (objects, *small)),
        "rest_occluded": rng.uniform(0, 0.9, (objects, *small)),
    }  # fmt: skip
    color = rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    color[:, : height // 2] = np.where(
        rng.random((height // 2, width, 1)) < 0.5, rest[: height // 2], color[:, : height // 2]
    )
    ids = np.stack([blocks(6, (height, width))[:height, :width] for _ in range(count)])
    part = (rng.random((count, *small)) < 0.5) * rng.uniform(0, 1, (count, *small))
    frames = {
        "color": color, "depth_m": rng.uniform(0, 1.5, ids.shape).astype(np.float32), "ids": ids.astype(np.int32),
        "share": rng.choice([0.0, 0.3, 1.0], (count, objects)), "blocked": part, "occluded": 0.6 * part - 0.1 * (part > 0.5),
    }  # fmt: skip
    return plate, frames


def run(plate, frames, robot_ids, object_ids, device="cpu"):
    return composite(
        frames["color"],
        frames["depth_m"],
        frames["ids"],
        make_plate_arrays(*plate.values(), device=device),
        robot_ids,
        object_ids,
        frames["share"],
        frames["blocked"],
        frames["occluded"],
        np.array([1.0, 1.5])[: len(object_ids)],
    )


def plain_case(height, width, rgb, depth_m=0.0):
    """A plate without objects or light."""
    none = np.zeros((0, height // 2, width // 2))
    zero = np.zeros((height, width), np.uint8)
    share = np.zeros((height // 2, width // 2, 3))
    depth = np.full((height, width), depth_m, np.float32)
    return make_plate_arrays(rgb, rgb, zero, depth, rgb, zero, share, none, none)


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_equals_numpy(seed):
    plate, frames = random_case(seed)
    want, clean = twin(
        frames["color"], frames["depth_m"], frames["ids"], plate, [2, 5], [1, 3], *list(frames.values())[3:]
    )
    got, mask = run(plate, frames, [2, 5], [1, 3])
    assert np.abs(got.astype(int) - want).max() <= 2  # what is drawn is rounded to 8 bits before edges are blended
    assert (np.abs(got - want) <= 1).mean() > 0.98
    still = np.isin(plate["owners"], [0])[None] & clean
    assert still.any() and (got[still] == np.broadcast_to(plate["photo"], got.shape)[still]).all()
    assert not mask[clean].any()


def test_where_nothing_moved_the_frame_is_the_photo_bit_by_bit():
    """Objects drawn exactly as at rest, in front of a plate without them, and no shadow: the photo, their shadows and all."""
    plate, frames = random_case(4)
    plate["depth_m"][:] = 0
    ids = np.array([0, 1, 3])[plate["rest_owner"]]
    frames |= {"color": np.stack([plate["rest"]] * 3), "ids": np.stack([ids] * 3).astype(np.int32)}
    frames |= {"depth_m": np.ones(frames["ids"].shape, np.float32), "share": np.ones((3, 2))}
    frames |= {"blocked": np.zeros_like(frames["blocked"]), "occluded": np.zeros_like(frames["blocked"])}
    got, mask = run(plate, frames, [2], [1, 3])
    assert (got == plate["photo"]).all() and not mask.any()


def test_a_shadow_that_the_photo_has_already_is_not_cast_twice():
    """All light comes from the source, and a thing of the photo hides it: what else steps before it changes nothing."""
    plate, frames = random_case(5, count=1, objects=1)
    plate["source_share"][:] = 0.6
    plate["rest_blocked"][:], plate["rest_occluded"][:] = 1.0, 0.0
    frames["ids"][:] = 0
    frames |= {"share": np.ones((1, 1)), "blocked": np.ones_like(frames["blocked"][:, :, :])}
    frames["occluded"] = np.zeros_like(frames["blocked"])
    got, _ = run(plate, frames, [2], [1])
    assert (got == plate["photo"]).all()
    plate["owners"] = np.zeros_like(plate["owners"])
    frames["share"][:] = 0.0
    got, _ = run(plate, frames, [2], [1])
    want = linear_to_srgb(0.4 * srgb_to_linear(plate["rgb"] / 255.0)) * 255
    assert np.abs(got[0] - want).max() <= 1


def test_occlusion_by_the_photo_and_contact_tolerance():
    """A wall in the photo hides what is behind it; what rests on a noisy support is not eaten."""
    plate, frames = random_case(6, count=1, height=20, width=20)
    frames["ids"][:], frames["depth_m"][:], frames["blocked"][:], frames["occluded"][:] = 1, 1.0, 0, 0
    frames["share"][:] = 0
    plate["depth_m"][:, :10] = 0.8
    plate["depth_m"][:, 10:] = 1.0 + np.random.default_rng(0).normal(0, 0.002, (20, 10)).clip(-0.006, 0.006)
    got, _ = run(plate, frames, [], [1, 3])
    assert (got[0, :, :9] == plate["rgb"][:, :9]).all()
    assert (got[0, :, 11:] == frames["color"][0, :, 11:]).all()


def test_edges_blend_symmetrically_without_bleeding():
    """White object on black: coverage falls off 12/16, 4/16; the colour of id 0 (green) never shows."""
    color = np.zeros((1, 9, 9, 3), np.uint8)
    color[..., 1] = 255
    ids = np.zeros((1, 9, 9), np.int32)
    ids[0, 3:6, 3:6] = 1
    color[0, 3:6, 3:6] = 255
    plate = plain_case(9, 9, np.zeros((9, 9, 3), np.uint8))
    got = composite(color, np.ones(ids.shape, np.float32), ids, plate, [1], [])[0][0]
    assert (got[..., 0] == got[..., 1]).all() and (got[..., 0] == got[..., 2]).all()
    linear = srgb_to_linear(got[4, :, 0] / 255.0)
    np.testing.assert_allclose(linear, [0, 0, 0.25, 0.75, 1, 0.75, 0.25, 0, 0], atol=0.004)


def test_edges_between_two_things_are_soft_and_textures_sharp():
    """Left black, right white with one grey texel inside: the border is 1/4 and 3/4, the texel keeps its sharp outline."""
    color = np.zeros((1, 8, 8, 3), np.uint8)
    color[:, :, 4:] = 255
    color[:, 2, 6] = 100
    ids = np.ones((1, 8, 8), np.int32)
    ids[:, :, 4:] = 2
    plate = plain_case(8, 8, np.full((8, 8, 3), 90, np.uint8))
    got = composite(color, np.ones(ids.shape, np.float32), ids, plate, [1, 2], [])[0][0, :, :, 0]
    np.testing.assert_allclose(srgb_to_linear(got[5] / 255.0), [0, 0, 0, 0.25, 0.75, 1, 1, 1], atol=0.004)
    assert got[2, 6] == 100 and (got[1:4, [5, 7]] == 255).all() and got[3, 6] == 255


def test_batch_equals_single_images_and_warp_arrays_are_accepted():
    import warp as wp

    plate, frames = random_case(7)
    batch, _ = run(plate, frames, [2], [1, 3])
    for i in range(3):
        assert (run(plate, {k: v[i : i + 1] for k, v in frames.items()}, [2], [1, 3])[0][0] == batch[i]).all()
    frames["depth_m"], frames["ids"] = frames["depth_m"][..., None], frames["ids"][..., None]
    arrays = {k: wp.array(v, device="cpu") if k in ("color", "depth_m", "ids") else v for k, v in frames.items()}
    assert (run(plate, arrays, [2], [1, 3])[0] == batch).all()


@pytest.mark.parametrize("name", ["ids", "share", "blocked"])
def test_shapes_that_do_not_fit_are_named(name):
    plate, frames = random_case(8)
    frames[name] = frames[name][:, :-1]
    with pytest.raises(InputError, match=name):
        run(plate, frames, [], [1, 3])


@pytest.mark.gpu
def test_cuda_equals_cpu():
    import warp as wp

    if not wp.is_cuda_available():
        pytest.skip("no CUDA device")
    plate, frames = random_case(9)
    on_cpu, _ = run(plate, frames, [2], [1, 3])
    on_gpu, _ = run(plate, frames, [2], [1, 3], "cuda:0")
    assert np.abs(on_cpu.astype(int) - on_gpu).max() <= 1


def test_a_plate_may_have_lost_things_that_are_not_among_the_objects():
    """Their places show what was behind them, and nothing is read beyond the shares of those that are."""
    plate, frames = random_case(10, objects=1)
    plate["owners"] = plate["owners"] * 7
    plate["photo"] = np.where(plate["owners"][..., None] > 0, 255 - plate["rgb"], plate["rgb"]).astype(np.uint8)
    frames["ids"][:], frames["share"][:], frames["blocked"][:], frames["occluded"][:] = 0, 1.0, 0.0, 0.0
    assert (run(plate, frames, [2], [1])[0] == plate["rgb"]).all()

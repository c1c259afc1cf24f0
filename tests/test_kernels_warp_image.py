"""Warped frames against OpenCV's remap, a numpy twin and exact shifts; composed flows against direct ones."""

import cv2
import numpy as np
import pytest
import warp as wp

from phototwin.errors import InputError
from phototwin.kernels.warp_image import _warp_by_kernel, _warp_by_opencv, compose_flows, warp_frames

HEIGHT, WIDTH = 60, 90


def picture(seed=0, smooth=True):
    rgb = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    return cv2.GaussianBlur(rgb, (0, 0), 2.0) if smooth else rgb


def constant(dx, dy):
    return np.broadcast_to(np.float32([dx, dy]), (HEIGHT, WIDTH, 2)).copy()


NONE = np.zeros((HEIGHT, WIDTH), bool)


def test_no_flow_changes_nothing():
    rgb = picture(smooth=False)
    out, holes = warp_frames(rgb, constant(0, 0), NONE)
    assert np.array_equal(out, rgb) and not holes.any()


def test_whole_pixels_move_exactly_and_the_rest_is_filled():
    rgb, fill = picture(1, smooth=False), picture(2, smooth=False)
    out, holes = warp_frames(rgb, constant(7, -3), NONE, fill)
    assert np.array_equal(out[3:, :-7], rgb[:-3, 7:])
    assert holes[:3].all() and holes[:, -7:].all() and not holes[3:, :-7].any()
    assert np.array_equal(out[holes], fill[holes])


LIMIT = {"kernel": 0.51, "opencv": 3.0}  # codes; OpenCV rounds places to 1/32 pixel


def by(how, rgb, flow):
    """Warped by the kernel that a GPU runs, or by what a CPU runs."""
    arrays = (
        wp.array(rgb[None], dtype=wp.vec3ub),
        wp.array(flow[None], dtype=wp.vec2),
        wp.zeros((1, HEIGHT, WIDTH), dtype=wp.uint8),
    )
    plate = wp.empty((0, 0, 0), dtype=wp.vec3ub)
    out, holes = _warp_by_kernel(*arrays, plate) if how == "kernel" else _warp_by_opencv(*arrays, plate)
    return out.numpy()[0], holes.numpy()[0].view(bool)


@pytest.mark.parametrize("how", ["kernel", "opencv"])
def test_against_a_numpy_twin_and_opencv(how):
    rng = np.random.default_rng(3)
    rgb = picture(4)
    flow = cv2.GaussianBlur(rng.uniform(-9, 9, (HEIGHT, WIDTH, 2)).astype(np.float32), (0, 0), 4.0) * 6
    out, holes = by(how, rgb, flow)
    v, u = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    x, y = u + flow[..., 0], v + flow[..., 1]
    inside = (x >= -0.5) & (y >= -0.5) & (x < WIDTH - 0.5) & (y < HEIGHT - 0.5)
    assert np.array_equal(holes, ~inside) and 0.02 < holes.mean() < 0.5
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    fx, fy = (x - left)[..., None], (y - top)[..., None]

    def at(dy, dx):
        return rgb[np.clip(top + dy, 0, HEIGHT - 1), np.clip(left + dx, 0, WIDTH - 1)].astype(np.float32)

    value = (at(0, 0) * (1 - fx) + at(0, 1) * fx) * (1 - fy) + (at(1, 0) * (1 - fx) + at(1, 1) * fx) * fy
    assert np.abs(out[inside].astype(float) - value[inside]).max() <= LIMIT[how]
    remapped = cv2.remap(rgb, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    difference = np.abs(out[inside].astype(int) - remapped[inside])
    assert difference.max() <= 3 and difference.mean() < 0.3


def test_holes_without_a_fill_take_the_colours_around():
    rgb = np.full((HEIGHT, WIDTH, 3), 40, np.uint8)
    rgb[:, WIDTH // 2 :] = 200
    hidden = NONE.copy()
    hidden[20:30, 10:25] = True
    hidden[20:30, 60:75] = True
    out, holes = warp_frames(rgb, constant(0, 0), hidden)
    assert np.array_equal(holes, hidden) and np.array_equal(out[~hidden], rgb[~hidden])
    assert np.abs(out[hidden].astype(int) - rgb[hidden]).max() <= 80
    assert np.abs(out[20:30, 60:75].astype(int) - 200).mean() < 25
    everything, _ = warp_frames(rgb, constant(0, 0), np.ones_like(NONE))
    assert (everything == 0).all()


def test_a_moving_thing_is_filled_from_itself_and_the_rest_from_the_fill():
    rgb, ids = np.full((HEIGHT, WIDTH, 3), 40, np.uint8), np.zeros((HEIGHT, WIDTH), np.int32)
    rgb[20:40, 30:60], ids[20:40, 30:60] = 220, 3
    hidden = NONE.copy()
    hidden[25:50, 35:70] = True
    fill = np.full_like(rgb, 90)
    out, holes = warp_frames(rgb, constant(0, 0), hidden, fill, ids)
    assert np.array_equal(holes, hidden)
    assert (out[hidden & (ids == 3)] == 220).all() and (out[hidden & (ids == 0)] == 90).all()
    out, _ = warp_frames(rgb, constant(0, 0), hidden, fill, ids, fill_holds_things=True)
    assert (out[hidden] == 90).all()
    lonely = ids.copy()
    lonely[45:48, 40:44] = 7  # nothing of it is seen anywhere
    out, _ = warp_frames(rgb, constant(0, 0), hidden, fill, lonely)
    assert (out[lonely == 7] == 90).all()
    out, _ = warp_frames(rgb, constant(0, 0), hidden, None, lonely)
    assert ((out[lonely == 7] >= 40) & (out[lonely == 7] <= 220)).all()


def test_colours_mixed_with_what_moved_away_are_holes():
    before, after = np.zeros((2, HEIGHT, WIDTH), np.int32)
    before[20:40, 30:50] = 1
    after[20:40, 45:65] = 1
    rgb = np.repeat(np.where(before > 0, 200, 50).astype(np.uint8)[..., None], 3, -1)
    rgb[20:40, 29] = 125  # half of these pixels show the thing
    flow = constant(0, 0)
    flow[20:40, 45:65] = [-15, 0]
    hidden = (before > 0) & (after == 0)
    fill = np.full((HEIGHT, WIDTH, 3), 50, np.uint8)
    plain, _ = warp_frames(rgb, flow, hidden, fill)
    out, holes = warp_frames(rgb, flow, hidden, fill, after, before)
    assert (plain[25:35, 29] == 125).all() and (out[25:35, 29] == 50).all()
    assert holes[25:35, 29].all() and not holes[:18].any()


def test_composed_steps_do_not_drift():
    steps = [constant(1.3, -0.4), constant(-2.2, 0.7), constant(0.45, 1.9)]
    flow, hidden = steps[0], NONE
    for step in steps[1:]:
        flow, hidden = compose_flows(flow, hidden, step, NONE)
    assert np.allclose(flow[~hidden], sum(s[0, 0] for s in steps), atol=1e-5)
    rgb = picture(5)
    once, holes = warp_frames(rgb, flow, hidden)
    again = rgb
    for step in steps:
        again, _ = warp_frames(again, step, NONE)
    exact, _ = warp_frames(rgb, constant(*sum(s[0, 0] for s in steps)), NONE)
    inner = np.s_[6:-6, 6:-6]
    assert not holes[inner].any() and np.abs(once[inner].astype(int) - exact[inner]).max() <= 1
    blurred = np.abs(again[inner].astype(float) - exact[inner]).mean()
    assert blurred > 4 * np.abs(once[inner].astype(float) - exact[inner]).mean()


def test_flows_are_not_mixed_across_an_edge():
    flow_ba, occluded = constant(0, 0), NONE.copy()
    flow_ba[:, WIDTH // 2 :] = [20, 0]
    flow, hidden = compose_flows(flow_ba, occluded, constant(0.5, 0.0), NONE)
    assert set(np.unique(flow[~hidden][:, 0])) <= {0.5, 20.5}
    occluded[:, :10] = True
    _, hidden = compose_flows(flow_ba, occluded, constant(0.0, 0.0), NONE)
    assert np.array_equal(hidden, occluded)


def test_batches_and_wrong_shapes():
    rgb = np.stack([picture(6), picture(7)])
    flow = np.stack([constant(1.5, 0), constant(0, 2.5)])
    out, holes = warp_frames(rgb, flow, np.stack([NONE, NONE]))
    for k in range(2):
        one, hole = warp_frames(rgb[k], flow[k], NONE)
        assert np.array_equal(out[k], one) and np.array_equal(holes[k], hole)
    with pytest.raises(InputError, match="warp"):
        warp_frames(rgb, flow[:1], NONE[None])
    with pytest.raises(InputError, match="compose"):
        compose_flows(flow, np.stack([NONE, NONE]), flow[0], NONE)

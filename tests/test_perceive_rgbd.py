"""Render, then recover: boxes on a plane, seen by a noisy depth camera from anywhere, and the real captures."""

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from phototwin.errors import InputError, PerceptionError
from phototwin.frames import invert, make_T, pixel_rays, rotation_z, transform
from phototwin.perceive.perceive import PerceiveConfig, perceive
from phototwin.perceive.photo import load_photo
from phototwin.perceive.plane import TILT_SIGMA_RAD, align_pose, fit_plane, world_from_plane
from phototwin.perceive.rgbd import RgbdConfig, perceive_rgbd
from phototwin.perceive.vanishing import pitch_roll
from phototwin.scene import SENSOR_SCALE_SIGMA, Maps, ObjectHint, Photo

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
W, H = 320, 240
K_PX = np.array([[290.0, 0, 161], [0, 292.0, 118], [0, 0, 1]])
GREEN, RED, BLUE = (60, 150, 60), (190, 50, 45), (50, 70, 180)


@dataclass(frozen=True)
class Block:
    """A box on the table."""

    xy: tuple[float, float]
    size: tuple[float, float, float]
    yaw: float = 0.3
    color: tuple[int, int, int] = GREEN
    z: float = 0.0


def look_at(distance: float, pitch_deg: float, yaw_deg: float = 0.0, roll_deg: float = 0.0) -> np.ndarray:
    """T_world_camera of a camera that looks at the world's origin."""
    p, y, r = np.radians([pitch_deg, yaw_deg, roll_deg])
    forward = np.array([np.cos(p) * np.cos(y), np.cos(p) * np.sin(y), -np.sin(p)])
    right = np.array([np.sin(y), -np.cos(y), 0])
    down = np.cross(forward, right)
    R = np.stack([np.cos(r) * right + np.sin(r) * down, -np.sin(r) * right + np.cos(r) * down, forward], -1)
    return make_T(R, -distance * forward)


def render(
    T_world_camera: np.ndarray,
    blocks: list[Block],
    noise: float = 1.0,
    seed: int = 0,
    table_half_m: float = 5.0,
    wall_x: float | None = None,
) -> tuple[Photo, np.ndarray]:
    """A photo with depth, and the id of what each pixel shows: -1 nothing, 0 table, i + 1 block i, 99 floor, 98 wall."""
    rng = np.random.default_rng(seed)
    rays_w = pixel_rays(K_PX, W, H) @ T_world_camera[:3, :3].T
    eye = T_world_camera[:3, 3]
    depth, ids = np.full((H, W), np.inf), np.full((H, W), -1)

    def put(z: np.ndarray, which: int) -> None:
        nearer = (z > 0) & (z < depth)
        depth[nearer], ids[nearer] = z[nearer], which

    with np.errstate(divide="ignore", invalid="ignore"):
        table = -eye[2] / rays_w[..., 2]
        hit = eye + table[..., None] * rays_w
        put(np.where((np.abs(hit[..., :2]) < table_half_m).all(-1), table, np.inf), 0)
        put((-0.75 - eye[2]) / rays_w[..., 2], 99)
        if wall_x is not None:
            put((wall_x - eye[0]) / rays_w[..., 0], 98)
        for i, block in enumerate(blocks):
            R = rotation_z(block.yaw)
            half = np.array(block.size) / 2
            centre = np.array([*block.xy, block.z + half[2]])
            o, d = (eye - centre) @ R, rays_w @ R
            low, high = np.sort(np.stack([(-half - o) / d, (half - o) / d]), axis=0)
            enter, leave = low.max(-1), high.min(-1)
            put(np.where(enter < leave, enter, np.inf), i + 1)
    colors = {-1: (20, 20, 20), 0: (150, 120, 90), 99: (90, 90, 95), 98: (200, 200, 190)}
    rgb = np.zeros((H, W, 3))
    for which in np.unique(ids):
        rgb[ids == which] = colors[which] if which in colors else blocks[which - 1].color
    rgb = np.clip(rgb + rng.normal(0, 6, rgb.shape), 0, 255).astype(np.uint8)
    sigma = noise * (0.0008 + 0.0012 * np.where(np.isfinite(depth), depth, 0) ** 2)
    noisy = np.where(np.isfinite(depth) & (depth < 9), depth + rng.normal(0, 1, depth.shape) * sigma * 0.5, 0)
    noisy[rng.random(depth.shape) < 0.01] = 0
    return Photo(rgb, np.round(noisy * 1000).astype(np.float32) / 1000, K_PX, "test", name="rendered"), ids


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))


def check_world(maps: Maps, truth: np.ndarray, tilt_deg: float = 0.15, height_m: float = 0.002) -> None:
    """The support is z = 0, the origin below the camera, +X where it looks."""
    T = maps.T_world_camera
    np.testing.assert_allclose(T[:3, :3] @ T[:3, :3].T, np.eye(3), atol=1e-9)
    assert np.linalg.det(T[:3, :3]) == pytest.approx(1)
    assert np.degrees(np.arccos(np.clip(T[2, :3] @ truth[2, :3], -1, 1))) < tilt_deg
    assert abs(T[2, 3] - truth[2, 3]) < height_m


THREE = [
    Block((0.02, 0.16), (0.06, 0.04, 0.05)),
    Block((-0.05, 0.0), (0.04, 0.04, 0.04), 0.9, RED),
    Block((0.04, -0.15), (0.05, 0.08, 0.12), 0.1, BLUE),
]


@pytest.mark.parametrize("seed", range(5))
def test_boxes_are_recovered_from_anywhere(seed: int):
    rng = np.random.default_rng(seed)
    truth = look_at(rng.uniform(0.55, 0.95), rng.uniform(25, 85), rng.uniform(-25, 25), rng.uniform(-8, 8))
    photo, ids = render(truth, THREE, seed=seed)
    maps = perceive_rgbd(photo)
    check_world(maps, truth)
    assert maps.T_world_camera[:2, 3] == pytest.approx([0, 0])
    assert len(maps.masks) == 3 and maps.names == (None, None, None) and maps.metric
    assert (maps.masks.sum(0) <= 1).all() and not (maps.masks.any(0) & maps.support_mask).any()
    points = transform(maps.T_world_camera, pixel_rays(K_PX, W, H) * photo.depth_m[..., None])
    for i, block in enumerate(THREE):
        scores = [overlap(mask, ids == i + 1) for mask in maps.masks]
        assert max(scores) > 0.85, f"block {i} {scores}"
        inside = maps.masks[int(np.argmax(scores))] & (photo.depth_m > 0)
        assert np.percentile(points[inside][:, 2], 97) == pytest.approx(block.size[2], abs=0.005)
    assert (ids[maps.support_mask] == 0).mean() > 0.995
    assert (maps.support_mask & (ids == 0)).sum() > 0.8 * (ids == 0).sum()
    assert set(maps.notes) >= {"intrinsics", "gravity", "scale", "segmentation"}


def test_noise_of_three_millimetres_does_not_cut_things_into_pieces():
    blocks = [
        Block((0.02, 0.18), (0.06, 0.04, 0.06)),
        Block((-0.02, 0.0), (0.16, 0.16, 0.018), 0.4, BLUE),
        Block((0.04, -0.17), (0.05, 0.08, 0.12), 0.1, RED),
    ]
    photo, ids = render(look_at(0.75, 42), blocks, noise=4.0)
    assert photo.depth_m is not None
    bend = np.diff(photo.depth_m[-1], n=2)[np.convolve(photo.depth_m[-1] > 0, [1, 1, 1], "valid") == 3]
    assert 1.4826 * np.median(np.abs(bend)) / np.sqrt(6) > 0.002  # sigma of a pixel's noise in the near foreground
    masks = perceive_rgbd(photo).masks
    assert len(masks) == 3
    for i in range(3):
        assert max(overlap(mask, ids == i + 1) for mask in masks) > 0.8


def test_world_axes_are_under_the_camera_and_along_the_view():
    truth = look_at(0.7, 40, 25)
    photo, _ = render(truth, THREE, noise=0)
    T = perceive_rgbd(photo).T_world_camera
    assert T[1, 2] == pytest.approx(0, abs=1e-9) and T[0, 2] > 0  # the optical axis lies in the x-z plane
    down = perceive_rgbd(render(look_at(0.7, 89.9), THREE, noise=0)[0]).T_world_camera
    assert (down[:3, :3] @ [0, -1, 0])[0] > 0.99  # +X is up in the photo


@pytest.mark.parametrize("factor", [0.6, 1.0, 1.4])
def test_a_pose_gives_an_estimated_depth_its_scale(factor: float):
    truth = look_at(0.7, 40)
    photo, _ = render(truth, THREE)
    exact = perceive_rgbd(replace(photo, T_world_camera=truth))
    assert photo.depth_m is not None
    wrong = replace(
        photo, depth_m=photo.depth_m * factor, T_world_camera=truth, depth_source="a model", depth_scale_sigma=0.15
    )
    maps = perceive_rgbd(wrong)
    check_world(maps, truth, height_m=0.004)
    assert maps.depth_m is not None and len(maps.masks) == len(exact.masks)
    known = photo.depth_m > 0
    assert np.median(maps.depth_m[known] / photo.depth_m[known]) == pytest.approx(1.0, abs=0.005)
    assert "a model" in maps.notes["scale"] and 0.005 < maps.sigma.scale < 0.05


def test_the_same_photo_gives_the_same_maps():
    photo, _ = render(look_at(0.7, 45), THREE)
    a, b = perceive_rgbd(photo, seed=3), perceive(photo, PerceiveConfig(seed=3))
    np.testing.assert_array_equal(a.masks, b.masks)
    np.testing.assert_array_equal(a.T_world_camera, b.T_world_camera)


def test_pose_given_is_kept_and_corrected():
    truth = look_at(0.7, 45, 30)
    photo, _ = render(truth, THREE)
    exact = perceive_rgbd(replace(photo, T_world_camera=truth))
    np.testing.assert_allclose(exact.T_world_camera, truth, atol=0.003)
    wrong = make_T(rotation_z(0.0), np.array([0, 0, 0.02])) @ truth
    angle = np.radians(2)
    wrong[:3, :3] = (
        np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]]) @ wrong[:3, :3]
    )
    mended = perceive_rgbd(replace(photo, T_world_camera=wrong))
    check_world(mended, truth)
    np.testing.assert_allclose(mended.T_world_camera[:2, 3], truth[:2, 3])
    assert "2.0" in mended.notes["gravity"] and "mm" in mended.notes["gravity"]
    high = make_T(np.eye(3), np.array([0, 0, 0.3])) @ truth
    with pytest.raises(PerceptionError, match="pose that the camera file gives"):
        perceive_rgbd(replace(photo, T_world_camera=high))


@pytest.mark.parametrize("seed", range(4))
def test_plane_against_closed_form(seed: int):
    rng = np.random.default_rng(seed)
    truth = look_at(rng.uniform(0.5, 1.2), rng.uniform(20, 88), rng.uniform(-180, 180), rng.uniform(-15, 15))
    photo, _ = render(truth, [], noise=0)
    points = pixel_rays(K_PX, W, H) * photo.depth_m[..., None].astype(float)
    plane = fit_plane(points, (photo.depth_m > 0) & (photo.depth_m < 1.6), np.random.default_rng(0))
    np.testing.assert_allclose(plane.normal_c, truth[2, :3], atol=2e-3)
    assert plane.camera_height_m == pytest.approx(truth[2, 3], abs=1e-3)
    aligned, tilt, lift = align_pose(truth, plane)
    assert tilt < 2e-3 and abs(lift) < 1e-3
    relative = invert(aligned) @ world_from_plane(plane)  # both see the same plane
    np.testing.assert_allclose(aligned[2, :3], world_from_plane(plane)[2, :3], atol=1e-9)
    assert np.isfinite(relative).all()


def test_the_tilt_is_as_sure_as_the_slow_errors_of_the_sensor_let_it_be():
    """A bump of the sensor, the same in neighbouring pixels, is no noise that many pixels average away."""
    truth = look_at(0.8, 40)
    photo, _ = render(truth, [], noise=0)
    off, formal = [], []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        coarse = rng.normal(0, 0.006, (6, 8)).astype(np.float32)
        depth = photo.depth_m + cv2.resize(coarse, (W, H), interpolation=cv2.INTER_CUBIC)
        points = pixel_rays(K_PX, W, H) * depth[..., None].astype(float)
        plane = fit_plane(points, (depth > 0) & (depth < 1.6), np.random.default_rng(0))
        off.append(np.subtract(pitch_roll(world_from_plane(plane)[:3, :3]), pitch_roll(truth[:3, :3])))
        assert (plane.tilt_sigma_rad > TILT_SIGMA_RAD).all()
        level = np.array([1, np.cos(np.radians(40))])
        formal.append(np.sqrt((plane.tilt_sigma_rad * level) ** 2 - TILT_SIGMA_RAD**2) / level)
    assert 0.5 < np.sqrt(np.mean(np.square(off))) / np.sqrt(np.mean(np.square(formal))) < 2


def test_the_maps_say_how_sure_they_are():
    photo, _ = render(look_at(0.7, 40), THREE)
    sigma = perceive_rgbd(replace(photo, K_source="camera file")).sigma
    assert sigma.scale == SENSOR_SCALE_SIGMA and sigma.depth_m < 0.005 and np.degrees(sigma.pitch_rad) < 0.3
    guess = perceive_rgbd(replace(photo, K_px=None, depth_scale_sigma=0.08)).sigma
    assert guess.scale == 0.08 and guess.depth_m > sigma.depth_m and guess.focal > 10 * sigma.focal


def test_a_wall_behind_and_a_floor_below_do_not_win():
    truth = look_at(0.8, 28)
    photo, _ = render(truth, THREE, table_half_m=0.4, wall_x=0.6)
    maps = perceive_rgbd(photo)
    check_world(maps, truth)
    assert len(maps.masks) == 3


def test_what_is_cut_off_or_hangs_in_the_air_is_left_out_and_said():
    truth = look_at(0.7, 50)
    photo, ids = render(
        truth, [*THREE, Block((-0.3, 0.0), (0.1, 0.1, 0.1)), Block((0.1, 0.02), (0.04, 0.04, 0.04), z=0.12)]
    )
    assert (ids[-1] == 4).any()
    maps = perceive_rgbd(photo)
    assert len(maps.masks) == 3
    assert "1 cut off by the edge of the photo" in maps.notes["segmentation"]
    assert "1 not standing on the support" in maps.notes["segmentation"]


def test_one_thing_in_front_of_another_stays_two():
    front, back = Block((-0.08, 0.0), (0.05, 0.05, 0.06)), Block((0.08, 0.01), (0.05, 0.1, 0.12), 0.0, RED)
    photo, ids = render(look_at(0.7, 30), [front, back])
    maps = perceive_rgbd(photo)
    assert len(maps.masks) == 2
    for which in (1, 2):
        assert max(overlap(mask, ids == which) for mask in maps.masks) > 0.85


def test_a_part_that_hangs_in_the_air_belongs_to_what_holds_it():
    body = Block((0.0, 0.0), (0.08, 0.08, 0.09), 0.0)
    for z, count in ((0.022, 1), (0.0, 2)):  # the root of a handle is hidden; what stands by itself stays a thing
        part = Block((0.03, -0.06), (0.02, 0.03, 0.05), 0.0, z=z)
        photo, ids = render(look_at(0.7, 40), [body, part])
        masks = perceive_rgbd(photo).masks
        assert len(masks) == count
        assert (masks.any(0) & (ids == 2)).sum() > 0.7 * (ids == 2).sum()


@pytest.mark.parametrize(("floor_m", "one"), [(0.006, True), (0.0, False)])
def test_two_arcs_are_one_rim_unless_the_support_is_seen_inside(floor_m: float, one: bool):
    from phototwin.perceive.clusters import _one_rim

    angle = np.linspace(-1.2, 1.2, 200)
    arc = np.column_stack([0.06 * np.cos(angle), 0.06 * np.sin(angle), np.full(200, 0.06)])
    inside = np.column_stack([np.linspace(-0.02, 0.02, 50), np.zeros(50), np.full(50, floor_m)])
    assert _one_rim(arc, arc * [-1, 1, 1], inside) is one


def test_refusals_ask_for_a_hint():
    photo, _ = render(look_at(0.7, 45), [])
    with pytest.raises(PerceptionError, match=r"Nothing that a robot could use.*--objects"):
        perceive_rgbd(photo)
    noise = np.random.default_rng(0).uniform(0.3, 1.5, (H, W)).astype(np.float32)
    with pytest.raises(PerceptionError, match="No flat support"):
        perceive_rgbd(replace(photo, depth_m=noise))
    with pytest.raises(PerceptionError, match="too few"):
        perceive_rgbd(replace(photo, depth_m=np.where(np.arange(W) < 3, photo.depth_m, 0)))
    with pytest.raises(PerceptionError, match="too few"):
        perceive_rgbd(replace(photo, depth_m=photo.depth_m + 5))


def test_focal_length_prior_is_said():
    photo, _ = render(look_at(0.7, 45), THREE)
    maps = perceive_rgbd(replace(photo, K_px=None, K_source=None), RgbdConfig(horizontal_fov_deg=57.7))
    assert maps.K_px[0, 0] == pytest.approx(290, abs=1)
    assert "assumed" in maps.notes["intrinsics"] and "--camera" in maps.notes["intrinsics"]


def box_of(mask: np.ndarray) -> np.ndarray:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], dtype=np.float64)


def test_hints_select_and_name():
    photo, ids = render(look_at(0.7, 45), THREE)
    centre = np.argwhere(ids == 2).mean(0)[::-1]
    hints = (
        ObjectHint("red cube", point_px=centre),
        ObjectHint(None, mask=ids == 1),
        ObjectHint("tower", box_px=box_of(ids == 3)),
    )
    maps = perceive_rgbd(replace(photo, hints=hints))
    assert maps.names == ("red cube", None, "tower") and len(maps.masks) == 3
    assert overlap(maps.masks[0], ids == 2) > 0.85 and overlap(maps.masks[2], ids == 3) > 0.85
    np.testing.assert_array_equal(maps.masks[1], ids == 1)
    only = perceive_rgbd(replace(photo, hints=hints[2:]))
    assert only.names == ("tower",) and len(only.masks) == 1


def test_boxes_part_what_touches():
    left, right = Block((0, 0.03), (0.06, 0.06, 0.08), 0.0), Block((0, -0.03), (0.06, 0.06, 0.06), 0.0, RED)
    photo, ids = render(look_at(0.7, 45), [left, right])
    assert len(perceive_rgbd(photo).masks) == 1
    hints = tuple(ObjectHint(name, box_px=box_of(ids == i)) for name, i in (("left", 1), ("right", 2)))
    maps = perceive_rgbd(replace(photo, hints=hints))
    assert overlap(maps.masks[0], ids == 1) > 0.8 and overlap(maps.masks[1], ids == 2) > 0.8


def test_a_box_finds_what_stands_on_a_tray():
    tray, cup = (
        Block((0, 0), (0.3, 0.3, 0.03), 0.4, (200, 200, 200)),
        Block((0, 0), (0.06, 0.06, 0.08), 0.1, RED, z=0.03),
    )
    photo, ids = render(look_at(0.7, 45), [tray, cup])
    assert len(perceive_rgbd(photo).masks) == 1  # one rigid group
    maps = perceive_rgbd(replace(photo, hints=(ObjectHint("cup", box_px=box_of(ids == 2)),)))
    assert overlap(maps.masks[0], ids == 2) > 0.9


@pytest.mark.parametrize(
    ("hints", "says"),
    [
        ((ObjectHint("cup", point_px=np.array([20.0, 200.0])),), "Nothing stands on the support at the point.*'cup'"),
        ((ObjectHint(None, box_px=np.array([5.0, 180, 60, 230])),), "inside the box of hint number 1"),
        ((ObjectHint("a", mask=np.eye(H, W, dtype=bool) & (np.arange(W) < 5)),), "covers no depth"),
    ],
)
def test_hints_that_point_at_nothing(hints: tuple[ObjectHint, ...], says: str):
    photo, _ = render(look_at(0.7, 45), THREE)
    with pytest.raises(PerceptionError, match=says):
        perceive_rgbd(replace(photo, hints=hints))


def test_two_hints_for_one_thing():
    photo, ids = render(look_at(0.7, 45), THREE)
    centre = np.argwhere(ids == 2).mean(0)[::-1]
    with pytest.raises(PerceptionError, match="'a' and 'b' mean the same pixels"):
        perceive_rgbd(replace(photo, hints=(ObjectHint("a", point_px=centre), ObjectHint("b", point_px=centre))))


def test_depth_is_needed():
    with pytest.raises(InputError, match="--depth"):
        perceive_rgbd(Photo(np.zeros((H, W, 3), np.uint8)))


real = pytest.mark.skipif(not DATA.is_dir(), reason="the real captures are not here")


def capture(name: str) -> tuple[Photo, dict]:
    folder = DATA / name
    photo = load_photo(folder / "rgb.png", folder / "depth.png", folder / "scene.json")
    return photo, json.loads((folder / "scene.json").read_text())


@real
@pytest.mark.parametrize("name", ["six_sugar", "six_cheezit", "six_blue_mug", "six_green_bowl"])
def test_six_heights(name: str):
    photo, truth = capture(name)
    start = time.perf_counter()
    maps = perceive_rgbd(photo)
    assert time.perf_counter() - start < 8  # 0.5 s alone on a core
    assert len(maps.masks) == 1
    height, width = photo.depth_m.shape
    rays = pixel_rays(maps.K_px, width, height)
    z = transform(maps.T_world_camera, rays * photo.depth_m[..., None])[maps.masks[0] & (photo.depth_m > 0)][:, 2]
    assert np.percentile(z, 99.5) == pytest.approx(truth["objects"][0]["height_m_by_depth"], abs=0.002)
    points_c = np.loadtxt(DATA / name / "object_points_camera.xyz")
    pixels = (points_c @ maps.K_px.T)[:, :2] / points_c[:, 2:]
    column, row = pixels.astype(int).T
    import cv2

    near = cv2.dilate(maps.masks[0].astype(np.uint8), np.ones((7, 7), np.uint8)) > 0  # depth edges are fat by 3 px
    assert near[row, column].mean() > 0.98 and maps.masks[0][row, column].mean() > 0.92


@real
def test_spoon_and_plate():
    photo, _ = capture("o2s_spoon_plate")
    maps = perceive_rgbd(photo)
    check_world(maps, photo.T_world_camera, tilt_deg=1.5, height_m=0.012)
    assert len(maps.masks) == 2  # the spoon lies on the block: one rigid group
    white = (photo.rgb.min(-1) > 200) & (np.arange(photo.rgb.shape[1]) > 400)
    assert overlap(maps.masks[1], white) > 0.95


@real
def test_rendered_tea_set():
    from phototwin.images import load_ids

    photo, _ = capture("pcr_google7")
    maps = perceive_rgbd(photo)
    check_world(maps, photo.T_world_camera, tilt_deg=0.1, height_m=0.002)
    ids = load_ids(DATA / "pcr_google7" / "masks.png")
    assert len(maps.masks) == 2
    tray, teapot = maps.masks
    assert max(overlap(teapot, ids == i) for i in range(1, 6)) > 0.97
    stack = (ids > 0) & ~teapot
    assert overlap(tray, stack) > 0.97  # stacked things are one rigid group


def test_exact_depth_keeps_the_outline_that_colour_would_lose():
    # The shaded side of the sample's bowl is as dark as the table: only the depth tells them apart.
    from PIL import Image

    from phototwin.perceive.photo import load_photo
    from phototwin.pipeline import SAMPLE

    truth = np.asarray(Image.open(SAMPLE / "masks.png"))
    maps = perceive_rgbd(load_photo(SAMPLE / "photo.png", SAMPLE / "depth.png", SAMPLE / "camera.json"))
    overlaps = [max((m & (truth == i)).sum() / (m | (truth == i)).sum() for m in maps.masks) for i in range(1, 6)]
    assert min(overlaps) > 0.94 and sorted(overlaps)[1] > 0.97, overlaps


def test_the_hole_of_a_handle_is_no_part_of_the_mug():
    sample = Path(__file__).resolve().parents[1] / "usd_assets" / "sample"
    maps = perceive_rgbd(load_photo(sample / "photo.png", sample / "depth.png", sample / "camera.json"))
    ids = cv2.imread(str(sample / "masks.png"), cv2.IMREAD_UNCHANGED)
    best = {i: max(overlap(mask, ids == i) for mask in maps.masks) for i in np.unique(ids[ids > 0])}
    assert len(maps.masks) == len(best) and min(best.values()) > 0.94, best
    mug = max(maps.masks, key=lambda mask: cv2.connectedComponents((~mask).astype(np.uint8), connectivity=4)[0])
    count, _, stats, _ = cv2.connectedComponentsWithStats((~mug).astype(np.uint8), connectivity=4)
    assert count == 3 and stats[2, cv2.CC_STAT_AREA] > 40  # what is outside, and the hole


def test_noise_on_a_flat_thing_makes_no_holes():
    truth = look_at(0.7, 50)
    photo, _ = render(truth, [Block((0.0, 0.0), (0.12, 0.05, 0.007))], noise=2.0)
    (mask,) = perceive_rgbd(photo).masks
    assert cv2.connectedComponents((~mask).astype(np.uint8), connectivity=4)[0] == 2

"""The background from a moved camera: against closed forms, against another view of an analytic scene, and where little is known."""

import numpy as np
import pytest

from phototwin.blend.backdrop import Margin, draw_view, make_backdrop, view_backdrop
from phototwin.blend.backdrop_mesh import mesh_pixels
from phototwin.blend.backdrop_surfaces import find_surfaces
from phototwin.blend.crop import resample_area
from phototwin.errors import InputError
from phototwin.frames import invert, make_T, pixel_rays, transform
from phototwin.kernels.rasterize import rasterize
from phototwin.scene import Camera

WIDTH, HEIGHT, FOCAL = 200, 150, 170.0
BOX_LOW, BOX_HIGH = np.array([0.55, -0.08, 0.0]), np.array([0.65, 0.10, 0.15])
WALL_X = 1.3
EDGE_X = 0.95  # the table ends here, the floor is 0.7 m below
FLOOR_Z = -0.7


def camera(pitch=0.6, height=0.5, focal=FOCAL, size=(WIDTH, HEIGHT)):
    forward = np.array([np.cos(pitch), 0, -np.sin(pitch)])
    right = np.array([0.0, -1.0, 0.0])
    T = make_T(np.stack([right, np.cross(forward, right), forward], 1), np.array([0.0, 0.0, height]))
    K = np.array([[focal, 0, size[0] / 2], [0, focal, size[1] / 2], [0, 0, 1.0]])
    return Camera(K, *size, T)


def moved(cam, turn=(0.0, 0.0, 0.0), step=(0.0, 0.0, 0.0), zoom=1.0):
    angle = np.linalg.norm(turn)
    R = np.eye(3)
    if angle > 0:
        x, y, z = np.asarray(turn) / angle
        cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
        R = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    K = cam.K_px.copy()
    K[[0, 1], [0, 1]] *= zoom
    return Camera(K, cam.width, cam.height, cam.T_world_camera @ make_T(R, np.asarray(step, float)))


def see(cam, box=True):
    """Colours (H, W, 3) float and depth of table, floor, wall and box, by ray casting; waves for texture."""
    rays = pixel_rays(cam.K_px, cam.width, cam.height) @ cam.T_world_camera[:3, :3].T
    eye = cam.T_world_camera[:3, 3]
    with np.errstate(divide="ignore", invalid="ignore"):
        options = [(0.0 - eye[2]) / rays[..., 2], (FLOOR_Z - eye[2]) / rays[..., 2], (WALL_X - eye[0]) / rays[..., 0]]
        table_x = eye[0] + options[0] * rays[..., 0]
        options[0] = np.where(table_x < EDGE_X, options[0], np.inf)
        low, high = (BOX_LOW - eye) / rays, (BOX_HIGH - eye) / rays
    enter, leave = np.minimum(low, high).max(-1), np.maximum(low, high).min(-1)
    options.append(np.where((enter < leave) & (enter > 0) & box, enter, np.inf))
    depth = np.stack([np.where(np.isfinite(o) & (o > 0), o, np.inf) for o in options])
    which, depth = depth.argmin(0), depth.min(0)
    p = eye + rays * depth[..., None]
    base = np.array([[150, 110, 80], [90, 90, 100], [170, 175, 170], [60, 90, 160.0]])[which]
    wave = np.where(
        which == 2, np.sin(25 * p[..., 1]) + np.sin(25 * p[..., 2]), np.sin(40 * p[..., 0]) * np.cos(9 * p[..., 1])
    )
    return base + 14 * wave[..., None], depth.astype(np.float32), which


def as_photo(color):
    return np.clip(np.round(color), 0, 255).astype(np.uint8)


def psnr(a, b, where=...):
    return 10 * np.log10(255**2 / np.mean((a.astype(float) - b)[where] ** 2))


@pytest.fixture(scope="module")
def scene():
    cam = camera()
    color, depth, _ = see(cam)
    return cam, as_photo(color), depth, make_backdrop(as_photo(color), depth, cam)


def test_unmoved_is_the_photo_bit_by_bit(scene):
    cam, photo, depth, backdrop = scene
    view = view_backdrop(backdrop, cam)
    assert np.array_equal(view.rgb, photo) and np.array_equal(view.depth_m, depth) and not view.holes.any()
    ys, xs = np.mgrid[:HEIGHT, :WIDTH]
    assert np.allclose(view.source_px, np.stack([xs, ys], -1) + 0.5)


def test_unmoved_crop_is_the_resampled_photo(scene):
    cam, photo, _, backdrop = scene
    K = cam.K_px.copy()
    K[:2, 2] -= [20, 10]
    K[:2] /= 2.0
    view = view_backdrop(backdrop, Camera(K, 80, 60, cam.T_world_camera))
    assert np.array_equal(view.rgb, resample_area(photo, np.array([20, 10, 180, 130]), (80, 60)))
    K = cam.K_px.copy()
    K[:2, 2] -= [20, 10]
    view = view_backdrop(backdrop, Camera(K, 100, 70, cam.T_world_camera))
    assert np.array_equal(view.rgb, photo[10:80, 20:120]) and np.allclose(view.source_px[0, 0], [20.5, 10.5])


def test_drawn_unmoved_is_nearly_the_photo(scene):
    cam, photo, _, backdrop = scene
    view = draw_view(backdrop, cam)
    assert psnr(view.rgb, photo) > 45 and not view.holes.any()
    error = np.linalg.norm(view.source_px - np.stack(np.mgrid[:HEIGHT, :WIDTH][::-1], -1) - 0.5, axis=-1)
    assert np.nanmax(error) < 0.02 and np.isnan(error).mean() < 0.01


MOVES = [
    ((0.0, 0.0, 0.0), (0.05, 0.0, 0.0), 1.0),
    ((0.0, 0.0, 0.0), (0.0, -0.05, 0.05), 1.0),
    ((0.0873, -0.0873, 0.0873), (0.05, 0.05, -0.05), 0.95),
    ((-0.0873, 0.0873, -0.0873), (-0.05, -0.05, -0.05), 1.05),
]


@pytest.mark.parametrize(("turn", "step", "zoom"), MOVES)
def test_moved_view_against_the_scene(scene, turn, step, zoom):
    cam, _, depth, backdrop = scene
    there = moved(cam, turn, step, zoom)
    truth, truth_depth, _ = see(there)
    view = view_backdrop(backdrop, there)
    assert view.holes.mean() < 0.005
    assert psnr(view.rgb, truth) > 24
    from_photo = ~np.isnan(view.source_px[..., 0])
    assert psnr(view.rgb, truth, from_photo) > 27
    close = np.abs(view.depth_m - truth_depth) < 0.02 * truth_depth
    assert close[from_photo].mean() > 0.97 and close.mean() > 0.85
    # What is said to come from a pixel of the photo is the point that the photo shows there.
    points_w = transform(there.T_world_camera, pixel_rays(there.K_px, WIDTH, HEIGHT) * truth_depth[..., None])
    points_c = transform(invert(cam.T_world_camera), points_w)
    at = (points_c @ cam.K_px.T)[..., :2] / points_c[..., 2:]
    index = np.clip(at.astype(int), 0, [WIDTH - 1, HEIGHT - 1])
    visible = ((at > 2) & (at < [WIDTH - 2, HEIGHT - 2])).all(-1)
    visible &= np.abs(depth[index[..., 1], index[..., 0]] - points_c[..., 2]) < 0.01 * points_c[..., 2]
    error = np.linalg.norm(view.source_px - at, axis=-1)[visible]
    assert np.nanmedian(error) < 0.05 and (error < 0.5).mean() > 0.96


def test_pure_rotation_is_a_homography_whatever_the_depth(scene):
    cam, _, _, backdrop = scene
    there = moved(cam, (0.04, -0.05, 0.03))
    view = view_backdrop(backdrop, there)
    rays = pixel_rays(there.K_px, WIDTH, HEIGHT) @ there.T_world_camera[:3, :3].T @ cam.T_world_camera[:3, :3]
    at = (rays @ cam.K_px.T)[..., :2] / rays[..., 2:]
    inside = ((at > 0) & (at < [WIDTH, HEIGHT])).all(-1)
    error = np.linalg.norm(view.source_px - at, axis=-1)[inside]
    assert np.nanmax(error) < 0.05 and np.isnan(error).mean() < 0.02


def test_no_colour_between_two_sides_of_a_jump():
    cam = camera(pitch=0.0)
    depth = np.full((HEIGHT, WIDTH), 1.5, np.float32)
    rgb = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    rgb[..., 2] = 255
    depth[40:110, 60:140] = 0.5
    rgb[40:110, 60:140] = [255, 0, 0]
    view = view_backdrop(make_backdrop(rgb, depth, cam), moved(cam, step=(0.04, 0.03, 0.0)))
    mixed = (view.rgb[..., 0] > 60) & (view.rgb[..., 2] > 60)
    assert mixed.mean() < 0.02 and not view.holes.any()
    between = (view.depth_m > 0.55) & (view.depth_m < 1.4)
    assert not between.any()
    # The near square keeps its size, and the far colour fills what it uncovers.
    assert abs((view.rgb[..., 0] > 128).sum() - 70 * 80) < 0.05 * 70 * 80


def test_smaller_views_are_averages(scene):
    cam, _, _, backdrop = scene
    small = Camera(np.diag([0.5, 0.5, 1]) @ cam.K_px, WIDTH // 2, HEIGHT // 2, cam.T_world_camera)
    there = moved(small, (0.02, 0.01, 0.0), (0.02, 0.0, 0.01))
    truth = see(moved(cam, (0.02, 0.01, 0.0), (0.02, 0.0, 0.01)))[0]
    truth = truth.reshape(HEIGHT // 2, 2, WIDTH // 2, 2, 3).mean((1, 3))
    assert psnr(view_backdrop(backdrop, there).rgb, truth) > 26


def test_a_backdrop_for_small_views_is_small(scene):
    cam, photo, depth, _ = scene
    backdrop = make_backdrop(photo, depth, cam, shrink=1.6)
    assert backdrop.rgb.shape == (93, 125, 3) and backdrop.camera.K_px[0, 0] == pytest.approx(FOCAL / 1.6)
    small = Camera(np.diag([1 / 1.6, 1 / 1.6, 1]) @ cam.K_px, 120, 90, cam.T_world_camera)
    assert np.array_equal(view_backdrop(backdrop, small).rgb, backdrop.rgb[:90, :120])
    there = moved(small, (0.02, 0.01, 0.0), (0.02, 0.0, 0.01))
    assert psnr(view_backdrop(backdrop, there).rgb, see(there)[0]) > 25


@pytest.mark.parametrize("kind", ["nothing", "table only", "noisy"])
def test_poor_depth_still_gives_a_whole_view(scene, kind):
    cam, photo, depth, _ = scene
    if kind == "nothing":
        depth = np.zeros_like(depth)
    elif kind == "table only":
        _, flat, which = see(cam, box=False)
        depth = np.where(which == 0, flat, 0)
    else:
        depth = depth * (1 + 0.01 * np.random.default_rng(0).standard_normal(depth.shape)).astype(np.float32)
    backdrop = make_backdrop(photo, depth, cam)
    view = view_backdrop(backdrop, moved(cam, (0.03, 0.03, 0.0), (0.03, 0.02, 0.02)))
    assert view.holes.mean() < 0.01 and np.isfinite(view.depth_m).all() and (view.depth_m > 0).all()
    assert np.array_equal(view_backdrop(backdrop, cam).rgb, photo)


@pytest.mark.parametrize("tilt", [0.0, 0.002])
def test_the_table_is_one_plane_however_its_outline_and_tilt_are_off(scene, tilt):
    cam, _, depth, _ = scene
    which = see(cam)[2]
    tilted = moved(cam, (tilt, 0.0, 0.0))
    small = np.array([[0.5, -0.1], [0.7, -0.1], [0.7, 0.1], [0.5, 0.1]])
    found = find_surfaces(1.0 / depth, tilted, FOCAL * 0.0866, small)
    assert found.support == 0 and (found.label == 0)[which == 0].mean() > 0.97
    assert (found.label == 0)[which >= 2].mean() < 0.03


def test_guessed_depth_is_not_torn_at_the_table(scene):
    cam, _, _, _ = scene
    color, depth, which = see(cam, box=False)
    shifted = np.where(
        np.roll(which == 0, 5, 0), see_table(cam), np.where(which == 0, 2.0, depth)
    )  # the edge is 5 px off
    there = moved(cam, (0.02, 0.02, 0.0), (0.03, 0.03, 0.03))
    torn = view_backdrop(make_backdrop(as_photo(color), shifted.astype(np.float32), cam), there)
    whole = view_backdrop(make_backdrop(as_photo(color), shifted.astype(np.float32), cam, guessed=True), there)
    inner = np.s_[30:-30, 30:-30]
    assert np.isnan(torn.source_px[inner]).any(-1).sum() > 100
    assert np.isnan(whole.source_px[inner]).any(-1).sum() < 5 and not whole.holes.any()
    # The table itself is where it belongs.
    truth, _, seen = see(there, box=False)
    table = seen == 0
    table[: HEIGHT // 2] = False
    table &= ~np.isnan(whole.source_px[..., 0])
    assert psnr(whole.rgb, truth, table) > 27


def see_table(cam):
    rays = pixel_rays(cam.K_px, cam.width, cam.height) @ cam.T_world_camera[:3, :3].T
    return np.where(rays[..., 2] < 0, -cam.T_world_camera[2, 3] / np.minimum(rays[..., 2], -1e-9), 3.0)


def test_made_twice_is_the_same(scene):
    cam, photo, depth, backdrop = scene
    again = make_backdrop(photo, depth, cam)
    assert all(np.array_equal(a, b) for a, b in zip(backdrop.colors, again.colors, strict=True))
    assert np.array_equal(backdrop.points_c, again.points_c)


def test_margin_decides_how_much_is_invented(scene):
    cam, photo, depth, backdrop = scene
    small = make_backdrop(photo, depth, cam, margin=Margin(0.01, 0.01, 0.0))
    assert small.canvas.camera.width < backdrop.canvas.camera.width


def test_wrong_sizes_are_refused(scene):
    cam, photo, depth, _ = scene
    with pytest.raises(InputError, match="backdrop"):
        make_backdrop(photo[:-1], depth, cam)


def test_pixels_are_tiled_without_gaps_across_block_sizes():
    rng = np.random.default_rng(3)
    v, u = np.mgrid[:70, :90]
    inverse = 1.0 + 0.002 * u + 0.001 * v
    inverse[20:50, 30:60] += 0.3 + 0.02 * rng.random((30, 30))
    mask = (u - 45) ** 2 + (v - 35) ** 2 < 40**2
    right, down = (np.abs(np.diff(inverse, axis=a)) > 0.1 for a in (1, 0))
    mesh = mesh_pixels(inverse, mask, right, down, 1e-4)
    corners = mesh.pixels[mesh.faces]
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = np.abs(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]) / 2
    assert area.sum() == pytest.approx(mask.sum())
    assert area.max() > 10  # flat parts are large triangles
    points = np.concatenate([mesh.pixels, np.ones((len(mesh.pixels), 1))], 1) / mesh.inverse[:, None]
    raster = rasterize(points, mesh.faces, np.eye(3), 90, 70)
    assert np.array_equal(raster.face >= 0, mask)
    edge = np.zeros_like(mask)
    edge[:, 1:] |= right
    edge[:, :-1] |= right
    edge[1:] |= down
    edge[:-1] |= down
    off = np.abs(1 / raster.depth_m[mask & ~edge] - inverse[mask & ~edge])
    assert np.percentile(off, 95) < 0.01

from pathlib import Path

import cv2
import numpy as np
import pytest
from synthetic import look_at

from phototwin.build.background import background_depth, background_mesh, object_depth, support_polygon
from phototwin.build.fields import diffuse
from phototwin.build.holes import find_holes
from phototwin.build.inpaint import remove_objects
from phototwin.build.shadow import find_shadow
from phototwin.build.texture import shade_raster
from phototwin.frames import invert, pixel_rays, project, support_depth, transform
from phototwin.kernels.rasterize import rasterize
from phototwin.scene import depth_inside

WIDTH, HEIGHT = 240, 180
K_PX = np.array([[200.0, 0, 121.0], [0, 202.0, 88.0], [0, 0, 1]])
T_WORLD_CAMERA = look_at(np.array([0.0, 0.0, 0.5]), np.array([0.5, 0.0, 0.0]))
TABLE = np.array([[0.2, -0.35], [0.8, -0.35], [0.8, 0.3], [0.2, 0.3]])
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def inside(polygon, points):
    return depth_inside(polygon, points) >= -1e-9


def table_mask():
    """Pixels that see the table, and the world point of each pixel's ray on z = 0."""
    depth = support_depth(K_PX, T_WORLD_CAMERA, WIDTH, HEIGHT)
    on_plane = np.isfinite(depth)
    hits = transform(T_WORLD_CAMERA, pixel_rays(K_PX, WIDTH, HEIGHT) * np.where(on_plane, depth, 0)[..., None])
    return on_plane & inside(TABLE, hits[..., :2]), hits


def disc(hits, x, y, radius):
    return np.hypot(hits[..., 0] - x, hits[..., 1] - y) < radius


def area(polygon):
    x, y = polygon.T
    return 0.5 * float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum())


def test_the_outline_is_the_table_and_holds_the_objects():
    mask, hits = table_mask()
    mask &= ~disc(hits, 0.5, 0.0, 0.06)
    mask[2:4, 100:102] = True  # a speck on the wall, which would be metres away
    foot = np.array([[0.78, 0.28], [0.84, 0.28], [0.84, 0.33], [0.78, 0.33]])
    polygon = support_polygon(mask, K_PX, T_WORLD_CAMERA, [foot])
    assert area(polygon) > 0  # counter-clockwise
    assert inside(polygon, foot).all() and inside(polygon, foot + 0.02).all()
    without = support_polygon(mask, K_PX, T_WORLD_CAMERA, [foot - foot.mean(0) + np.array([0.5, 0.0])])
    seen = hits[inside(TABLE, hits[..., :2]) & mask][:, :2].astype(np.float32)
    assert area(without) == pytest.approx(cv2.contourArea(cv2.convexHull(seen)), rel=0.02)


def test_support_far_beyond_reach_is_cut_and_an_empty_mask_still_gives_ground():
    far = look_at(np.array([0.0, 0.0, 0.5]), np.array([3.0, 0.0, 0.3]))
    mask = np.isfinite(support_depth(K_PX, far, WIDTH, HEIGHT))
    foot = np.array([[0.7, -0.03], [0.76, -0.03], [0.76, 0.03], [0.7, 0.03]])
    polygon = support_polygon(mask, K_PX, far, [foot])
    assert np.linalg.norm(polygon - foot.mean(0), axis=1).max() < 2.2
    assert inside(support_polygon(mask & False, K_PX, far, [foot]), foot).all()
    assert area(support_polygon(mask & False, K_PX, far, [])) > 1


def test_depth_without_measurement_is_plane_wall_and_floor_without_holes():
    mask, _ = table_mask()
    depth = background_depth(K_PX, T_WORLD_CAMERA, TABLE, (HEIGHT, WIDTH), None, mask & False)
    assert (depth > 0).all() and np.isfinite(depth).all()
    points = transform(T_WORLD_CAMERA, pixel_rays(K_PX, WIDTH, HEIGHT) * depth[..., None])
    np.testing.assert_allclose(points[mask][:, 2], 0, atol=1e-6)
    off = points[~mask]
    wall, floor = np.abs(off[:, 0] - 0.82) < 1e-6, np.abs(off[:, 2] + 0.75) < 1e-6
    assert (wall | floor).all() and wall.any() and floor.any()


def test_measured_depth_is_kept_off_the_table_and_objects_vanish_from_it():
    mask, hits = table_mask()
    truth = background_depth(K_PX, T_WORLD_CAMERA, TABLE, (HEIGHT, WIDTH), None, mask & False)
    clutter = disc(hits, 0.6, 0.2, 0.04)
    measured = np.where(clutter, truth - 0.1, truth) + np.random.default_rng(0).normal(0, 0.001, truth.shape)
    thing = disc(hits, 0.45, -0.05, 0.05)
    measured[thing] -= 0.08
    measured[60:70, :20] = 0
    depth = background_depth(K_PX, T_WORLD_CAMERA, TABLE, (HEIGHT, WIDTH), measured.astype(np.float32), thing)
    inner = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    np.testing.assert_allclose(depth[inner & ~clutter], truth[inner & ~clutter], atol=1e-5)
    np.testing.assert_array_equal(depth[clutter & (measured > 0)], measured[clutter].astype(np.float32))
    off = ~mask & (measured > 0) & ~cv2.dilate(thing.astype(np.uint8), np.ones((9, 9))).astype(bool)
    np.testing.assert_array_equal(depth[off], measured[off].astype(np.float32))
    np.testing.assert_allclose(depth[60:70, :20], truth[60:70, :20], rtol=0.15)


def test_the_mesh_gives_depth_and_picture_back_without_holes():
    mask, _ = table_mask()
    rgb = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    rgb = cv2.GaussianBlur(rgb, (0, 0), 3)
    depth = background_depth(K_PX, T_WORLD_CAMERA, TABLE, (HEIGHT, WIDTH), None, mask & False)
    mesh = background_mesh(depth, K_PX, T_WORLD_CAMERA, "background.png")
    assert len(mesh.faces) <= 20000 and mesh.st.shape == (len(mesh.faces), 3, 2)
    points_c = transform(invert(T_WORLD_CAMERA), mesh.points.astype(np.float64))
    raster = rasterize(points_c, mesh.faces, K_PX, WIDTH, HEIGHT)
    assert (raster.face >= 0).all()
    assert np.median(np.abs(raster.depth_m / depth - 1)) < 1e-5
    error = shade_raster(raster, mesh.st, rgb).astype(float) - rgb
    assert -10 * np.log10((error**2).mean() / 255**2) > 40
    corners = mesh.points[mesh.faces].astype(np.float64)
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    towards = ((T_WORLD_CAMERA[:3, 3] - corners.mean(1)) * normal).sum(1)
    assert (towards > -1e-12).all()
    table = mesh.points[np.abs(mesh.points[:, 2]) < 1e-4]
    assert (depth_inside(TABLE, table[:, :2]) > -0.004).mean() > 0.99  # cut where the table ends


def test_object_depth_is_the_nearest_of_all():
    tri = np.array([[0.5, -0.1, 0.0], [0.5, 0.1, 0.0], [0.5, 0.0, 0.2]])
    parts = [(tri, np.array([[0, 1, 2]])), (tri - [0.05, 0, 0], np.array([[0, 1, 2]]))]
    both = object_depth(parts, T_WORLD_CAMERA, K_PX, (HEIGHT, WIDTH))
    singles = np.stack([object_depth([p], T_WORLD_CAMERA, K_PX, (HEIGHT, WIDTH)) for p in parts])
    nearest = np.where(singles > 0, singles, np.inf).min(0)
    np.testing.assert_array_equal(both, np.where(np.isfinite(nearest), nearest, 0))
    assert not object_depth([], T_WORLD_CAMERA, K_PX, (4, 4)).any()


def test_diffusion_keeps_the_known_and_solves_a_ramp():
    x = np.broadcast_to(np.linspace(0, 1, 64), (64, 64)).astype(np.float32)
    known = np.ones((64, 64), bool)
    known[20:40, 25:45] = False
    filled = diffuse(np.where(known, x, 0), known)
    np.testing.assert_array_equal(filled[known], x[known])
    np.testing.assert_allclose(filled, x, atol=0.04)
    assert not diffuse(x, np.zeros_like(known)).any()


def grain(seed=0):
    """A wooden table: stripes along x with noise, a light that falls off to the right."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    stripes = 8 * np.sin(0.5 * y + 0.4 * np.sin(0.05 * x)) + cv2.GaussianBlur(
        rng.normal(0, 12, (HEIGHT, WIDTH)), (0, 0), 1
    )
    return np.clip((np.array([150, 110, 80]) + stripes[..., None]) * (1.1 - 0.3 * x / WIDTH)[..., None], 0, 255)


def with_ball(table):
    """The table with a blue ball and its soft shadow."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    mask = np.hypot(x - 120, y - 80) < 25
    shade = 1 - 0.45 * cv2.GaussianBlur((np.hypot((x - 130) / 1.6, y - 97) < 18).astype(np.float64), (0, 0), 3)
    rgb = table * shade[..., None]
    rgb[mask] = (30, 60, 170)
    return cv2.GaussianBlur(rgb, (0, 0), 0.7).astype(np.uint8), mask, shade


def test_the_far_end_of_a_long_shadow_is_found():
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    mask = (np.abs(x - 70) < 13) & (np.abs(y - 70) < 24)
    inside = (x > 80) & (x < 125) & (np.abs(y - 90) < 6)
    shade = 1 - 0.28 * cv2.GaussianBlur(inside.astype(np.float64), (0, 0), 2.5)
    rgb = grain() * shade[..., None]
    rgb[mask] = (30, 60, 170)
    rgb = cv2.GaussianBlur(rgb, (0, 0), 0.7).astype(np.uint8)
    support = ~cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    found = find_shadow(rgb, mask, ~support, np.ones_like(mask))
    deep = (shade < 0.85) & support
    assert (found & deep).sum() > 0.9 * deep.sum()
    assert (found & (shade > 0.99)).sum() < deep.sum()


def test_object_and_shadow_leave_no_trace():
    table = grain()
    rgb, mask, shade = with_ball(table)
    support = ~cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    found = find_shadow(rgb, mask, ~support, np.ones_like(mask))
    deep = (shade < 0.85) & support
    assert (found & deep).sum() > 0.9 * deep.sum()
    assert (found & (shade > 0.995)).sum() < 0.5 * deep.sum()
    cleared, owners = remove_objects(rgb, mask[None], support)
    hole = owners > 0
    np.testing.assert_array_equal(cleared[~hole], rgb[~hole])  # bit by bit
    assert hole[mask | deep].all()
    error = cv2.GaussianBlur(cleared.astype(float) - table, (0, 0), 4)[mask | deep]
    assert np.abs(error).mean() < 5 and np.abs(error).max() < 20
    contrast = cleared[mask].astype(float).std() / table[mask].std()
    assert 0.7 < contrast < 1.4  # neither fog nor noise
    again, _ = remove_objects(rgb, mask[None], support)
    np.testing.assert_array_equal(cleared, again)


def test_a_pattern_on_the_table_goes_on_under_the_object():
    """Tiles in perspective: no shift of the picture continues them, one on the table does, to a fraction of a pixel."""
    _, hits = table_mask()
    tiles = np.floor((hits[..., 0] + 0.013) / 0.06) + np.floor((hits[..., 1] + 0.011) / 0.06)
    fine = cv2.resize((tiles % 2 * 110 + 70).astype(np.uint8), None, fx=1, fy=1)
    table = cv2.GaussianBlur(np.stack([fine, fine * 0.9, fine * 0.8], -1).astype(np.float32), (0, 0), 0.8)
    support, _ = table_mask()
    mask = disc(hits, 0.5, 0.02, 0.05)
    rgb = table.copy()
    rgb[mask] = (30, 60, 170)
    rgb = np.round(rgb).astype(np.uint8)
    flat, _ = remove_objects(rgb, mask[None], support & ~mask)
    cleared, owners = remove_objects(rgb, mask[None], support & ~mask, K_PX, T_WORLD_CAMERA)
    hole = owners > 0
    error, before = (np.sqrt(((c.astype(float) - table)[hole] ** 2).mean()) for c in (cleared, flat))
    assert error < 8 and error < 0.5 * before


def test_a_dark_board_under_the_object_is_not_its_shadow():
    table = grain()
    table[:, 90:] *= 0.75
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[60:100, 80:110] = True
    rgb = table.copy()
    rgb[mask] = (30, 60, 170)
    rgb = np.clip(rgb, 0, 255).astype(np.uint8)
    bodies = cv2.dilate(mask.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    found = find_shadow(rgb, mask, bodies, np.ones_like(mask))
    assert found.sum() < 0.5 * mask.sum()


def test_holes_say_whose_they_are():
    rgb, first, _ = with_ball(grain())
    second = np.zeros_like(first)
    second[20:34, 180:200] = True
    support = ~(first | second)
    owner, share = find_holes(rgb, np.stack([first, second]), support)
    assert (owner[first] == 1).all() and (owner[second] == 2).all() and (share[first | second] == 1).all()
    assert ((share > 0) == (owner > 0)).all()
    alone, _ = remove_objects(rgb, np.stack([first, second]), support)
    np.testing.assert_array_equal((alone != rgb).any(-1) & (owner == 0), False)


def test_nothing_to_remove_and_hardly_anything_left():
    rgb = grain().astype(np.uint8)
    cleared, owners = remove_objects(rgb, np.zeros((0, HEIGHT, WIDTH), bool), np.ones((HEIGHT, WIDTH), bool))
    hole = owners > 0
    np.testing.assert_array_equal(cleared, rgb)
    assert not hole.any()
    big = np.zeros((1, HEIGHT, WIDTH), bool)
    big[0, 8:-8, 8:-8] = True
    cleared, owners = remove_objects(rgb, big, ~big[0])
    hole = owners > 0
    assert cleared.shape == rgb.shape and hole[big[0]].all()


@pytest.mark.skipif(not DATA.is_dir(), reason="no shared data")
def test_the_real_counter_is_cleared_as_its_empty_picture_shows():
    from PIL import Image

    folder = DATA / "simpler_counter_three_objects"
    rgb, empty = (np.asarray(Image.open(folder / f"{n}.png").convert("RGB")) for n in ("rgb", "background"))
    if empty.shape != rgb.shape:
        empty = cv2.resize(empty, rgb.shape[1::-1], interpolation=cv2.INTER_AREA)
    masks = np.zeros((3, *rgb.shape[:2]), np.uint8)
    for mask, (x0, y0, x1, y1) in zip(masks, ((62, 47, 95, 95), (170, 61, 198, 90), (107, 123, 151, 159)), strict=True):
        cv2.rectangle(mask, (x0, y0), (x1, y1), 1, -1)
    support = np.zeros(rgb.shape[:2], np.uint8)
    cv2.fillConvexPoly(support, np.array([[58, 46], [208, 43], [278, 175], [5, 202]]), 1)
    cleared, owners = remove_objects(rgb, masks > 0, (support > 0) & ~(masks > 0).any(0))
    hole = owners > 0
    error = (cleared.astype(float) - empty)[hole]
    assert -10 * np.log10((error**2).mean() / 255**2) > 24


def test_a_table_edge_is_cut_straight_and_no_hole_opens_beside_it():
    mask, _ = table_mask()
    depth = background_depth(K_PX, T_WORLD_CAMERA, TABLE, (HEIGHT, WIDTH), None, mask & False)
    mesh = background_mesh(depth, K_PX, T_WORLD_CAMERA, "background.png")
    flat = np.abs(mesh.points[:, 2]) < 1e-4
    on_table = flat[mesh.faces].all(1)
    corners = mesh.points[mesh.faces[on_table]].astype(np.float64)
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    seen = support_polygon(mask, K_PX, T_WORLD_CAMERA, [])
    assert np.linalg.norm(cross, axis=1).sum() / 2 == pytest.approx(area(seen), rel=0.015)
    # No step of the mesh's edge leaves the table's outline by more than a pixel's worth.
    assert depth_inside(TABLE, mesh.points[np.unique(mesh.faces[on_table])][:, :2]).min() > -0.01
    for aside in (-0.09, 0.09):  # some 12 degrees
        T_side = look_at(np.array([0.0, aside, 0.5]), np.array([0.5, 0.0, 0.0]))
        points_c = transform(invert(T_side), mesh.points.astype(np.float64))
        raster = rasterize(points_c, mesh.faces, K_PX, WIDTH, HEIGHT)
        middle = raster.face[20:-20, 50:-50]
        assert (middle >= 0).mean() > 0.999


def test_projected_st_is_the_pixel():
    mask, _ = table_mask()
    depth = background_depth(K_PX, T_WORLD_CAMERA, TABLE, (HEIGHT, WIDTH), None, mask & False)
    mesh = background_mesh(depth, K_PX, T_WORLD_CAMERA, "background.png")
    points_c = transform(invert(T_WORLD_CAMERA), mesh.points.astype(np.float64))
    raster = rasterize(points_c, mesh.faces, K_PX, WIDTH, HEIGHT)
    shown = np.isin(np.arange(len(mesh.faces)), raster.face)  # what only other cameras see takes its colours elsewhere
    pixels = project(K_PX, points_c[mesh.faces[shown]])
    expected = np.stack([pixels[..., 0] / WIDTH, 1 - pixels[..., 1] / HEIGHT], -1)
    # Along a cut a pixel here and there shows what lies behind it.
    assert (np.abs(mesh.st[shown] - expected) < 1e-4).all((1, 2)).mean() > 0.999

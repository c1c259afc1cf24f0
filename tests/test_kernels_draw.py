"""Drawing what moves: closed forms for depth, normals and colours, and the plain rasteriser as a second judge."""

import numpy as np
import pytest
import trimesh
from synthetic import make_scene

from phototwin.blend.moving import draw_moving, make_moving_parts
from phototwin.frames import make_T, pixel_rays, rotation_z
from phototwin.images import load_ids, load_rgb
from phototwin.kernels.draw import Part, draw_parts, make_canvas, make_draw_list
from phototwin.kernels.meshlist import closed_faces
from phototwin.kernels.rasterize import rasterize
from phototwin.robots import PANDA
from phototwin.stage.robots import robot_usd
from phototwin.stage.visuals import BodyVisual, read_visuals

K_PX = np.array([[120.0, 0.0, 63.0], [0.0, 118.0, 50.5], [0.0, 0.0, 1.0]])
WIDTH, HEIGHT = 128, 96
DEVICES = ["cpu", pytest.param("cuda:0", marks=pytest.mark.gpu)]


def sphere(radius=0.1, id=1):
    mesh = trimesh.creation.icosphere(subdivisions=5, radius=radius)
    points = mesh.vertices.astype(np.float32)
    return Part(points, mesh.faces.astype(np.int32), points / radius, np.array([0.2, 0.4, 0.6]), None, None, id)


def draw(parts, T_world_parts, T_world_camera=None, device="cpu"):
    camera = np.eye(4) if T_world_camera is None else T_world_camera
    buffers = draw_parts(make_draw_list(parts, device), T_world_parts, camera, K_PX, WIDTH, HEIGHT)
    return {name: value.numpy() for name, value in buffers.items()}


@pytest.mark.parametrize("device", DEVICES)
def test_a_sphere_has_the_depth_normals_colour_and_id_of_a_sphere(device):
    centre = np.array([0.03, -0.02, 0.6])
    camera = make_T(rotation_z(0.3), np.array([0.1, 0.2, -0.1]))
    T = camera @ make_T(np.eye(3), centre)
    got = {name: value[0] for name, value in draw([sphere(id=7)], T[None, None], camera, device).items()}
    rays = pixel_rays(K_PX, WIDTH, HEIGHT)
    a, b, c = (rays**2).sum(-1), rays @ centre, centre @ centre - 0.01
    inside = b**2 - a * c
    depth = (b - np.sqrt(np.maximum(inside, 0))) / a
    surely = inside > 2e-4
    assert surely.sum() > 500
    np.testing.assert_allclose(got["depth"][surely], depth[surely], atol=3e-4)
    normals_w = ((rays * depth[..., None] - centre) / 0.1) @ camera[:3, :3].T
    assert (got["normals"][surely] * normals_w[surely]).sum(-1).min() > 0.999
    assert (got["albedo"][surely] == np.round(np.array([0.2, 0.4, 0.6]) * 255)).all()
    assert set(np.unique(got["ids"])) == {0, 7}
    nothing = inside < -2e-4
    assert not got["ids"][nothing].any() and not got["depth"][nothing].any() and not got["albedo"][nothing].any()


@pytest.mark.parametrize("device", DEVICES)
def test_every_frame_has_its_own_poses_and_the_nearer_part_hides_the_other(device):
    T = np.stack(
        [np.stack([make_T(np.eye(3), np.array([0, 0, z])) for z in pair]) for pair in ((0.5, 0.8), (0.8, 0.5))]
    )
    got = draw([sphere(id=1), sphere(id=2)], T, device=device)
    assert [got["ids"][i, 50, 63] for i in range(2)] == [1, 2]
    np.testing.assert_allclose([got["depth"][i, 50, 63] for i in range(2)], 0.4, atol=1e-3)


def test_a_texture_is_read_where_st_says():
    rng = np.random.default_rng(0)
    texture = np.kron(rng.integers(0, 255, (6, 8, 3)), np.ones((16, 16, 1))).astype(np.uint8)
    points = np.array([[-0.2, -0.15, 0.5], [0.2, -0.15, 0.5], [0.2, 0.15, 0.5], [-0.2, 0.15, 0.5]], np.float32)
    corner_st = np.array([[0, 1], [1, 1], [1, 0], [0, 0]], np.float32)  # +Y is down: the first point is top left
    faces = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    part = Part(points, faces, None, np.zeros(3), corner_st[faces], texture, 1)
    got = draw([part], np.eye(4)[None, None])["albedo"][0]
    uv = (pixel_rays(K_PX, WIDTH, HEIGHT)[..., :2] * 0.5 - [-0.2, -0.15]) / [0.4, 0.3]
    column, row = uv[..., 0] * 128, uv[..., 1] * 96
    in_block = (np.abs(column % 16 - 8) < 7) & (np.abs(row % 16 - 8) < 7)
    in_image = (column > 0) & (column < 128) & (row > 0) & (row < 96)
    sure = in_block & in_image
    assert sure.sum() > 2000
    assert (got[sure] == texture[row[sure].astype(int), column[sure].astype(int)]).all()


def test_the_plain_rasteriser_sees_the_same_robot():
    parts = [Part(v.points, v.faces, v.normals, v.color_rgb, None, None, 1) for v in read_visuals(robot_usd(PANDA))]
    T = make_T(np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]).T, np.array([0.0, 0.1, 0.7]))
    T_parts = np.stack([make_T(np.eye(3), np.array([0.0, 0.05 * k, 0.02 * k])) for k in range(len(parts))])
    got = draw(parts, (T @ T_parts)[None])
    points = np.concatenate(
        [p.points @ (T @ Tp)[:3, :3].T + (T @ Tp)[:3, 3] for p, Tp in zip(parts, T_parts, strict=True)]
    )
    first = np.cumsum([0, *(len(p.points) for p in parts)])
    faces = np.concatenate([p.faces + k for p, k in zip(parts, first, strict=False)])
    raster = rasterize(points, faces, K_PX, WIDTH, HEIGHT)
    assert ((raster.face >= 0) == (got["ids"][0] > 0)).mean() > 0.999
    both = (raster.face >= 0) & (got["ids"][0] > 0)
    assert both.sum() > 1000
    assert np.median(np.abs(raster.depth_m - got["depth"][0])[both]) < 1e-5


def test_the_twin_drawn_at_the_photo_s_poses_is_the_photo(tmp_path):
    scene = make_scene(tmp_path)
    camera = scene.camera
    moving = make_moving_parts(scene, ())
    poses = {item.key: item.T_world_object[None] for item in scene.objects}
    got = draw_moving(moving, poses, camera)
    masks = load_ids(scene.path(scene.masks))
    drawn = got.ids.numpy()[0]
    ids = np.where(drawn > 0, drawn - len(moving.robot_ids), 0)
    for i in range(len(scene.objects)):
        assert ((ids == i + 1) & (masks == i + 1)).sum() / ((ids == i + 1) | (masks == i + 1)).sum() > 0.95
    assert load_rgb(scene.path(scene.photo)).shape == got.color.shape[1:]


def test_visuals_of_the_panda_are_closed_to_the_urdf_s_size_and_coloured():
    visuals = read_visuals(robot_usd(PANDA))
    assert {"panda_link0", "panda_hand", "panda_leftfinger", "panda_rightfinger"} <= {v.body for v in visuals}
    assert all(
        isinstance(v, BodyVisual) and np.allclose(np.linalg.norm(v.normals, axis=1), 1, atol=1e-3) for v in visuals
    )
    hand = np.concatenate([v.points for v in visuals if v.body == "panda_hand"])
    # The hand is about 204 mm wide and 66 mm from flange to palm.
    np.testing.assert_allclose(np.ptp(hand[:, 1]), 0.204, atol=0.01)
    assert 0.06 < hand[:, 2].max() < 0.075
    brightness = {round(float(v.color_rgb.mean()), 1) for v in visuals}
    assert len(brightness) >= 2, "white shells and dark joints"
    assert sum(len(v.faces) for v in visuals) < 60000


def test_poses_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="poses"):
        draw([sphere()], np.eye(4)[None])
    with pytest.raises(ValueError, match="nothing to draw"):
        make_draw_list([])


def test_a_canvas_used_again_shows_nothing_of_what_was_drawn_before():
    rng = np.random.default_rng(0)
    parts = make_draw_list([sphere(id=1), sphere(0.05, id=2)])
    canvas = make_canvas(parts, 3, WIDTH, HEIGHT)
    for count in (3, 2, 3):
        T = np.tile(np.eye(4), (count, 2, 1, 1))
        T[..., :3, 3] = rng.uniform((-0.3, -0.2, 0.3), (0.3, 0.2, 0.8), (count, 2, 3))
        used, new = (draw_parts(parts, T, np.eye(4), K_PX, WIDTH, HEIGHT, c) for c in (canvas, None))
        for name, value in new.items():
            np.testing.assert_array_equal(used[name].numpy(), value.numpy())
        first, last = np.moveaxis(new["spans"].numpy(), -1, 0)
        drawn = new["ids"].numpy() > 0
        some = drawn.any(-1)
        np.testing.assert_array_equal(first[some], drawn.argmax(-1)[some])
        np.testing.assert_array_equal(last[some], WIDTH - drawn[..., ::-1].argmax(-1)[some])
        assert (first == last)[~some].all()
    with pytest.raises(ValueError, match="canvas"):
        draw_parts(parts, np.tile(np.eye(4), (4, 2, 1, 1)), np.eye(4), K_PX, WIDTH, HEIGHT, canvas)


def test_only_closed_surfaces_are_drawn_from_one_side_and_it_does_not_show():
    ball = trimesh.creation.icosphere(subdivisions=3, radius=0.1)
    open_faces = ball.faces[ball.triangles_center[:, 2] > -0.05]
    both = np.concatenate([ball.faces, open_faces + len(ball.vertices)])
    points = np.concatenate([ball.vertices, ball.vertices * 2 + 1])
    closed = closed_faces(points, both)
    assert closed[: len(ball.faces)].all() and not closed[len(ball.faces) :].any()
    assert not closed_faces(points, both[:, ::-1]).any(), "inside out"
    # Two boxes that share an edge are closed each, and a mesh whose vertices are not joined is as closed as one whose are.
    two = trimesh.util.concatenate(
        [trimesh.creation.box((1, 1, 1)), trimesh.creation.box((1, 1, 1)).apply_translation([1, 1, 0])]
    )
    assert closed_faces(two.vertices, two.faces).all()
    assert closed_faces(two.vertices[two.faces].reshape(-1, 3), np.arange(3 * len(two.faces)).reshape(-1, 3)).all()
    # The open cup shows its inside, and from inside a closed ball one sees its wall.
    cup = Part(ball.vertices, open_faces, None, np.ones(3), None, None, 1)
    looking_in = make_T(np.diag([1.0, 1.0, 1.0]), np.array([0, 0, 0.5]))
    assert abs(draw([cup], looking_in[None, None])["depth"][0, 50, 63] - 0.6) < 1e-2
    inside = draw([sphere(0.3)], np.eye(4)[None, None])
    assert (inside["ids"] == 1).all() and np.abs(inside["depth"][0, 50, 63] - 0.3) < 1e-2

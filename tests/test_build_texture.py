import numpy as np
import pytest
import trimesh
from synthetic import look_at

from phototwin.build.texture import bake_texture, sample_texture, shade_raster
from phototwin.frames import invert, make_T, rotation_z, transform
from phototwin.kernels.rasterize import rasterize

WIDTH, HEIGHT = 320, 240
K_PX = np.array([[330.0, 0, 161.0], [0, 333.0, 118.0], [0, 0, 1]])
T_WORLD_CAMERA = look_at(np.array([0.0, 0.0, 0.35]), np.array([0.4, 0.0, 0.03]))
BACKGROUND = np.array([20, 250, 20])


def paint(points_o):
    """Smooth colours over space, never the background's green."""
    x, y, z = np.moveaxis(points_o, -1, 0) * 90
    return 140 + 80 * np.stack([np.sin(x + 0.5 * z), 0.4 * np.sin(1.3 * y) - 0.5, np.cos(0.8 * z - y)], -1)


def vessel():
    """A mug without handle: thin wall, so inside and outside are millimetres apart."""
    profile = np.array([[0, 0], [0.035, 0], [0.04, 0.09], [0.0365, 0.09], [0.0315, 0.004], [0, 0.004]]) - [0, 0.045]
    return trimesh.creation.revolve(profile, sections=64)


SHAPES = {
    "box": lambda: trimesh.creation.box((0.1, 0.06, 0.08)),
    "sphere": lambda: trimesh.creation.icosphere(subdivisions=4, radius=0.045),
    "cylinder": lambda: trimesh.creation.cylinder(0.035, 0.1, sections=48),
    "revolution": vessel,
}


def photograph(shape):
    """Mesh, pose, exact photo, mask and raster of one painted object on a green ground."""
    mesh = SHAPES[shape]()
    points_o, faces = mesh.vertices - mesh.bounds.mean(0), mesh.faces
    T_world_object = make_T(rotation_z(0.5), np.array([0.4, 0.0, 0.05]))
    points_c = transform(invert(T_WORLD_CAMERA) @ T_world_object, points_o)
    raster = rasterize(points_c, faces, K_PX, WIDTH, HEIGHT)
    mask = raster.face >= 0
    surface_o = np.einsum("nc,ncd->nd", raster.bary[mask], points_o[faces[raster.face[mask]]])
    rgb = np.broadcast_to(BACKGROUND, (HEIGHT, WIDTH, 3)).astype(np.uint8).copy()
    rgb[mask] = np.round(paint(surface_o))
    return points_o, faces, T_world_object, rgb, mask, raster


@pytest.mark.parametrize("shape", SHAPES)
def test_the_photo_comes_back_and_the_background_never_does(shape):
    import cv2

    points_o, faces, T_world_object, rgb, mask, raster = photograph(shape)
    st, texture = bake_texture(points_o, faces, T_world_object, T_WORLD_CAMERA, K_PX, rgb, mask, shape)
    assert st.shape == (len(faces), 3, 2) and st.dtype == np.float32 and 0 <= st.min() <= st.max() <= 1
    assert texture.dtype == np.uint8 and max(texture.shape) <= 1024
    inner = cv2.erode(mask.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    error = shade_raster(raster, st, texture)[inner].astype(float) - rgb[inner]
    assert -10 * np.log10((error**2).mean() / 255**2) > 34
    # Green beyond what the object itself shows would be the ground behind its rim.
    assert texture[..., 1].max() <= rgb[mask][:, 1].max() + 2


def test_unseen_sides_of_a_box_show_the_seen_ones_turned():
    """Front and back in two colours, seen front copied to the back without mirroring."""
    points_o, faces, T_world_object, rgb, mask, _ = photograph("box")
    st, texture = bake_texture(points_o, faces, T_world_object, T_WORLD_CAMERA, K_PX, rgb, mask, "box")
    centres, colors = points_o[faces].mean(1), sample_texture(texture, st.mean(1))
    camera_o = transform(invert(T_world_object), T_WORLD_CAMERA[:3, 3])
    half = np.array([0.05, 0.03, 0.04])
    turn = np.array([-1.0, -1, 1])
    for i in np.flatnonzero((np.abs(centres) / half).argmax(1) != 2):
        axis = int((np.abs(centres[i]) / half).argmax())
        if np.sign(centres[i, axis]) != np.sign(camera_o[axis]):
            np.testing.assert_allclose(colors[i], paint(centres[i] * turn), atol=12)


def test_nothing_seen_gives_one_plain_colour_and_an_empty_mask_grey():
    points_o, faces, T_world_object, rgb, mask, _ = photograph("box")
    away = make_T(np.eye(3), np.array([-1.0, 0.0, 0.05]))  # behind the camera
    _, texture = bake_texture(points_o, faces, away, T_WORLD_CAMERA, K_PX, rgb, mask)
    assert (texture == texture[0, 0]).all()
    _, texture = bake_texture(points_o, faces, T_world_object, T_WORLD_CAMERA, K_PX, rgb, mask & False)
    assert (texture == 128).all()


def test_large_and_tiny_objects_fit_the_atlas():
    points_o, faces, T_world_object, rgb, mask, _ = photograph("sphere")
    for factor in (8.0, 0.001):
        st, texture = bake_texture(points_o * factor, faces, T_world_object, T_WORLD_CAMERA, K_PX, rgb, mask)
        assert min(texture.shape[:2]) >= 32 and max(texture.shape) <= 1024
        assert st.min() >= 0 and st.max() <= 1


def test_a_side_seen_edge_on_is_plain_and_so_is_its_copy_behind():
    """Of a stripe a few pixels wide only the tone is known; stretched over a side its details would be a smudge."""
    mesh = trimesh.creation.box((0.06, 0.06, 0.06))
    points_o, faces = mesh.vertices, mesh.faces
    T_world_object = make_T(rotation_z(0.12), np.array([0.4, 0.0, 0.03]))
    points_c = transform(invert(T_WORLD_CAMERA) @ T_world_object, points_o)
    raster = rasterize(points_c, faces, K_PX, WIDTH, HEIGHT)
    mask = raster.face >= 0
    normals = mesh.face_normals[raster.face[mask]]
    edge_on = np.abs(normals[:, 1]) > 0.5
    assert 0 < edge_on.sum() < 0.15 * mask.sum()
    rgb = np.full((HEIGHT, WIDTH, 3), 235, np.uint8)
    rgb[mask] = np.where(edge_on[:, None], (90, 20, 20), (200, 60, 60))
    st, texture = bake_texture(points_o, faces, T_world_object, T_WORLD_CAMERA, K_PX, rgb, mask, "box")
    inner = np.random.default_rng(0).dirichlet((4, 4, 4), 60)
    for side in (-1, 1):
        own = mesh.face_normals[:, 1] * side > 0.5
        colors = sample_texture(texture, np.einsum("nk,fkc->fnc", inner, st[own])).reshape(-1, 3)
        assert colors.std(0).max() < 22

"""The audit finds what is wrong with a scene, by how much, and nothing in a sound one."""

import dataclasses
import json

import numpy as np
import pytest
import trimesh
from synthetic import box_mesh, hull_piece, make_can, make_cube, make_scene

from phototwin.errors import InputError
from phototwin.frames import make_T, rotation_z, transform
from phototwin.images import load_ids, save_ids
from phototwin.scene import ConvexPiece, Mesh, SceneObject, save_scene
from phototwin.stage.author import author_stage
from phototwin_tasks.audit.audit import audit_twin
from phototwin_tasks.audit.geometry import mesh_defects, pieces_volume
from phototwin_tasks.audit.job import run_audit
from phototwin_tasks.audit.rest import MujocoTwin
from phototwin_tasks.audit.values import AUDIT_FILE, load_audit, save_audit


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return make_scene(tmp_path_factory.mktemp("scene"))


def box(key, size, position, yaw=0.0):
    points, faces, st = box_mesh(np.array(size))
    return SceneObject(
        key, key, "box", False, make_T(rotation_z(yaw), np.array(position)), np.array(size), np.full(3, 0.5),
        Mesh(points, faces, st), (ConvexPiece(points, faces),), 0.1,
    )  # fmt: skip


def ball(radius, position):
    sphere = trimesh.creation.icosphere(3, radius)
    points, faces = sphere.vertices.astype(np.float32), sphere.faces.astype(np.int32)
    return SceneObject(
        "ball", "ball", "sphere", False, make_T(np.eye(3), np.array(position)), np.full(3, 2 * radius),
        np.full(3, 0.5), Mesh(points, faces, np.zeros((len(faces), 3, 2), np.float32)),
        (ConvexPiece(points, faces),), 0.1,
    )  # fmt: skip


def audit(scene, *objects, **options):
    """Audit of the scene with other objects in it, without the validator."""
    if objects:
        scene = dataclasses.replace(scene, objects=objects)
    save_scene(scene, scene.folder)
    return audit_twin(scene.folder, **{"validate": False} | options)


def test_a_sound_scene_is_a_go(scene):
    author_stage(scene, scene.folder)
    found = audit(scene, validate=True)
    assert found.go and not found.reasons and found.usd_issues == ()
    summary = found.summary()
    assert summary["share_falls"] == summary["share_collides"] == 0.0
    assert summary["share_graspable"] == 1.0
    assert summary["mean_drift_mm"] < 0.5
    for item in found.objects:
        assert item.reprojection_iou > 0.97, item.name
        assert item.penetration_before_mm < 0.01 and item.penetration_after_mm < 0.2


def test_a_cube_set_5_mm_into_the_table_is_found(scene):
    cube = box("cube", (0.04, 0.04, 0.04), (0.4, 0.0, 0.015), 0.3)
    item = audit(scene, cube).objects[0]
    assert item.penetration_before_mm == pytest.approx(5.0, abs=0.05)
    assert item.collides and item.inside == "support"
    assert item.penetration_after_mm < 0.2
    found = audit(scene, cube)
    assert not found.go and any("5.0 mm inside the support" in reason for reason in found.reasons)


def test_what_stands_half_a_millimetre_deep_does_not_collide(scene):
    assert not audit(scene, box("cube", (0.04, 0.04, 0.04), (0.4, 0.0, 0.0195))).objects[0].collides


def test_two_boxes_in_each_other_collide_by_their_overlap(scene):
    a, b = box("a", (0.06, 0.04, 0.04), (0.4, 0.0, 0.02)), box("b", (0.06, 0.04, 0.04), (0.457, 0.0, 0.02))
    first, second = audit(scene, a, b).objects
    assert first.penetration_before_mm == pytest.approx(3.0, abs=0.05)
    assert second.penetration_before_mm == pytest.approx(3.0, abs=0.05)
    assert (first.inside, second.inside) == ("b", "a")
    assert first.penetration_after_mm < 0.5


def test_overlaps_are_those_another_library_measures(scene):
    """Coal's penetration depths of random hulls."""
    import coal

    rng = np.random.default_rng(5)
    checked = 0
    for _ in range(12):
        clouds = [rng.normal(size=(12, 3)) * rng.uniform(0.01, 0.03, 3) for _ in range(2)]
        pieces = [hull_piece(cloud) for cloud in clouds]
        poses = [
            make_T(rotation_z(rng.uniform(0, 6)), np.array([0.4, 0, 0.2]) + rng.normal(size=3) * 0.012)
            for _ in range(2)
        ]
        items = [
            dataclasses.replace(box(f"o{i}", (0.05,) * 3, (0, 0, 0)), T_world_object=poses[i], pieces=(pieces[i],))
            for i in range(2)
        ]
        got = MujocoTwin(dataclasses.replace(scene, objects=tuple(items))).overlaps()
        convex = [coal.Convex(_vectors(coal, p.points), _triangles(coal, p.faces)) for p in pieces]
        places = [coal.Transform3s(T[:3, :3], T[:3, 3]) for T in poses]
        result = coal.DistanceResult()
        distance = coal.distance(convex[0], places[0], convex[1], places[1], coal.DistanceRequest(), result)
        assert got[0].depth_m == got[1].depth_m == pytest.approx(max(-distance, 0.0), abs=2e-5)
        checked += distance < 0
    assert checked >= 4


def _vectors(coal, points):
    out = coal.StdVec_Vec3s()
    out.extend([np.asarray(p, np.float64) for p in points])
    return out


def _triangles(coal, faces):
    out = coal.StdVec_Triangle()
    out.extend([coal.Triangle(*map(int, face)) for face in faces])
    return out


def test_what_stands_over_the_edge_falls(scene):
    edge = float(scene.support.polygon_w[:, 0].min())
    over, inside = (
        box("over", (0.04,) * 3, (edge - 0.005, 0.0, 0.02)),
        box("on", (0.04,) * 3, (edge + 0.005, 0.2, 0.02)),
    )
    found = audit(scene, over, inside)
    assert [o.falls for o in found.objects] == [True, False]
    assert any("The over falls" in reason for reason in found.reasons)
    assert found.summary()["share_falls"] == 0.5


def test_what_topples_falls_though_it_stays_on_the_table(scene):
    leaning = box("tall", (0.03, 0.03, 0.2), (0.4, 0.0, 0.103))
    T = leaning.T_world_object.copy()
    T[:3, :3] = trimesh.transformations.rotation_matrix(0.2, (0, 1, 0))[:3, :3]
    item = audit(scene, dataclasses.replace(leaning, T_world_object=T)).objects[0]
    assert item.falls and item.tilt_deg > 60


def test_a_ball_at_the_rim_of_a_plate_rolls_away_but_does_not_fall(scene):
    plate = box("plate", (0.08, 0.08, 0.008), (0.5, 0.0, 0.004))
    found = audit(scene, plate, ball(0.03, (0.543, 0.0, 0.038)))
    item = found.objects[1]
    assert item.drift_mm > 10 and not item.falls
    assert any("The ball drifts" in reason for reason in found.reasons)
    assert found.objects[0].drift_mm < 1


def test_what_no_gripper_can_take_is_said_and_alone_is_a_no_go(scene):
    found = audit(scene, box("crate", (0.2, 0.2, 0.15), (0.5, 0.0, 0.075)))
    assert not found.objects[0].graspable and "too wide" in found.objects[0].grasp_note
    assert "The gripper can grasp none of the objects." in found.reasons


def test_a_neighbour_takes_the_grasp_away(scene):
    cube = box("cube", (0.04,) * 3, (0.5, 0.0, 0.02))
    walls = [box(f"w{i}", (0.12, 0.02, 0.16), (0.5, s * 0.035, 0.08)) for i, s in enumerate((-1, 1))]
    walls += [box(f"v{i}", (0.02, 0.05, 0.16), (0.5 + s * 0.035, 0.0, 0.08)) for i, s in enumerate((-1, 1))]
    assert audit(scene, cube).objects[0].graspable
    assert not audit(scene, cube, *walls).objects[0].graspable


def test_iou_is_that_of_the_masks(scene, tmp_path):
    """A mask that is moved by some pixels has the IoU one can count."""
    fresh = make_scene(tmp_path)
    before = audit(fresh)
    ids = load_ids(fresh.path(fresh.masks))
    from phototwin_tasks.audit.geometry import seen_ids

    seen = seen_ids(fresh, [item.T_world_object for item in fresh.objects])
    save_ids(fresh.path(fresh.masks), np.roll(ids, 9, axis=1))
    after = audit(fresh)
    for i, (old, new) in enumerate(zip(before.objects, after.objects, strict=True)):
        a, b = seen == i + 1, np.roll(ids, 9, axis=1) == i + 1
        assert new.reprojection_iou == pytest.approx((a & b).sum() / (a | b).sum())
        assert new.reprojection_iou < old.reprojection_iou - 0.2
    assert any("covers its mask" in text for text in (*after.reasons, *after.warnings))


def test_a_hidden_object_is_judged_by_what_is_seen_of_it(scene, tmp_path):
    """Behind the can only a part of the cube is in the photo, and in its mask."""
    fresh = make_scene(tmp_path)
    can = fresh.objects[2]
    away = can.T_world_object[:2, 3] / np.linalg.norm(can.T_world_object[:2, 3])
    place = make_T(rotation_z(0.2), np.append(can.T_world_object[:2, 3] + 0.07 * away, 0.02))
    objects = (dataclasses.replace(fresh.objects[0], T_world_object=place), can)
    from synthetic import raycast

    save_ids(fresh.path(fresh.masks), raycast(fresh.camera, objects)[1])
    assert all(o.reprojection_iou > 0.95 for o in audit(fresh, *objects).objects)


def test_broken_meshes_are_told_apart():
    cube = make_cube()
    mesh = cube.mesh
    assert mesh_defects(cube, 0.03) == ()
    opened = dataclasses.replace(mesh, faces=mesh.faces[1:], st=mesh.st[1:])
    assert mesh_defects(dataclasses.replace(cube, mesh=opened), 0.03)[0] == "open: 3 edges do not join two faces"
    turned = dataclasses.replace(mesh, faces=mesh.faces[:, ::-1])
    assert mesh_defects(dataclasses.replace(cube, mesh=turned), 0.03)[0].startswith("inside out")
    assert mesh_defects(dataclasses.replace(cube, pieces=()), 0.03)[-1].startswith("no pieces")
    line = np.array([[0, 1, 1]], np.int32)
    flat = dataclasses.replace(
        mesh, faces=np.concatenate([mesh.faces, line]), st=np.concatenate([mesh.st, mesh.st[:1]])
    )
    assert any("no area" in defect for defect in mesh_defects(dataclasses.replace(cube, mesh=flat), 0.03))
    small = ConvexPiece(cube.pieces[0].points * np.float32(0.9), cube.pieces[0].faces)
    assert mesh_defects(dataclasses.replace(cube, pieces=(small,)), 0.03) == (
        "its pieces fill 27 % less than its surface encloses",
    )


def test_an_open_mesh_is_a_no_go(scene):
    cube = make_cube()
    opened = dataclasses.replace(cube.mesh, faces=cube.mesh.faces[1:], st=cube.mesh.st[1:])
    found = audit(scene, dataclasses.replace(cube, mesh=opened))
    assert any("Mesh of the green cube: open" in reason for reason in found.reasons)


def test_a_bowl_whose_pieces_fill_it_is_found(scene):
    bowl = scene.object("white bowl")
    assert not any(defect.startswith("filled") for defect in mesh_defects(bowl, 0.03))
    solid = dataclasses.replace(bowl, pieces=(hull_piece(bowl.mesh.points),))
    assert any("0 % of its cavity free" in defect for defect in mesh_defects(solid, 0.03))
    can = dataclasses.replace(make_can(), hollow=True)
    assert any("said to be hollow" in defect for defect in mesh_defects(can, 0.03))


def test_overlapping_pieces_count_once():
    cube = make_cube()
    moved = ConvexPiece(cube.pieces[0].points + np.float32([0.02, 0, 0]), cube.pieces[0].faces)
    two = dataclasses.replace(cube, pieces=(cube.pieces[0], moved))
    assert pieces_volume(cube) == pytest.approx(0.04**3)
    assert pieces_volume(two) == pytest.approx(1.5 * 0.04**3, rel=0.02)
    turned = hull_piece(transform(make_T(rotation_z(0.5), np.zeros(3)), cube.mesh.points.astype(np.float64)))
    assert pieces_volume(dataclasses.replace(cube, pieces=(turned,))) == pytest.approx(0.04**3, rel=0.02)


def test_an_audit_comes_back_from_its_file_and_the_same_scene_gives_the_same_bytes(scene, tmp_path):
    found = audit(scene)
    file = save_audit(found, tmp_path)
    assert load_audit(tmp_path) == found
    value = json.loads(file.read_text(), parse_constant=pytest.fail)
    assert value["go"] is True and value["summary"]["share_falls"] == 0.0
    again = tmp_path / "again"
    again.mkdir()
    assert save_audit(audit(scene), again).read_bytes() == file.read_bytes()
    (tmp_path / AUDIT_FILE).write_text("{}")
    with pytest.raises(InputError, match="cannot be read as an audit"):
        load_audit(tmp_path)


def test_a_scene_without_objects_is_a_no_go(scene, tmp_path):
    empty = dataclasses.replace(make_scene(tmp_path), objects=())
    save_scene(empty, tmp_path)
    found = audit_twin(tmp_path, validate=False)
    assert found.reasons == ("The scene has no objects.",) and found.summary() == {}


def test_what_is_not_there_is_refused(scene, tmp_path):
    with pytest.raises(InputError, match="not a twin"):
        audit_twin(tmp_path)
    with pytest.raises(InputError, match=r"Unknown engine 'bullet'\. Choose among mujoco, ovphysx, newton_mjwarp"):
        audit(scene, engines=("bullet",))


def test_the_script_s_job_writes_audit_report_and_models(tmp_path, capsys):
    twin = tmp_path / "twin"
    twin.mkdir()
    made = make_scene(twin)
    save_scene(made, twin)
    author_stage(made, twin)
    go, text = run_audit(twin, ("mujoco",), "panda", tmp_path / "models")
    assert go and text.startswith("synthetic: GO\n") and "green cube" in text
    assert load_audit(twin).go
    page = (twin / "report.html").read_text()
    assert "Fit for simulation: go" in page and "passes the asset validator" in page
    assert sorted(p.name for p in (tmp_path / "models").glob("*.*")) == [
        "green_cube.urdf", "red_can.urdf", "twin.xml", "white_bowl.urdf",
    ]  # fmt: skip

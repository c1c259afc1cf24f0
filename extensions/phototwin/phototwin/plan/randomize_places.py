"""Where objects may stand: anywhere on the free support, apart by their footprints, in view and within reach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from phototwin.build.distractors import is_distractor
from phototwin.frames import invert, make_T, project, rotation_z, transform
from phototwin.robots import Robot
from phototwin.scene import Camera, Scene, SceneObject, depth_inside

TRIES = 40
"""Arrangements tried, each somewhat closer to the photo than the one before."""
LEAST_SHRINK = 0.2
CANDIDATES, PLACES = 32, 400
"""Places tried for each thing of an arrangement; and for a thing that is new in a scene."""
AMONG_M = 0.2
"""How far outside the box around all others a new thing may stand."""
HEADROOM_M = 0.12
"""So far above its place an object is still to be seen: what is lifted shall not leave the picture."""
TOGETHER_M = 0.005
"""Footprints that overlap by more are of things that stand on, in or under one another: they move as one."""
BASE_GAP_M = 0.08
"""Least distance between a footprint and the robot's base."""
REACH_RESERVE_M = 0.03
"""An object's centre stays this far inside the robot's reach."""
BACKGROUND_GAP_M = 0.01
"""Least gap to what stands on the support and is no object."""
RAISED_M = 0.02
"""Background higher than this above the support stands in the way."""
CELL_M = 0.02
"""Grid on which raised background is thinned."""
DIRECTIONS = np.stack([f(np.linspace(0.0, 2.0 * np.pi, 48, endpoint=False)) for f in (np.cos, np.sin)])
"""(2, M) unit vectors along which footprints are measured."""
CORNERS = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])


@dataclass(frozen=True, eq=False)
class Group:
    """Things that move as one.

    Attributes:
        members: Indices of the objects.
        root_w: Point about which it turns, (2,) [m].
        outline: Corners of its convex footprint about the root, (V, 2) [m].
        height_m: How far it rises above the support.
    """

    members: tuple[int, ...]
    root_w: np.ndarray
    outline: np.ndarray
    height_m: float


@dataclass(frozen=True, eq=False)
class Room:
    """What decides where objects may stand.

    Attributes:
        scene: The twin.
        view: The camera that must see them.
        T_world_base: Pose of the robot's base, (4, 4) [m].
        robot: The robot.
    """

    scene: Scene
    view: Camera
    T_world_base: np.ndarray
    robot: Robot

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """Things that move as one, the largest first."""
        return find_groups(self.scene.objects)

    @cached_property
    def own_gaps(self) -> np.ndarray:
        """Gaps between the groups in the photo, (G, G) [m]; below 0 where they overlap."""
        widths = [_widths(g.outline[None])[0] for g in self.groups]
        return np.array(
            [
                [_gap(a.root_w, wa, b.root_w, wb) for b, wb in zip(self.groups, widths, strict=True)]
                for a, wa in zip(self.groups, widths, strict=True)
            ]
        )

    @cached_property
    def raised_w(self) -> np.ndarray:
        """Points (P, 3) of the background that rise above the support, thinned."""
        return _raised(self.scene)


def footprint(item: SceneObject, T_world_object: np.ndarray) -> np.ndarray:
    """Corners (V, 2) of the convex outline of an object seen from above, counter-clockwise [m]."""
    from scipy.spatial import ConvexHull

    points = transform(T_world_object, item.mesh.points.astype(np.float64))[:, :2]
    return points[ConvexHull(points).vertices]


def focus_points(scene: Scene) -> np.ndarray:
    """Pixels (8 N, 2) of the photo that show the corners of the objects' bounding boxes: what a crop must keep. Added things do not count."""
    own = [item for item in scene.objects if not is_distractor(item)]
    return np.concatenate([_corners_px(scene.camera, item, item.T_world_object[None])[0] for item in own])


def free_place(
    scene: Scene, item: SceneObject, others: Sequence[SceneObject], rng: np.random.Generator, gap_m: float
) -> np.ndarray | None:
    """A pose (4, 4) for a thing that is new in a scene: standing as it does, turned at random, on the support among the others, in view, apart from all of them.

    None where there is no room.
    """
    root = item.T_world_object[:2, 3]
    outline = footprint(item, item.T_world_object) - root
    polygon = scene.support.polygon_w
    middles = np.array([other.T_world_object[:2, 3] for other in others]).reshape(-1, 2)
    low, high = polygon.min(0), polygon.max(0)
    if len(middles):
        low, high = np.maximum(low, middles.min(0) - AMONG_M), np.minimum(high, middles.max(0) + AMONG_M)
    places = rng.uniform(low, np.maximum(low, high), (PLACES, 2))
    yaws = rng.uniform(-np.pi, np.pi, PLACES)
    widths = _widths(_turned(outline, yaws))
    free = depth_inside(polygon, _turned(outline, yaws) + places[:, None]).min(-1) >= 0
    for other in find_groups(tuple(others)):
        free &= _gap(places, widths, other.root_w, _widths(other.outline[None])[0]) >= gap_m
    raised = _raised(scene)[:, :2]
    if len(raised):
        free &= _point_gap(raised, places, widths) >= BACKGROUND_GAP_M
    moves = np.stack([_motion(root, at, yaw) for at, yaw in zip(places, yaws, strict=True)])
    free &= _in_view(scene.camera, item, moves @ item.T_world_object, np.zeros(3))
    return moves[int(free.argmax())] @ item.T_world_object if free.any() else None


def draw_places(
    room: Room, rng: np.random.Generator, shift_m: float, yaw_rad: float, margin_m: float
) -> tuple[dict[str, np.ndarray], str]:
    """Poses of all objects, key -> T_world_object (4, 4), and a note where they could not be moved.

    Every thing is shifted and turned such that footprints stay on the known support and apart by the margin, from the
    robot's base too, in view and in reach, as far as they were so in the photo. What stands on or in another goes with it.

    Args:
        room: The surroundings.
        rng: Where the numbers come from.
        shift_m: Largest shift.
        yaw_rad: Largest turn about the vertical.
        margin_m: Least gap between things that are as far apart in the photo.
    """
    items = room.scene.objects
    own = {item.key: item.T_world_object for item in items}
    if not items or (shift_m == 0.0 and yaw_rad == 0.0):
        return own, ""
    for shrink in np.linspace(1.0, LEAST_SHRINK, TRIES):
        moves = _arrange(room, rng, shift_m * shrink, yaw_rad * shrink, margin_m)
        if moves is not None:
            T = {m: move for group, move in zip(room.groups, moves, strict=True) for m in group.members}
            return {item.key: T[i] @ item.T_world_object for i, item in enumerate(items)}, ""
    return own, "No other free places were found: the objects stand as in the photo."


def _arrange(
    room: Room, rng: np.random.Generator, shift_m: float, yaw_rad: float, margin_m: float
) -> list[np.ndarray] | None:
    """A motion (4, 4) of each group to its new place; None where one found none."""
    placed: list[tuple[np.ndarray, np.ndarray]] = []
    moves = []
    for index, group in enumerate(room.groups):
        low, high = _bounds(room.scene.support.polygon_w, group.root_w, shift_m)
        places = rng.uniform(low, high, (CANDIDATES, 2))
        yaws = rng.uniform(-yaw_rad, yaw_rad, CANDIDATES)
        widths = _widths(_turned(group.outline, yaws))
        free = np.hypot(*(places - group.root_w).T) <= shift_m
        for other, (at, width) in enumerate(placed):
            needed = np.clip(room.own_gaps[index, other], 0.0, margin_m)
            free &= _gap(places, widths, at, width) >= needed
        free &= _stands(room, group, places, yaws, widths)
        if not free.any():
            return None
        chosen = int(free.argmax())
        placed.append((places[chosen], widths[chosen]))
        moves.append(_motion(group.root_w, places[chosen], yaws[chosen]))
    return moves


def _bounds(polygon_w: np.ndarray, middle_w: np.ndarray, radius_m: float) -> tuple[np.ndarray, np.ndarray]:
    """Corners (2,) of the box around a disc, as far as the support reaches; never without the middle."""
    low = np.minimum(np.maximum(middle_w - radius_m, polygon_w.min(0)), middle_w)
    high = np.maximum(np.minimum(middle_w + radius_m, polygon_w.max(0)), middle_w)
    return low, high


def _stands(room: Room, group: Group, places: np.ndarray, yaws: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Which of K places are on the support, clear of the background, in view and in reach, (K,) bool, as far as the own one is."""
    polygon = room.scene.support.polygon_w
    depth = depth_inside(polygon, _turned(group.outline, yaws) + places[:, None]).min(-1)
    good = depth >= min(0.0, float(depth_inside(polygon, group.outline + group.root_w).min()))
    raised = room.raised_w[room.raised_w[:, 2] < group.height_m + RAISED_M][:, :2]
    if len(raised):
        own = _point_gap(raised, group.root_w[None], _widths(group.outline[None]))[0]
        good &= _point_gap(raised, places, widths) >= min(BACKGROUND_GAP_M, own)
    moves = np.stack([_motion(group.root_w, at, yaw) for at, yaw in zip(places, yaws, strict=True)])
    nearest = room.robot.base_radius_m + BASE_GAP_M
    farthest = room.robot.reach_m - REACH_RESERVE_M
    for member in group.members:
        item = room.scene.objects[member]
        T = moves @ item.T_world_object
        distance = np.hypot(*(T[:, :2, 3] - room.T_world_base[:2, 3]).T)
        own_distance = float(np.hypot(*(item.T_world_object[:2, 3] - room.T_world_base[:2, 3])))
        radius = float(np.hypot(*item.size_m[:2])) / 2
        good &= distance <= max(farthest, own_distance)
        good &= distance >= min(nearest + radius, own_distance)
        for height in (0.0, HEADROOM_M):
            up = np.array([0.0, 0.0, height])
            if _in_view(room.view, item, item.T_world_object[None], up)[0]:
                good &= _in_view(room.view, item, T, up)
    return good


def _raised(scene: Scene) -> np.ndarray:
    """Points (P, 3) of the background that rise above the support, thinned."""
    mesh, polygon = scene.background, scene.support.polygon_w
    points = mesh.points.astype(np.float64)
    points = np.concatenate([points, points[mesh.faces].mean(axis=1)]) if len(mesh.faces) else points
    near = depth_inside(polygon, points[:, :2]) > -CELL_M
    points = points[near & (points[:, 2] > RAISED_M)]
    _, first = np.unique(np.floor(points / CELL_M).astype(int), axis=0, return_index=True)
    return points[np.sort(first)]


def outline_gap(a: SceneObject, b: SceneObject) -> float:
    """Gap between the footprints of two objects where they stand, never more than the true one; below 0 where they overlap [m]."""
    zero = np.zeros(2)
    widths = [_widths(footprint(item, item.T_world_object)[None])[0] for item in (a, b)]
    return float(_gap(zero, widths[0], zero, widths[1]))


def find_groups(items: tuple[SceneObject, ...]) -> tuple[Group, ...]:
    """Objects whose footprints overlap, together; the largest group first."""
    outlines = [footprint(item, item.T_world_object) for item in items]
    widths = [_widths(outline[None])[0] for outline in outlines]
    zero = np.zeros(2)
    label = list(range(len(items)))
    for i in range(len(items)):
        for j in range(i):
            if _gap(zero, widths[i], zero, widths[j]) < -TOGETHER_M:
                label = [label[j] if x == label[i] else x for x in label]
    groups = []
    for name in dict.fromkeys(label):
        members = tuple(i for i, x in enumerate(label) if x == name)
        lowest = min(members, key=lambda i: (round(_bottom(items[i]), 3), -items[i].size_m[:2].max()))
        root = items[lowest].T_world_object[:2, 3].copy()
        outline = _hull(np.concatenate([outlines[i] for i in members])) - root
        height = max(_top(items[i]) for i in members)
        groups.append(Group(members, root, outline, height))
    return tuple(sorted(groups, key=lambda g: -float(np.hypot(*g.outline.T).max())))


def _bottom(item: SceneObject) -> float:
    return float(transform(item.T_world_object, item.mesh.points.astype(np.float64))[:, 2].min())


def _top(item: SceneObject) -> float:
    return float(transform(item.T_world_object, item.mesh.points.astype(np.float64))[:, 2].max())


def _hull(points: np.ndarray) -> np.ndarray:
    from scipy.spatial import ConvexHull

    return points[ConvexHull(points).vertices]


def _turned(outline: np.ndarray, yaws: np.ndarray) -> np.ndarray:
    """An outline (V, 2) turned by each of K angles, (K, V, 2)."""
    c, s = np.cos(yaws), np.sin(yaws)
    return outline @ np.stack([np.stack([c, s], -1), np.stack([-s, c], -1)], -2)


def _widths(outlines: np.ndarray) -> np.ndarray:
    """How far outlines (K, V, 2) reach along ``DIRECTIONS``, (K, M) [m]."""
    return (outlines @ DIRECTIONS).max(-2)


def _gap(places_a: np.ndarray, widths_a: np.ndarray, place_b: np.ndarray, widths_b: np.ndarray) -> np.ndarray:
    """Gap between convex outlines (..., M) at places (..., 2) and one other: never more than the true distance, below 0 where they overlap [m].

    Source: the separating axis theorem over ``DIRECTIONS``.
    """
    facing = np.roll(widths_b, DIRECTIONS.shape[1] // 2, -1)
    return ((place_b - places_a) @ DIRECTIONS - widths_a - facing).max(-1)


def _point_gap(points: np.ndarray, places: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Gap between the nearest of points (P, 2) and outlines (K, M) at places (K, 2), as in ``_gap``, (K,) [m]."""
    return ((points - places[:, None]) @ DIRECTIONS - widths[:, None]).max(-1).min(-1)


def _motion(root_w: np.ndarray, place_w: np.ndarray, yaw_rad: float) -> np.ndarray:
    """The motion (4, 4) that turns about a vertical through the root and brings it to its place."""
    R = rotation_z(yaw_rad)
    shift = np.array([*place_w, 0.0]) - R @ np.array([*root_w, 0.0])
    return make_T(R, shift)


def _in_view(view: Camera, item: SceneObject, T: np.ndarray, up_w: np.ndarray) -> np.ndarray:
    """Whether the bounding box at each of K poses, moved up by (3,) [m], is whole in the image, (K,) bool."""
    lifted = T.copy()
    lifted[:, :3, 3] += up_w
    px = _corners_px(view, item, lifted)
    return np.asarray(((px >= 0) & (px <= [view.width, view.height])).all((-2, -1)))


def _corners_px(camera: Camera, item: SceneObject, T: np.ndarray) -> np.ndarray:
    """Pixels (K, 8, 2) of the corners of an object's bounding box at K poses (K, 4, 4)."""
    T_camera_object = invert(camera.T_world_camera) @ T
    points_c = CORNERS * item.size_m @ np.swapaxes(T_camera_object[:, :3, :3], -1, -2) + T_camera_object[:, None, :3, 3]
    return project(camera.K_px, points_c)

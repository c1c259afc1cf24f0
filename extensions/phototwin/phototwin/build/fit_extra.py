"""What sticks out of a surface of revolution: handles as bent rods, spouts and knobs as convex lumps."""

from __future__ import annotations

import itertools

import numpy as np

from phototwin.build import shapes
from phototwin.build.fit_view import MIN_POINTS, View, silhouette
from phototwin.frames import invert, transform

OUTSIDE_M = 0.007
MIN_EXTRA_POINTS = 12
MIN_REACH_M = 0.010  # less is the body's own irregularity
FACING = 0.35  # sine of the angle below which a plane counts as seen edge-on
REACH_SLACK_M = 0.012  # how far a handle may go on past its last depth readings
SAME_SIDE_RAD = 0.6  # parts closer in direction are one handle, seen in pieces
LOOP_LEAD = 0.015  # overlap by which a lump must beat a loop: what can be either is for fingers to go through
WIDE_M = (0.006, 0.022)  # a handle's width across its plane
THICK_M = (0.005, 0.018)


def fit_appendages(
    view: View, T_world_fit: np.ndarray, radii_m: np.ndarray, levels_m: np.ndarray
) -> tuple[list[shapes.Solid], str]:
    """Closed parts, fit frame, for what the body (radii over levels) leaves unexplained, and a few words; at most two."""
    body = shapes.revolution(radii_m, levels_m)
    missing = view.mask & ~_grown(silhouette(view, transform(T_world_fit, body.points), body.faces))
    local = transform(invert(T_world_fit), view.points_w) if len(view.points_w) >= MIN_POINTS else np.zeros((0, 3))
    if len(local):
        rho = np.linalg.norm(local[:, :2], axis=1)
        local = local[rho > np.interp(local[:, 2], levels_m, radii_m) + OUTSIDE_M]
    else:
        local = _points_from_silhouette(view, T_world_fit, missing, view.ahead_w)
    solids, words = [], []
    for group in _groups(local, radii_m, levels_m):
        if len(group) < MIN_EXTRA_POINTS:
            continue
        made = _appendage(view, T_world_fit, group, radii_m, levels_m, missing)
        if made is not None:
            solids.append(made[0])
            words.append(made[1])
    return solids[:2], " and ".join(words[:2])


def _grown(mask: np.ndarray) -> np.ndarray:
    import cv2

    return cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), dtype=np.uint8)) > 0


def _points_from_silhouette(
    view: View, T_world_fit: np.ndarray, missing: np.ndarray, normal_w: np.ndarray
) -> np.ndarray:
    """Pixels beside the body, lifted to the vertical plane through the axis with that normal, fit frame (N, 3)."""
    import cv2

    count, labels, stats, _ = cv2.connectedComponentsWithStats(missing.astype(np.uint8), connectivity=8)
    if count < 2:
        return np.zeros((0, 3))
    areas = stats[1:, cv2.CC_STAT_AREA]
    big = np.isin(labels, 1 + np.flatnonzero(areas >= max(20, 0.012 * view.mask.sum())))
    v, u = np.nonzero(big)
    if not len(v):
        return np.zeros((0, 3))
    K, R = view.K_px, view.T_camera_world[:3, :3]
    rays = np.stack([(u + 0.5 - K[0, 2]) / K[0, 0], (v + 0.5 - K[1, 2]) / K[1, 1], np.ones(len(u))], -1) @ R
    slant = rays @ normal_w
    if np.abs(slant).min() < FACING * float(np.linalg.norm(rays, axis=1).max()) or np.ptp(np.sign(slant)) > 0:
        return np.zeros((0, 3))  # the plane is seen edge-on
    origin = T_world_fit[:3, 3]
    points = view.camera_w + rays * (np.dot(origin - view.camera_w, normal_w) / slant)[:, None] - origin
    return points[points[:, 2] > 0]


def _groups(points: np.ndarray, radii_m: np.ndarray, levels_m: np.ndarray) -> list[np.ndarray]:
    """Points (N, 3) that hang together and reach out far enough, those on the same side of the axis joined; largest first."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    if len(points) < MIN_EXTRA_POINTS:
        return []
    tree = cKDTree(points)
    gap = max(0.008, 3.0 * float(np.median(tree.query(points, k=4)[0][:, 3])))
    pairs = tree.query_pairs(gap, output_type="ndarray")
    link = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(points), len(points)))
    count, label = connected_components(link, directed=False)
    sides: list[tuple[float, np.ndarray]] = []
    for part in sorted((points[label == k] for k in range(count)), key=len, reverse=True):
        excess = np.linalg.norm(part[:, :2], axis=1) - np.interp(part[:, 2], levels_m, radii_m)
        if len(part) < MIN_EXTRA_POINTS / 2 or np.percentile(excess, 95) < MIN_REACH_M:
            continue
        angle = float(np.arctan2(*np.median(part[:, :2], axis=0)[::-1]))
        for i, (other, joined) in enumerate(sides):
            if abs((angle - other + np.pi) % (2 * np.pi) - np.pi) < SAME_SIDE_RAD:
                sides[i] = (other, np.concatenate([joined, part]))
                break
        else:
            sides.append((angle, part))
    return sorted((part for _, part in sides), key=len, reverse=True)


def _appendage(
    view: View,
    T_world_fit: np.ndarray,
    group: np.ndarray,
    radii_m: np.ndarray,
    levels_m: np.ndarray,
    missing: np.ndarray,
) -> tuple[shapes.Solid, str] | None:
    """The better of a bent rod and a lump through points (N, 3), or None where neither helps the silhouette."""
    direction = np.median(group[:, :2] / np.linalg.norm(group[:, :2], axis=1, keepdims=True), axis=0)
    direction /= np.linalg.norm(direction)
    side = np.array([-direction[1], direction[0], 0.0])
    out = np.stack([group[:, :2] @ direction, group[:, 2]], -1)
    across = group @ side
    wall = np.interp(out[:, 1], levels_m, radii_m)
    if np.percentile(out[:, 0] - wall, 95) < MIN_REACH_M or np.ptp(out[:, 1]) < MIN_REACH_M:
        return None
    options = []
    arc = _arc(_outline_in_plane(view, T_world_fit, missing, direction, out), radii_m, levels_m)
    wide = float(np.clip(1.2 * np.subtract(*np.percentile(across, [92, 8])), *WIDE_M))
    if arc is not None:
        path, thick = arc
        path[:, 1] = np.minimum(path[:, 1], max(float(levels_m[-1]), float(out[:, 1].max())) - thick / 2)
        offset = float(np.median(across)) * side if len(view.points_w) else 0.0
        path3 = path[:, :1] * np.append(direction, 0.0) + path[:, 1:] * [0.0, 0.0, 1.0] + offset
        wide = max(wide, thick) if len(view.points_w) else float(np.clip(1.2 * thick, *WIDE_M))
        options.append((shapes.tube(path3, side, thick, wide), "a handle"))
    mirrored = np.concatenate([group, group - 2 * (across[:, None]) * side])
    reach = np.concatenate([out[:, 0] - wall, out[:, 0] - wall])
    root = mirrored[reach <= np.percentile(reach, 30)].copy()  # the end at the wall goes into it
    root[:, :2] *= 0.9 * (np.interp(root[:, 2], levels_m, radii_m) / np.linalg.norm(root[:, :2], axis=1))[:, None]
    cloud = np.concatenate([mirrored + 0.003 * side, mirrored - 0.003 * side, root])
    if len(group) >= MIN_EXTRA_POINTS:
        options.append((shapes.lump(cloud), "a spout or knob"))
    body = shapes.revolution(radii_m, levels_m)
    covered = silhouette(view, transform(T_world_fit, body.points), body.faces)
    scores = []
    for solid, _ in options:
        seen = covered | silhouette(view, transform(T_world_fit, solid.points), solid.faces)
        scores.append(float((seen & view.mask).sum()) / max(float((seen | view.mask).sum()), 1.0))
    best = int(
        np.argmax(
            [v + (LOOP_LEAD if words == "a handle" else 0.0) for v, (_, words) in zip(scores, options, strict=True)]
        )
    )
    plain = float((covered & view.mask).sum()) / max(float((covered | view.mask).sum()), 1.0)
    return options[best] if scores[best] > plain + 0.003 else None


def _outline_in_plane(
    view: View, T_world_fit: np.ndarray, missing: np.ndarray, direction: np.ndarray, out: np.ndarray
) -> np.ndarray:
    """Reach and height (N, 2) of the mask's pixels beside the body on the measured side: they have no gaps as depth has."""
    side_w = np.array([-direction[1], direction[0], 0.0])
    lifted = _points_from_silhouette(view, T_world_fit, missing, side_w)
    if not len(lifted):
        return out
    flat = np.stack([lifted[:, :2] @ direction, lifted[:, 2]], -1)
    low, high = out.min(axis=0) - REACH_SLACK_M, out.max(axis=0) + REACH_SLACK_M
    flat = flat[((flat > low) & (flat < high)).all(axis=1)]
    return flat if len(flat) >= MIN_EXTRA_POINTS else out


def _arc(out: np.ndarray, radii_m: np.ndarray, levels_m: np.ndarray, bins: int = 9) -> tuple[np.ndarray, float] | None:
    """Middle line (P, 2) reach and height of a handle through points (N, 2), rooted in the wall, and its thickness [m]."""
    low, high = np.percentile(out[:, 1], [2, 98])
    middle = (low + high) / 2
    eye = np.array([float(np.interp(middle, levels_m, radii_m)), middle])
    offset = out - eye
    angle = np.arctan2(offset[:, 1], np.maximum(offset[:, 0], 1e-6))
    radius = np.linalg.norm(offset, axis=1)
    edges = np.linspace(np.percentile(angle, 1), np.percentile(angle, 99), bins + 1)
    path, spread = [], []
    for a, b in itertools.pairwise(edges):
        here = radius[(angle >= a) & (angle <= b)]
        if len(here) < 2:
            continue
        inner, outer = np.percentile(here, [8, 92])
        spread.append(outer - inner)
        mid = (a + b) / 2
        path.append(eye + (inner + outer) / 2 * np.array([np.cos(mid), np.sin(mid)]))
    if len(path) < 4:
        return None
    thick = float(np.clip(1.15 * np.median(spread), *THICK_M))
    ends = []
    for first, second in ((path[0], path[1]), (path[-1], path[-2])):
        root_z = float(
            np.clip(first[1] + 0.3 * (first[1] - second[1]), levels_m[0] + thick / 2, levels_m[-1] - thick / 2)
        )
        ends.append(np.array([float(np.interp(root_z, levels_m, radii_m)) - 0.001, root_z]))
    return np.array([ends[0], *path, ends[1]]), thick

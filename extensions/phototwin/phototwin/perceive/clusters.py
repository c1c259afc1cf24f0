"""Objects in an organised cloud over a known support: cut, join, judge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from phototwin.errors import PerceptionError
from phototwin.frames import invert, project, transform
from phototwin.scene import ObjectHint

JUMP_SHARE = 0.025  # of depth, between neighbouring pixels: two surfaces
STEP_SHARE = 0.015  # the same for a step off the straight continuation of both sides
WEAK_JUMP_SHARE = 0.008  # counts where it continues a jump; five times a sensor's noise at 1 m
NOISE_SIGMAS = 3.0  # noise that is less than so many times below a weak jump would cut things into pieces
MIN_PIECE_PX = 150  # of 640 x 480; fewer in smaller photos
JOIN_M = 0.008
JOIN_COUNT = 12  # voxels within JOIN_M
VOXEL_M = 0.003
FLOATING_M = 0.03
HELD_M = 0.025  # how far a part that hangs in the air is from what is seen of the thing that holds it
SIDE_M = 0.015  # how far a side may stand out under its top
RAISED_M = 0.012  # a piece that ends this far above the support may stand on another one
HIDDEN_SHARE = 0.3  # of its lower outline, behind something nearer: its foot may be there
HULL_SLACK_M = 0.02
HOLE_HEIGHT_M = 0.0015  # mean height over the support that tells a plate's floor from the table seen through a ring
BORDER_PX = 2
CIRCLE_SLACK = 0.08  # of the radius: how far two rims may be from one circle
RIM_M = 0.012


@dataclass(frozen=True, eq=False)
class Cloud:
    """An organised cloud over the support; all arrays (H, W).

    Attributes:
        rgb: (H, W, 3) uint8.
        K_px: (3, 3) [px].
        depth_m: 0 = unknown [m].
        points_w: (H, W, 3) world points, meaningless where unknown [m].
        height_m: Above the support, sensor bow taken off, NaN where unknown [m].
        threshold_m: Height from which a reading is an object's [m].
        known: Where there is a reading.
        trusted: Where it is within the sensor's good range.
        T_world_camera: (4, 4) [m].
        min_area_m2: Smallest visible surface of an object.
        max_size_m: Largest extent of an object.
        max_depth_m: End of the good range.
    """

    rgb: np.ndarray
    K_px: np.ndarray
    depth_m: np.ndarray
    points_w: np.ndarray
    height_m: np.ndarray
    threshold_m: np.ndarray
    known: np.ndarray
    trusted: np.ndarray
    T_world_camera: np.ndarray
    min_area_m2: float
    max_size_m: float
    max_depth_m: float

    @property
    def raised(self) -> np.ndarray:
        """(H, W) bool: readings that are not the support's."""
        return self.known & (np.nan_to_num(self.height_m, nan=-1.0) > self.threshold_m)

    def area_m2(self, mask: np.ndarray) -> float:
        """Visible surface under a mask, as if it faced the camera."""
        z = self.depth_m[mask]
        return float((z.astype(np.float64) ** 2).sum() / (self.K_px[0, 0] * self.K_px[1, 1]))


def find_objects(cloud: Cloud) -> tuple[np.ndarray, list[str]]:
    """Masks (N, H, W) bool of what stands on the support, left to right, and remarks on what was left out.

    Raises:
        PerceptionError: Nothing usable stands there.
    """
    pieces = _groups(cloud)
    footing = _support_hull(cloud)
    kept, dropped = [], {}
    for piece in pieces:
        reason = _flaw(cloud, piece, footing)
        if reason:
            dropped[reason] = dropped.get(reason, 0) + 1
        else:
            kept.append(piece)
    remarks = [f"Left out: {', '.join(f'{n} {reason}' for reason, n in dropped.items())}."] if dropped else []
    if not kept:
        raise PerceptionError(
            f"Nothing that a robot could use stands on the support. {' '.join(remarks)}".strip()
            + " Give --objects with a box or a point for what you mean, or take the photo nearer."
        )
    kept.sort(key=lambda mask: float(np.flatnonzero(mask.any(0)).mean()))
    return np.stack(kept), remarks


def _groups(cloud: Cloud) -> list[np.ndarray]:
    """Everything raised, one mask (H, W) bool a thing, disjoint."""
    joined = _absorb(cloud, _join(cloud, _pieces(cloud, cloud.raised)), cloud.raised)
    groups = [_fill(cloud, piece) for piece in _settle(cloud, joined)]
    groups.sort(key=np.count_nonzero, reverse=True)
    out: list[np.ndarray] = []
    for group in groups:  # what lies in another's filled middle belongs to it
        host = next((other for other in out if (group & other).sum() > 0.5 * group.sum()), None)
        if host is None:
            out.append(group & ~np.any(out, axis=0) if out else group)
        else:
            host |= group & ~np.any(out, axis=0)
    return out


def _pieces(cloud: Cloud, raised: np.ndarray) -> list[np.ndarray]:
    """Connected raised regions (H, W) bool, cut where depth jumps, small ones gone."""
    import cv2

    whole = raised & ~_jumps(_calm(cloud), raised)
    least_px = np.clip(MIN_PIECE_PX * raised.size / (640 * 480), 40, MIN_PIECE_PX)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(whole.astype(np.uint8), connectivity=4)
    out = []
    for i in range(1, count):
        if stats[i, cv2.CC_STAT_AREA] < least_px:
            continue
        piece = labels == i
        if cloud.area_m2(piece) >= cloud.min_area_m2:
            out.append(piece)
    return out


def _absorb(cloud: Cloud, pieces: list[np.ndarray], raised: np.ndarray) -> list[np.ndarray]:
    """Give scraps to the piece they hang on: a steep side seen from above is all jumps, but stays under its top."""
    import cv2

    scraps = raised & ~np.any(pieces, axis=0) if pieces else np.zeros_like(raised)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(scraps.astype(np.uint8), connectivity=8)
    hulls = [cv2.convexHull(np.ascontiguousarray(cloud.points_w[piece][:, :2])) for piece in pieces]
    ids = np.zeros(raised.shape, dtype=np.int32)
    for k, piece in enumerate(pieces):
        ids[piece] = k + 1
    for i in range(1, count):
        x, y, w, h, _ = stats[i]
        window = (slice(max(0, y - 1), y + h + 1), slice(max(0, x - 1), x + w + 1))
        scrap = labels[window] == i
        touched = np.unique(ids[window][cv2.dilate(scrap.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0])
        points = cloud.points_w[window][scrap]
        sample = points[:: max(1, len(points) // 50), :2]
        for k in touched[touched > 0] - 1:
            off = [-cv2.pointPolygonTest(hulls[k], (float(px), float(py)), True) for px, py in sample]
            if np.percentile(off, 80) < SIDE_M:
                pieces[k][window] |= scrap
                break
    return pieces


def _calm(cloud: Cloud) -> np.ndarray:
    """Depth (H, W) in which jumps are looked for [m]: as read, or its median over 5 x 5 pixels where pixels of the support differ by noise alone."""
    import cv2

    z, flat = cloud.depth_m, cloud.known & (np.abs(cloud.height_m) < cloud.threshold_m)
    run = flat[:, :-3] & flat[:, 1:-2] & flat[:, 2:-1] & flat[:, 3:]
    step = np.diff(z, axis=1)
    off = np.abs(step[:, 1:-1] - 0.5 * (step[:, :-2] + step[:, 2:]))[run] / z[:, 1:-2][run]
    if not len(off) or NOISE_SIGMAS * 1.4826 * float(np.median(off)) < WEAK_JUMP_SHARE:
        return z
    # Unknown pixels take their nearest reading for this, so that zeros do not count as near.
    near, labels = cv2.distanceTransformWithLabels(
        (~cloud.known).astype(np.uint8), cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    value = np.zeros(labels.max() + 1, dtype=np.float32)
    value[labels[near == 0]] = z[near == 0]
    return cv2.medianBlur(value[labels], 5)


def _jumps(z: np.ndarray, raised: np.ndarray) -> np.ndarray:
    """Pixels (H, W) bool on the farther side of a jump of depth; weaker jumps count where they continue a strong one."""
    import cv2

    strong, weak = np.zeros_like(raised), np.zeros_like(raised)
    for axis in (0, 1):
        zs, both = np.moveaxis(z, axis, 0), np.moveaxis(raised, axis, 0)
        step = np.diff(zs, axis=0)
        pair = both[:-1] & both[1:]
        off = np.zeros_like(step)  # from the straight continuation of both sides, so that slanted faces do not count
        off[1:-1] = step[1:-1] - 0.5 * (step[:-2] + step[2:])
        off[1:-1][~(pair[:-2] & pair[2:])] = 0
        limit = np.minimum(zs[:-1], zs[1:])
        steep = (np.abs(step) > JUMP_SHARE * limit) | (np.abs(off) > STEP_SHARE * limit)
        for out, jump in ((strong, steep), (weak, np.abs(off) > WEAK_JUMP_SHARE * limit)):
            view = np.moveaxis(out, axis, 0)
            view[:-1] |= jump & pair & (step < 0)
            view[1:] |= jump & pair & (step > 0)
    labels = cv2.connectedComponents((strong | weak).astype(np.uint8), connectivity=8)[1]
    return np.isin(labels, np.unique(labels[strong]))


def _join(cloud: Cloud, pieces: list[np.ndarray]) -> list[np.ndarray]:
    """Pieces of one thing put together: near in space, or two arcs of one rim."""
    points = [_voxels(cloud.points_w[piece & cloud.known]) for piece in pieces]
    low = cloud.known & (np.abs(cloud.height_m) < cloud.threshold_m)
    flat = np.column_stack([cloud.points_w[low][::7, :2], cloud.height_m[low][::7]])
    group = list(range(len(pieces)))
    for i in range(len(pieces)):
        for j in range(i):
            if group[i] == group[j]:
                continue
            if _touch(points[i], points[j]) or _one_rim(points[i], points[j], flat):
                old = group[i]
                group = [group[j] if g == old else g for g in group]
    return [np.any([pieces[k] for k in range(len(pieces)) if group[k] == g], axis=0) for g in sorted(set(group))]


def _voxels(points_w: np.ndarray) -> np.ndarray:
    """One point per voxel, so counts do not depend on resolution."""
    keys = np.floor(points_w / VOXEL_M).astype(np.int64)
    return points_w[np.unique(keys, axis=0, return_index=True)[1]]


def _touch(a: np.ndarray, b: np.ndarray) -> bool:
    """True where more than ``JOIN_COUNT`` points of b lie within ``JOIN_M`` of a."""
    from scipy.spatial import cKDTree

    if (np.maximum(a.min(0) - b.max(0), b.min(0) - a.max(0)) > JOIN_M).any():
        return False
    return bool(np.isfinite(cKDTree(a).query(b, distance_upper_bound=JOIN_M)[0]).sum() > JOIN_COUNT)


def _one_rim(a: np.ndarray, b: np.ndarray, flat: np.ndarray) -> bool:
    """True where the tops of two pieces lie on one circle with no support seen inside, as the near outside and far inside of a vessel do.

    Low readings ``flat`` (N, 3: world x and y, height [m]) inside the circle are a vessel's floor where they are not at 0.
    """
    tops = [p[p[:, 2] > np.percentile(p[:, 2], 99) - RIM_M][:, :2].astype(np.float64) for p in (a, b)]
    if abs(np.percentile(a[:, 2], 99) - np.percentile(b[:, 2], 99)) > RIM_M or min(map(len, tops)) < 8:
        return False
    both = np.vstack(tops)
    system = np.column_stack([2 * both, np.ones(len(both))])
    solution, *_ = np.linalg.lstsq(system, (both**2).sum(1), rcond=None)
    radius = float(np.sqrt(max(0.0, solution[2] + solution[:2] @ solution[:2])))
    if not 0.015 < radius < 0.2:
        return False
    off = [np.abs(np.linalg.norm(top - solution[:2], axis=1) - radius) for top in tops]
    angles = [np.arctan2(*(top - solution[:2]).mean(0)[::-1]) for top in tops]
    opposite = abs(np.angle(np.exp(1j * (angles[0] - angles[1])))) > np.pi / 2
    inside = flat[np.linalg.norm(flat[:, :2] - solution[:2], axis=1) < 0.6 * radius, 2]
    if len(inside) > 5 and np.median(inside) < HOLE_HEIGHT_M:
        return False
    return opposite and all(np.percentile(o, 80) < CIRCLE_SLACK * radius for o in off)


def _support_hull(cloud: Cloud) -> np.ndarray:
    """Outline (K, 2) float32 of the support seen, in world x and y [m]."""
    import cv2

    flat = cloud.trusted & (np.abs(np.nan_to_num(cloud.height_m, nan=9.0)) < cloud.threshold_m)
    return cv2.convexHull(np.ascontiguousarray(cloud.points_w[flat][:, :2]))[:, 0]


def _flaw(cloud: Cloud, piece: np.ndarray, footing: np.ndarray) -> str | None:
    """Why a robot could not use this piece, or None."""
    import cv2

    points = cloud.points_w[piece & cloud.known]
    rows, columns = np.flatnonzero(piece.any(1)), np.flatnonzero(piece.any(0))
    height, width = piece.shape
    if np.percentile(cloud.depth_m[piece & cloud.known], 80) > cloud.max_depth_m:
        return "too far away"
    if min(rows[0], columns[0]) < BORDER_PX or rows[-1] >= height - BORDER_PX or columns[-1] >= width - BORDER_PX:
        return "cut off by the edge of the photo"
    if max(*cv2.minAreaRect(np.ascontiguousarray(points[:, :2]))[1], np.ptp(points[:, 2])) > cloud.max_size_m:
        return "too large"
    low = points[points[:, 2] < np.percentile(points[:, 2], 10) + 0.01]
    centre = np.median(low[:, :2], axis=0)
    if cv2.pointPolygonTest(footing, (float(centre[0]), float(centre[1])), True) < -HULL_SLACK_M:
        return "not over the support"
    return "not standing on the support" if _floats(cloud, piece) else None


def _lowest_m(points_w: np.ndarray) -> float:
    """Height of the lowest point but a few stray ones [m]."""
    rank = min(20, len(points_w) // 50)
    return float(np.partition(points_w[:, 2], rank)[rank])


def _floats(cloud: Cloud, piece: np.ndarray, least_m: float = FLOATING_M) -> bool:
    """True where the support is seen right under a piece that nowhere comes down to it, and nothing nearer hides its foot."""
    points = cloud.points_w[piece & cloud.known]
    if _lowest_m(points) < least_m:
        return False
    columns = np.flatnonzero(piece.any(0))
    bottom = piece.shape[0] - 1 - np.argmax(piece[::-1, columns], axis=0)
    below = np.minimum(bottom + 4, piece.shape[0] - 1)
    hidden = cloud.raised[below, columns] & ~piece[below, columns]
    hidden &= cloud.depth_m[below, columns] < (1 - WEAK_JUMP_SHARE) * cloud.depth_m[bottom, columns]
    if hidden.mean() > HIDDEN_SHARE:
        return False
    top = points[points[:, 2] > np.percentile(points[:, 2], 90) - RIM_M]  # a side's own foot is next to visible support
    under = top[:: max(1, len(top) // 400)].astype(np.float64) * [1, 1, 0]
    pixels = project(cloud.K_px, transform(invert(cloud.T_world_camera), under)).astype(int)
    pixels = pixels[((pixels >= 0) & (pixels < piece.shape[::-1])).all(1)]
    flat = np.abs(cloud.height_m) < cloud.threshold_m
    return bool(len(pixels) and flat[pixels[:, 1], pixels[:, 0]].mean() > 0.5)


def _settle(cloud: Cloud, pieces: list[np.ndarray]) -> list[np.ndarray]:
    """Pieces that stand on another one (a lid, a cup on a tray) or hang on it (a handle behind its cup) put together with it: one rigid group."""
    import cv2

    out = sorted(pieces, key=lambda piece: -np.count_nonzero(piece))
    for piece in out[::-1]:
        points = cloud.points_w[piece & cloud.known]
        low = _lowest_m(points)
        if low < RAISED_M or not any(piece is other for other in out):
            continue
        sample = points[:: max(1, len(points) // 200), :2]
        hangs = _floats(cloud, piece, RAISED_M)
        for k, host in enumerate(out):
            under = cloud.points_w[host & cloud.known]
            if host is piece or _lowest_m(under) > low:
                continue
            hull = cv2.convexHull(np.ascontiguousarray(under[:, :2]))
            inside = [cv2.pointPolygonTest(hull, (float(x), float(y)), True) > -JOIN_M for x, y in sample]
            if np.mean(inside) > 0.8 or (hangs and _near(points, under)):
                out[k] = host | piece
                out = [other for other in out if other is not piece]
                break
    return out


def _near(part_w: np.ndarray, host_w: np.ndarray) -> bool:
    """True where a part is smaller than what is seen of its host and within ``HELD_M`` of it."""
    from scipy.spatial import cKDTree

    part, host = _voxels(part_w), _voxels(host_w)
    return len(part) < 0.5 * len(host) and bool(cKDTree(host).query(part)[0].min() < HELD_M)


def _fill(cloud: Cloud, piece: np.ndarray) -> np.ndarray:
    """The piece with its own low floor (a plate's middle) and sensor holes, without what is seen through it."""
    import cv2

    count, labels, stats, _ = cv2.connectedComponentsWithStats((~piece).astype(np.uint8), connectivity=4)
    hull = cv2.convexHull(np.ascontiguousarray(cloud.points_w[piece & cloud.known][:, :2]))[:, 0]
    size, out = int(piece.sum()), piece.copy()
    for i in range(1, count):
        x, y, w, h, area = stats[i]
        if x == 0 or y == 0 or x + w == piece.shape[1] or y + h == piece.shape[0]:
            continue  # the outside
        window = (slice(y, y + h), slice(x, x + w))
        hole = labels[window] == i
        seen = hole & cloud.known[window]
        if not seen.any():
            out[window] |= hole & (area < 0.02 * size)
            continue
        sample = cloud.points_w[window][seen][:: max(1, int(seen.sum()) // 200), :2]
        within = np.mean([cv2.pointPolygonTest(hull, (float(px), float(py)), False) >= 0 for px, py in sample])
        if within > 0.8 and np.median(cloud.height_m[window][seen]) > HOLE_HEIGHT_M:
            out[window] |= hole
    return out


def hinted_objects(cloud: Cloud, hints: tuple[ObjectHint, ...]) -> tuple[np.ndarray, list[str | None], list[str]]:
    """Masks (N, H, W) bool, names and remarks for exactly the objects the user points at.

    Raises:
        PerceptionError: Nothing stands where a hint says.
    """
    pieces = _groups(cloud)
    masks = [_hinted(cloud, hint, i, pieces) for i, hint in enumerate(hints)]
    for i, mask in enumerate(masks):
        for j, other in enumerate(masks[:i]):
            if (mask & other).sum() > 0.5 * min(mask.sum(), other.sum()):
                raise PerceptionError(
                    f"The hints {_label(hints[j], j)} and {_label(hints[i], i)} mean the same pixels: draw a box or a mask around each."
                )
            mask &= ~other
    return np.stack(masks), [hint.name for hint in hints], []


def _label(hint: ObjectHint, index: int) -> str:
    return f"'{hint.name}'" if hint.name else f"number {index + 1}"


def _hinted(cloud: Cloud, hint: ObjectHint, index: int, pieces: list[np.ndarray]) -> np.ndarray:
    if hint.mask is not None:
        if (hint.mask & cloud.known).sum() < 20:
            raise PerceptionError(
                f"The mask of hint {_label(hint, index)} covers no depth reading: its size is unknown."
            )
        return hint.mask.copy()
    if hint.box_px is not None:
        return _in_box(cloud, hint, index, pieces)
    assert hint.point_px is not None
    x, y = hint.point_px.astype(int)
    row, column = slice(max(0, y - 4), y + 5), slice(max(0, x - 4), x + 5)
    hits = [piece[row, column].sum() for piece in pieces]
    if not hits or max(hits) == 0:
        raise PerceptionError(
            f"Nothing stands on the support at the point of hint {_label(hint, index)}: move it, or give a box or a mask."
        )
    return pieces[int(np.argmax(hits))].copy()


def _base_m(cloud: Cloud, box: np.ndarray) -> float:
    """Height of what surrounds the lower half of a box, where the foot is: 0 on the support, more on a tray [m]."""
    import cv2

    ring = (cv2.dilate(box.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0) & ~box & cloud.known
    ring[: int(np.flatnonzero(box.any(1)).mean())] = False
    base = float(np.percentile(cloud.height_m[ring], 30)) if ring.any() else 0.0
    return base if base > RAISED_M else 0.0


def _in_box(cloud: Cloud, hint: ObjectHint, index: int, pieces: list[np.ndarray]) -> np.ndarray:
    """What is raised inside the box: the pieces mostly inside it, else the part of the raised region it cuts out."""
    assert hint.box_px is not None
    x0, y0, x1, y1 = np.round(hint.box_px).astype(int)
    box = np.zeros(cloud.known.shape, dtype=bool)
    box[max(0, y0 - 2) : y1 + 2, max(0, x0 - 2) : x1 + 2] = True
    inside = [piece for piece in pieces if (piece & box).sum() > 0.8 * piece.sum()]
    if hint.point_px is not None:
        x, y = hint.point_px.astype(int)
        inside = [piece for piece in inside if piece[max(0, y - 4) : y + 5, max(0, x - 4) : x + 5].any()]
    if inside:
        largest = max(inside, key=np.count_nonzero)
        return largest.copy()
    cut = _pieces(cloud, cloud.raised & box & (cloud.height_m > _base_m(cloud, box) + cloud.threshold_m))
    if not cut:
        raise PerceptionError(
            f"Nothing stands on the support inside the box of hint {_label(hint, index)}: correct the box, or give a mask."
        )
    centre = np.array([(x0 + x1) / 2, (y0 + y1) / 2])
    area = [piece.sum() / (1 + np.linalg.norm(np.argwhere(piece).mean(0)[::-1] - centre) / (x1 - x0)) for piece in cut]
    return cut[int(np.argmax(area))]

"""Given meshes made fit for use: cleaned, closed without losing a hollow, and with a sane number of faces."""

from __future__ import annotations

import numpy as np

from phototwin.build.shapes import is_closed, mesh_volume
from phototwin.build.solid import OFF_PLANES, winding

CRUMB_SHARE = 0.01  # parts with less than this share of the surface are dust that generators leave
WELD_SHARE = 1e-5  # vertices closer than this share of the size are one
SMALL_HOLE = 0.35  # a hole whose border is at most this many times the size long is filled wherever it is
FLAT_HOLE = 0.15  # .. and a larger one where it lies in this lowest share of the height: the foot that scanners miss
GRID_CELLS = 64  # along the longest side of a surface that must be rebuilt
SHEET_CELLS = 1.2  # half the thickness of a rebuilt sheet, in cells: 3.8 % of the size as a whole
HASTES = (7, 4, 2)  # of the simplifier, tried in turn: less haste joins fewer sheets
MENDINGS, MENDED_CHANGE = 4, 0.03  # rounds of mending after it; how much of the volume that may change
MENDED_SHARE = 0.9  # of a given mesh's triangles that must stay where it is mended
SURFACE_SAMPLES = 150_000
CORNERS = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 1], [1, 0, 1], [0, 1, 1], [1, 1, 1]])
TETRAHEDRA = np.array([[0, 1, 3, 7], [0, 1, 7, 5], [0, 5, 7, 4], [0, 3, 2, 7], [0, 2, 6, 7], [0, 6, 4, 7]])
"""Six tetrahedra of a cube around its diagonal 0-7: cut the same way everywhere, neighbours share their faces."""


def clean(points: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mesh with equal vertices merged, empty and double triangles dropped, and without dust; used vertices only."""
    if is_closed(faces):
        return points, faces  # solids that touch in an edge would not be closed once they share its vertices
    size = float(np.ptp(points, axis=0).max())
    cell = np.round((points - points.min(axis=0)) / (WELD_SHARE * size)).astype(np.int64)
    key = (cell[:, 0] << 42) | (cell[:, 1] << 21) | cell[:, 2]  # 1 / WELD_SHARE takes 17 bits
    _, first, member = np.unique(key, return_index=True, return_inverse=True)
    points, faces = points[first], member.reshape(-1)[faces]
    proper = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    faces = faces[proper]
    faces = faces[np.sort(np.unique(np.sort(faces, axis=1), axis=0, return_index=True)[1])]
    part, area = _parts(len(points), faces), _areas(points, faces)
    share = np.bincount(part[faces[:, 0]], weights=area) / area.sum()
    return _used(points, faces[share[part[faces[:, 0]]] >= min(CRUMB_SHARE, share.max())])


def close(points_w: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
    """A closed mesh whose faces look outward, and what had to be done to it ("" = nothing).

    Holes are filled where they are small or where the thing stands on them; every other open border is the rim of a
    sheet, which gets a thickness: an open bowl stays a bowl.

    Args:
        points_w: (V, 3), Z up as it stands.
        faces: (F, 3).
    """
    import trimesh

    mesh = trimesh.Trimesh(points_w, faces, process=False)
    trimesh.repair.fix_winding(mesh)
    faces = np.asarray(mesh.faces, dtype=np.int64)
    if is_closed(faces):
        return points_w, _outward(points_w, faces), ""
    filled_points, filled, count = _fill_holes(points_w, faces)
    if is_closed(filled):
        return filled_points, _outward(filled_points, filled), f"{count} hole(s) of the given mesh were filled"
    mended_points, mended = _mended(filled_points, filled)
    if len(mended) >= MENDED_SHARE * len(filled) and is_closed(mended):
        return mended_points, _outward(mended_points, mended), "small faults of the given mesh were mended"
    rebuilt, rebuilt_faces = rebuild(filled_points, filled)
    note = f"the given mesh is not closed: its surface was rebuilt from {GRID_CELLS} cells a side"
    return rebuilt, rebuilt_faces, note


def simplify(points: np.ndarray, faces: np.ndarray, count: int, keep_closed: bool) -> tuple[np.ndarray, np.ndarray]:
    """The mesh with about ``count`` triangles; more where it would not stay closed."""
    from fast_simplification import simplify as collapse

    target, volume = count, mesh_volume(points, faces)
    while target < len(faces):
        for haste in HASTES if keep_closed else HASTES[:1]:
            some = collapse(points.astype(np.float64), faces.astype(np.int32), target_count=target, agg=haste)[:2]
            fewer_points, fewer = _used(np.asarray(some[0], np.float64), np.asarray(some[1], np.int64))
            if not keep_closed:
                return fewer_points, fewer
            fewer_points, fewer = _mended(fewer_points, fewer)
            change = abs(mesh_volume(fewer_points, fewer) / volume - 1) if len(fewer) >= 4 else np.inf
            if change < MENDED_CHANGE and is_closed(fewer):
                return fewer_points, fewer
        target *= 2
    return points, faces


def _mended(points: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mesh without the places where the simplifier joined two sheets in an edge; each sheet's hole there is filled."""
    for _ in range(MENDINGS):
        edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
        base = int(faces.max()) + 1
        there, back = edges @ [base, 1], edges @ [1, base]
        names, count = np.unique(there, return_counts=True)
        bad = (count[np.searchsorted(names, there)] > 1) | ~np.isin(back, there)
        if not bad.any():
            break
        faces = faces[~np.isin(faces, edges[bad]).any(axis=1)]
        if len(faces) < 4:
            break
        points, faces = _fill_holes(*_used(points, faces))[:2]
    return points, faces


def rebuild(points: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A closed, outward surface around a triangle soup: sheets get a thickness, what they enclose becomes solid.

    Source: marching tetrahedra (Doi and Koide 1991) on the distance to the surface; always a closed manifold.
    """
    from scipy.spatial import cKDTree

    low, size = points.min(axis=0), np.ptp(points, axis=0)
    cell = float(size.max()) / GRID_CELLS
    shape = np.ceil(size / cell).astype(int) + 7
    start = low - (3 - OFF_PLANES) * cell
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1) * cell + start
    far = 4 * cell  # further away only the side counts
    tree = cKDTree(_samples(points, faces))
    distance = np.minimum(tree.query(grid.reshape(-1, 3), distance_upper_bound=far)[0].reshape(shape), far)
    if _balanced(faces):
        value = np.where(winding((points[faces] - start) / cell, shape) > 0, -distance, distance)
    else:
        value = _shell(distance, cell)
    closed_points, closed_faces = marching_tetrahedra(value, start, cell)
    return clean(closed_points, _outward(closed_points, closed_faces))


def _shell(distance: np.ndarray, cell: float) -> np.ndarray:
    """A field that is negative within sheets of ``2 SHEET_CELLS`` and within what they enclose, whose walls stay where the surface is.

    Args:
        distance: To the surface, on a grid (X, Y, Z) with free space at its border.
        cell: Of the grid.
    """
    from scipy.ndimage import distance_transform_edt, label

    value = distance - SHEET_CELLS * cell
    regions: np.ndarray = np.asarray(label(value > 0)[0])  # pyright: ignore[reportIndexIssue]
    outer = regions == regions[0, 0, 0]
    enclosed = (regions > 0) & ~outer
    if not enclosed.any():
        return value
    to_enclosed, to_outer = (np.asarray(distance_transform_edt(~region)) for region in (enclosed, outer))
    # A wall between inside and outside is no sheet: a cover of the sheet's thickness would make the thing larger.
    wall = to_enclosed <= 2 * SHEET_CELLS + 2
    return np.where(wall, np.where(to_enclosed < to_outer, -distance, distance), np.where(enclosed, -distance, value))


def _balanced(faces: np.ndarray) -> bool:
    """True where every directed edge occurs as often as its opposite: the surface has an inside, manifold or not."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    base = int(faces.max()) + 1
    return bool(np.array_equal(np.sort(edges @ [base, 1]), np.sort(edges @ [1, base])))


def marching_tetrahedra(value: np.ndarray, start: np.ndarray, cell: float) -> tuple[np.ndarray, np.ndarray]:
    """The surface where a field changes sign, closed where the field's border is positive; faces look to the positive side.

    Args:
        value: (X, Y, Z) samples on a grid.
        start: Place of the first sample (3,).
        cell: Distance of neighbouring samples.
    """
    value = np.where(np.abs(value) < 0.05 * cell, 0.05 * cell, value)  # no vertex on a grid point: no slivers
    shape = np.array(value.shape)
    flat = value.reshape(-1)
    stride = np.array([shape[1] * shape[2], shape[2], 1])
    base = np.stack(np.meshgrid(*(np.arange(n - 1) for n in shape), indexing="ij"), -1).reshape(-1, 3) @ stride
    cubes = base[:, None] + CORNERS @ stride
    mixed = (flat[cubes] < 0).any(axis=1) & (flat[cubes] > 0).any(axis=1)
    triangles = _triangles(cubes[mixed], flat)
    pair = np.sort(triangles.reshape(-1, 2), axis=-1)
    key, member = np.unique(pair[:, 0] * flat.size + pair[:, 1], return_inverse=True)
    edges, faces = np.stack([key // flat.size, key % flat.size], -1), member.reshape(-1, 3)
    place = np.stack(np.unravel_index(edges, value.shape), -1).astype(np.float64)
    a, b = flat[edges[:, 0]], flat[edges[:, 1]]
    share = (a / (a - b))[:, None]
    points = start + cell * (place[:, 0] + share * (place[:, 1] - place[:, 0]))
    return points, faces


def _triangles(cubes: np.ndarray, flat: np.ndarray) -> np.ndarray:
    """Triangles (T, 3, 2) whose corners lie on grid edges, pairs of indices into ``flat``; cubes (N, 8)."""
    out = []
    for corners in TETRAHEDRA:
        tets = cubes[:, corners]
        code = (flat[tets] < 0) @ (1 << np.arange(4))
        for pattern in range(1, 15):
            here = tets[code == pattern]
            out += [here[:, triangle] for triangle in _cut_corners(corners, pattern)]
    return np.concatenate(out)


def _cut_corners(corners: np.ndarray, pattern: int) -> list[np.ndarray]:
    """Triangles (3, 2) as pairs of a tetrahedron's corners that separate those in ``pattern`` (bits) from the rest, facing the rest."""
    within = [i for i in range(4) if pattern >> i & 1]
    without = [i for i in range(4) if not pattern >> i & 1]
    pairs = [[i, j] for i in within for j in without]
    # Two and two make a quad, whose corners go around as 00, 01, 11, 10.
    chosen = [pairs] if len(pairs) == 3 else [[pairs[0], pairs[1], pairs[3]], [pairs[0], pairs[3], pairs[2]]]
    place = CORNERS[corners].astype(np.float64)
    out = []
    for triangle in chosen:
        a, b, c = (place[pair].mean(axis=0) for pair in triangle)
        outward = np.cross(b - a, c - a) @ (place[without].mean(axis=0) - place[within].mean(axis=0)) > 0
        out.append(np.array(triangle if outward else triangle[::-1]))
    return out


def _fill_holes(points: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Fans over the borders that are small or at the foot; how many."""
    size = float(np.ptp(points, axis=0).max())
    low, height = float(points[:, 2].min()), float(np.ptp(points[:, 2]))
    new_points, new_faces, count = [points], [faces], 0
    for loop in _borders(faces):
        border = points[loop]
        length = float(np.linalg.norm(border - np.roll(border, -1, axis=0), axis=1).sum())
        if length > SMALL_HOLE * size and border[:, 2].max() > low + FLAT_HOLE * height:
            continue
        center = len(points) + count
        new_points.append(border.mean(axis=0, keepdims=True))
        ahead = np.roll(loop, -1)
        new_faces.append(np.stack([ahead, loop, np.full(len(loop), center)], -1))
        count += 1
    return np.concatenate(new_points), np.concatenate(new_faces), count


def _borders(faces: np.ndarray) -> list[np.ndarray]:
    """Closed chains of directed edges that no other triangle shares; chains that branch are left out."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    there = {(int(a), int(b)) for a, b in edges}
    onward: dict[int, list[int]] = {}
    for a, b in there:
        if (b, a) not in there:
            onward.setdefault(a, []).append(b)
    loops, left = [], {a: b[0] for a, b in sorted(onward.items()) if len(b) == 1}
    while left:
        start = next(iter(left))
        loop, at = [], start
        while at in left:
            loop.append(at)
            at = left.pop(at)
        if at == start and len(loop) >= 3:
            loops.append(np.array(loop))
    return loops


def _samples(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Points spread over a mesh by area, and its vertices."""
    area = _areas(points, faces)
    rng = np.random.default_rng(0)
    corner = points[faces[rng.choice(len(faces), SURFACE_SAMPLES, p=area / area.sum())]]
    r, s = np.sqrt(rng.random((SURFACE_SAMPLES, 1))), rng.random((SURFACE_SAMPLES, 1))
    inside = (1 - r) * corner[:, 0] + r * (1 - s) * corner[:, 1] + r * s * corner[:, 2]
    return np.concatenate([inside, points])


def _areas(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    a, b, c = (points[faces[:, i]] for i in range(3))
    return 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1) + 1e-300


def _parts(count: int, faces: np.ndarray) -> np.ndarray:
    """Which connected part each vertex belongs to, (V,) int."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    a, b = np.concatenate([faces[:, :2], faces[:, 1:]]).T
    graph = coo_matrix((np.ones(len(a)), (a, b)), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def _used(points: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    used, member = np.unique(faces, return_inverse=True)
    return points[used], member.reshape(-1, 3)


def _outward(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """The faces of a closed mesh, turned around where they look inward as a whole; each connected part for itself unless it is a cavity."""
    part = _parts(len(points), faces)[faces[:, 0]]
    out = faces.copy()
    names = np.unique(part)
    volumes = np.array([mesh_volume(points, faces[part == k]) for k in names])
    if len(names) > 1 and volumes[np.abs(volumes).argmax()] > 0:
        return out  # the main part looks outward: parts that look inward are its cavities
    for k, volume in zip(names, volumes, strict=True):
        if volume < 0:
            out[part == k] = out[part == k][:, ::-1]
    return out

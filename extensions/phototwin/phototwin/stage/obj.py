"""Meshes as Wavefront text, for the formats that refer to mesh files."""

from __future__ import annotations

import numpy as np


def obj_text(points: np.ndarray, faces: np.ndarray, st: np.ndarray | None = None, material: str = "") -> str:
    """A Wavefront file of points (V, 3) and faces (F, 3); single precision comes back the same.

    Args:
        points: Vertices [m].
        faces: Triangles.
        st: Texture coordinates per face corner (F, 3, 2), or None.
        material: Name of a material in the MTL file of that name, or "".
    """
    lines = [f"mtllib {material}.mtl", f"usemtl {material}"] if material else []
    lines += [f"v {x:.9g} {y:.9g} {z:.9g}" for x, y, z in points.tolist()]
    if st is None:
        lines += [f"f {a} {b} {c}" for a, b, c in (faces + 1).tolist()]
    else:
        lines += [f"vt {u:.9g} {v:.9g}" for u, v in st.reshape(-1, 2).tolist()]
        corners = np.arange(1, 3 * len(faces) + 1).reshape(-1, 3).tolist()
        for (a, b, c), (i, j, k) in zip((faces + 1).tolist(), corners, strict=True):
            lines.append(f"f {a}/{i} {b}/{j} {c}/{k}")
    return "\n".join(lines) + "\n"

"""What a robot looks like: the visual meshes of its USD, in the frames of its bodies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from phototwin.errors import TwinError

GREY = (0.5, 0.5, 0.5)
KEPT = 0.25
"""Share of the triangles that is drawn: a CAD model has most of its triangles in screws and fillets smaller than a pixel."""
LEAST_FACES = 200
"""Meshes with fewer triangles are drawn as they are."""
SMOOTH_RAD = 0.6
"""Edges sharper than this stay edges in the shading."""


@dataclass(frozen=True, eq=False)
class BodyVisual:
    """All visual triangles of one body that have one colour.

    Attributes:
        body: Name of the body (link).
        points: (V, 3) float32 in the body's frame [m].
        faces: (F, 3) int32.
        normals: Unit normals per vertex, (V, 3) float32 in the body's frame.
        color_rgb: sRGB in 0..1, (3,).
    """

    body: str
    points: np.ndarray
    faces: np.ndarray
    normals: np.ndarray
    color_rgb: np.ndarray


def read_visuals(robot_usd: Path) -> tuple[BodyVisual, ...]:
    """The visual meshes of a robot's USD by body and colour.

    Raises:
        TwinError: The file shows nothing.
    """
    from pxr import Usd, UsdGeom, UsdPhysics

    stage = Usd.Stage.Open(str(robot_usd))
    cache = UsdGeom.XformCache()
    found: dict[tuple[str, tuple[float, ...]], list[tuple[np.ndarray, np.ndarray]]] = {}
    for prim in Usd.PrimRange(stage.GetPseudoRoot(), Usd.TraverseInstanceProxies()):
        if not prim.IsA(UsdGeom.Mesh) or UsdGeom.Imageable(prim).ComputePurpose() == UsdGeom.Tokens.guide:
            continue
        body = prim
        while body and not body.HasAPI(UsdPhysics.RigidBodyAPI):
            body = body.GetParent()
        if not body:
            continue
        relative = cache.GetLocalToWorldTransform(prim) * cache.GetLocalToWorldTransform(body).GetInverse()
        # Gf matrices act on row vectors.
        T_body_mesh = np.array(relative).T
        found.setdefault((body.GetName(), _color(prim)), []).append(_triangles(UsdGeom.Mesh(prim), T_body_mesh))
    if not found:
        raise TwinError(f"'{robot_usd}' has no visual meshes: delete it, and it is converted again.")
    return tuple(BodyVisual(body, *_join(parts), np.array(color)) for (body, color), parts in found.items())


def _color(prim: Any) -> tuple[float, ...]:
    """Diffuse colour of the bound preview surface, else the display colour, else grey."""
    from pxr import UsdGeom, UsdShade

    material = UsdShade.MaterialBindingAPI(prim).ComputeBoundMaterial()[0]  # pyright: ignore[reportOptionalSubscript]
    surface = material.ComputeSurfaceSource()[0] if material else None
    diffuse = surface.GetInput("diffuseColor") if surface else None
    # A converter may connect the shader's input to the material's: the value sits where the connection ends.
    producers = diffuse.GetValueProducingAttributes() if diffuse else []
    value = producers[0].Get() if producers else None
    if value is None:
        shown = UsdGeom.Gprim(prim).GetDisplayColorAttr().Get()
        value = shown[0] if shown else GREY
    linear = np.clip(np.array(value, dtype=np.float64), 0.0, 1.0)
    # USD's colours are linear. Source: IEC 61966-2-1.
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return tuple(round(float(c), 3) for c in srgb)


def _triangles(mesh: Any, T_body_mesh: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points in the body's frame, and triangles (polygons as fans)."""
    points = np.array(mesh.GetPointsAttr().Get(), dtype=np.float64)
    counts = np.array(mesh.GetFaceVertexCountsAttr().Get())
    indices = np.array(mesh.GetFaceVertexIndicesAttr().Get())
    starts = np.cumsum(counts) - counts
    fans = np.maximum(counts - 2, 0)
    owner = np.repeat(np.arange(len(counts)), fans)
    step = np.arange(len(owner)) - np.repeat(np.cumsum(fans) - fans, fans)
    corners = np.stack([starts[owner], starts[owner] + step + 1, starts[owner] + step + 2], 1)
    return points @ T_body_mesh[:3, :3].T + T_body_mesh[:3, 3], indices[corners]


def _join(parts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points, triangles and smooth vertex normals of meshes together, with fewer triangles."""
    import trimesh

    meshes = []
    for points, faces in parts:
        mesh = trimesh.Trimesh(points, faces, process=False)
        mesh.merge_vertices(merge_tex=True, merge_norm=True)
        if len(mesh.faces) > LEAST_FACES:
            mesh = mesh.simplify_quadric_decimation(percent=1.0 - KEPT)
        mesh.update_faces(mesh.nondegenerate_faces())
        meshes.append(trimesh.graph.smooth_shade(mesh, angle=SMOOTH_RAD))
    points = np.concatenate([m.vertices for m in meshes]).astype(np.float32)
    first = np.cumsum([0, *(len(m.vertices) for m in meshes)])
    faces = np.concatenate([m.faces + k for m, k in zip(meshes, first, strict=False)]).astype(np.int32)
    return points, faces, np.concatenate([m.vertex_normals for m in meshes]).astype(np.float32)

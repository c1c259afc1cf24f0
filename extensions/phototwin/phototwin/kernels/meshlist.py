"""Meshes joined into arrays for drawing, and which of their triangles can be seen from one side only."""

# Warp reads these annotations as types of its own; a type checker cannot.
# pyright: reportInvalidTypeForm=false

from __future__ import annotations

import numpy as np
import warp as wp


@wp.struct
class MeshArrays:
    """All parts' meshes; a part's vertices and faces lie together, from ``first_*[part]`` to ``first_*[part + 1]``."""

    points: wp.array(dtype=wp.vec3)
    normals: wp.array(dtype=wp.vec3)
    vertex_part: wp.array(dtype=wp.int32)
    faces: wp.array(dtype=wp.vec3i)
    face_part: wp.array(dtype=wp.int32)
    closed: wp.array(dtype=wp.uint8)
    first_vertex: wp.array(dtype=wp.int32)
    first_face: wp.array(dtype=wp.int32)
    st: wp.array2d(dtype=wp.vec2)
    textures: wp.array(dtype=wp.vec3ub)
    texture_at: wp.array(dtype=wp.vec3i)
    color: wp.array(dtype=wp.vec3)
    id: wp.array(dtype=wp.int32)


def flat_faces(points: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points, normals and faces with every corner a vertex of its own, so that faces are flat."""
    corners = points[faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    return corners.reshape(-1, 3), np.repeat(normal, 3, axis=0), np.arange(3 * len(faces)).reshape(-1, 3)


def closed_faces(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Which triangles (F,) belong to a closed surface whose outside is where they are counter-clockwise.

    A surface is a set of triangles that hang together by edges that exactly two have, vertices at one place being one. It is closed where
    every edge is met as often one way as the other, and right side out where it encloses a positive volume. From outside only its front can be seen.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    places, index = np.unique(np.asarray(points, np.float32), axis=0, return_inverse=True)
    corner = index.reshape(-1)[faces].astype(np.int64)
    start, end = corner.ravel(), corner[:, [1, 2, 0]].ravel()
    edge = np.minimum(start, end) * len(places) + np.maximum(start, end)
    edge, times = np.unique(edge, return_inverse=True, return_counts=True)[1:]
    order = np.argsort(edge, kind="stable")
    pairs = (order[times[edge[order]] == 2] // 3).reshape(-1, 2)
    links = coo_array((np.ones(len(pairs)), pairs.T), (len(faces), len(faces)))
    count, label = connected_components(links, directed=False)
    # Of one surface, every edge is met as often one way as the other.
    group, way = np.unique(edge * count + np.repeat(label, 3), return_inverse=True)
    balance = np.bincount(way, np.sign(end - start), minlength=len(group))
    bad = np.bincount(group % count, balance != 0, minlength=count) > 0
    a, b, c = np.moveaxis(places[corner].astype(np.float64), 1, 0)
    volume = np.bincount(label, (a * np.cross(b, c)).sum(-1), minlength=count)
    return (~bad & (volume > 0))[label]

"""Frames shared among threads: the bytes of one thread, in order, and errors that come through."""

import numpy as np
import pytest
import trimesh

from phototwin.kernels.casters import make_casters
from phototwin.kernels.draw import Part, draw_parts, make_canvas, make_draw_list
from phototwin.kernels.foreground import light_foreground
from phototwin.kernels.parallel import split_frames
from phototwin.kernels.shade import shade_frames
from phototwin.light import plain_light

K_PX = np.array([[120.0, 0.0, 64.0], [0.0, 120.0, 48.0], [0.0, 0.0, 1.0]])


def test_two_threads_draw_and_light_the_bytes_of_one():
    ball = trimesh.creation.icosphere(subdivisions=4, radius=0.1)
    parts = [Part(ball.vertices, ball.faces, ball.vertex_normals, np.ones(3), None, None, i + 1) for i in range(3)]
    draw_list, casters = make_draw_list(parts), make_casters([(p.points, p.faces) for p in parts])
    T = np.tile(np.eye(4), (9, 3, 1, 1))
    T[..., :3, 3] = np.random.default_rng(0).uniform((-0.2, -0.2, 0.5), (0.2, 0.2, 0.9), (9, 3, 3))
    canvases = [make_canvas(draw_list, 9, 128, 96) for _ in range(3)]

    def frames(run, part):
        drawn = draw_parts(draw_list, T[part], np.eye(4), K_PX, 128, 96, canvases[run])
        depth, normals, ids = drawn["depth"], drawn["normals"], drawn["ids"]
        seen = light_foreground(casters, T[part], depth, normals, ids, np.eye(4), K_PX, plain_light())
        color = shade_frames(drawn["albedo"], depth, normals, ids, seen, plain_light(), np.eye(4), K_PX).numpy()
        return np.where(drawn["ids"].numpy()[..., None] > 0, color, 0)

    one = np.concatenate(split_frames(frames, 9, 1))
    for workers in (2, 3, 2):
        several = split_frames(frames, 9, workers)
        assert len(several) % workers == 0
        np.testing.assert_array_equal(np.concatenate(several), one)


def test_runs_come_in_order_and_errors_come_through():
    assert split_frames(lambda run, part: (run, part.start, part.stop), 5, 2) == [(0, 0, 2), (1, 2, 5)]
    assert len(split_frames(lambda run, part: part, 2, 8)) == 2
    parts = split_frames(lambda run, part: (run, part), 37, 2, at_once=5)
    assert [i for _, p in parts for i in range(p.start, p.stop)] == list(range(37))
    assert max(p.stop - p.start for _, p in parts) <= 5 and [run for run, _ in parts] == [0, 1] * 4

    def fail(run, part):
        if run == 1:
            raise ValueError("frame 3 is bad")

    for _ in range(2):  # the first time in this thread, then in others
        with pytest.raises(ValueError, match="frame 3"):
            split_frames(fail, 4, 2)

"""Success, failure and share of every skill against states made by hand."""

from dataclasses import replace

import numpy as np
import pytest
from families_helpers import ON_SIDE, UP, FakeEnv, about_y, holds, share
from synthetic import box_mesh, make_bowl, make_camera, make_can

from phototwin.frames import make_T, rotation_z
from phototwin.plan.task import SKILLS, Step
from phototwin.scene import ConvexPiece, Mesh


def test_every_skill_has_success_share_goal_and_time():
    from phototwin_tasks.skills import EPISODE_S, GOALS, SHARES, SUCCESS

    assert set(SUCCESS) == set(SHARES) == set(GOALS) == set(EPISODE_S) == set(SKILLS)


def test_lift_each_environment_is_judged_by_its_own_state():
    env = FakeEnv(Step("lift", "green_cube"), n=4)
    env.put_tool((0.4, 0.0, 0.3))
    env.open_gripper(0.5)
    env.put("green_cube", (0.4, 0.0, 0.3))
    env.put("green_cube", (0.4, 0.2, 0.3), env=1)  # thrown
    env.put("green_cube", (0.4, 0.0, 0.3), velocity=(0.0, 0.0, 0.4, 0, 0, 0), env=2)
    env.put("green_cube", (0.4, 0.0, 0.05), env=3)
    assert holds(env) == [True, False, False, False]
    assert share(env)[0] == 1.0 and np.isclose(share(env)[3], 0.3)


@pytest.mark.parametrize(
    ("name", "position", "R", "expected"),
    [
        ("on", (0.40, 0.0, 0.06), UP, True),
        ("turned", (0.41, 0.01, 0.06), rotation_z(0.7), True),
        ("over the edge", (0.425, 0.0, 0.06), UP, False),
        ("floating", (0.40, 0.0, 0.09), UP, False),
        ("beside", (0.45, 0.0, 0.02), UP, False),
    ],
)
def test_stack_wants_the_centre_of_mass_over_the_lower_one(name, position, R, expected):
    env = FakeEnv(Step("stack", "green_cube", "on", "blue_cube"))
    env.put("blue_cube", (0.40, 0.0, 0.02))
    env.put("green_cube", position, R)
    assert holds(env) == [expected] * 3


def test_stack_wants_rest_an_open_hand_and_a_level_target():
    env = FakeEnv(Step("stack", "green_cube", "on", "blue_cube"))
    env.put("blue_cube", (0.40, 0.0, 0.02))
    env.put("green_cube", (0.40, 0.0, 0.06), velocity=(0.1, 0, 0, 0, 0, 0), env=0)
    env.put("green_cube", (0.40, 0.0, 0.06), velocity=(0, 0, 0, 0, 2.0, 0), env=1)
    env.put("green_cube", (0.40, 0.0, 0.06), env=2)
    assert holds(env) == [False, False, True]
    env.open_gripper(0.2)
    assert holds(env) == [False, False, True], "the hand is closed, but elsewhere"
    env.put_tool((0.40, 0.0, 0.06))
    assert holds(env) == [False, False, False]
    env.open_gripper(1.0)
    env.put("blue_cube", (0.40, 0.0, 0.02), about_y(30))
    assert holds(env) == [False, False, False]


def test_several_levels_are_a_task_of_their_own_and_all_must_stand():
    import torch

    from phototwin_tasks.skills import task_done

    first, second = Step("stack", "green_cube", "on", "blue_cube"), Step("stack", "red_can", "on", "green_cube")
    env = FakeEnv(first, second)
    assert env.task.family == "stack"
    env.put("blue_cube", (0.40, 0.0, 0.02))
    assert not task_done(env).any() and env.progress.tolist() == [0, 0, 0]
    env.put("green_cube", (0.40, 0.0, 0.06), env=torch.tensor([0, 1]))
    assert not task_done(env).any() and env.progress.tolist() == [1, 1, 0]
    assert np.allclose(share(env)[:2] >= 0.5, True) and share(env)[2] < 0.5
    env.put("red_can", (0.40, 0.0, 0.08 + 0.045))
    done = task_done(env)
    assert done.tolist() == [True, True, False]
    env.put("green_cube", (0.5, 0.0, 0.02), env=1)  # pulled out: the can hangs in the air
    assert task_done(env).tolist() == [True, False, False]


def test_a_bowl_stands_in_a_bowl():
    inner = replace(make_bowl(0.05, 0.05), name="small bowl", key="small_bowl")
    env = FakeEnv(Step("stack", "small_bowl", "on", "white_bowl"), objects=(inner,))
    x, y, z = env.twin.object("white_bowl").T_world_object[:3, 3]
    env.put("small_bowl", (x, y, z + 0.02))
    assert holds(env) == [True] * 3


def seen_from(camera):
    """Where the ground lies 10 px to the right of the picture's centre, and 10 px up, seen from there: by rays, not by the plan's formula."""
    from phototwin.frames import pixel_rays

    rays = pixel_rays(camera.K_px, camera.width, camera.height) @ camera.T_world_camera[:3, :3].T
    ground = rays[..., :2] * (-camera.T_world_camera[2, 3] / rays[..., 2:])
    row, column = camera.height // 2, round(camera.K_px[0, 2])
    right, up = ground[row, column + 10] - ground[row, column], ground[row - 10, column] - ground[row, column]
    return right / np.linalg.norm(right), up / np.linalg.norm(up)


@pytest.mark.parametrize(
    ("relation", "axis", "sign"), [("right", 0, 1), ("left", 0, -1), ("away", 1, 1), ("closer", 1, -1)]
)
def test_directions_are_those_of_the_photo(relation, axis, sign):
    from phototwin.plan.push import PUSH_M

    camera = make_camera()
    env = FakeEnv(Step("push", "red_can", relation))
    direction = sign * seen_from(camera)[axis]
    x, y, z = env.twin.object("red_can").T_world_object[:3, 3]
    for length, expected in ((0.05, False), (0.07, True), (0.15, True)):
        env.put("red_can", (x + length * direction[0], y + length * direction[1], z))
        assert holds(env) == [expected] * 3, length
        assert np.allclose(share(env), min(length / PUSH_M, 1.0), atol=0.02)
    env.put("red_can", (x - 0.1 * direction[0], y - 0.1 * direction[1], z))
    assert holds(env) == [False] * 3
    aside = np.array([-direction[1], direction[0]])
    env.put("red_can", (*(np.array([x, y]) + 0.08 * direction + 0.10 * aside), z))
    assert holds(env) == [False] * 3


def test_a_push_leaves_the_object_standing_at_rest_on_the_support():
    env = FakeEnv(Step("push", "red_can", "away"))
    x, y, z = env.twin.object("red_can").T_world_object[:3, 3]
    env.put("red_can", (x + 0.08, y, z), env=0)
    env.put("red_can", (x + 0.08, y, 0.03), ON_SIDE, env=1)
    env.put("red_can", (x + 0.08, y, z), velocity=(0.2, 0, 0, 0, 0, 0), env=2)
    assert holds(env) == [True, False, False]
    env.put("red_can", (x + 0.08, y, z + 0.05))
    assert holds(env) == [False] * 3


def test_a_push_counts_from_where_its_own_step_began():
    import torch

    from phototwin_tasks.skills import lasting_hold, task_done

    steps = (Step("push", "red_can", "away"), Step("push", "red_can", "away"), Step("lift", "green_cube"))
    env = FakeEnv(*steps)
    assert env.task.family == "sequence"
    x, y, z = env.twin.object("red_can").T_world_object[:3, 3]
    env.put("red_can", (x + 0.08, y, z))
    assert not task_done(env).any() and env.progress.tolist() == [1, 1, 1]
    assert not task_done(env).any() and env.progress.tolist() == [1, 1, 1], "the second has not begun to move"
    env.put("red_can", (x + 0.16, y, z), env=torch.tensor([0, 2]))
    assert not task_done(env).any() and env.progress.tolist() == [2, 1, 2]
    env.put("red_can", (x, y, z), env=2)
    assert lasting_hold(env, 2).tolist()[::2] == [True, False]


def test_a_push_next_to_something_ends_beside_it():
    env = FakeEnv(Step("push", "red_can", "next to", "white_bowl"))
    x, y, _ = env.twin.object("white_bowl").T_world_object[:3, 3]
    z = env.twin.object("red_can").T_world_object[2, 3]
    env.memory.starts[0, :, 2, :2] = env.memory.starts.new_tensor([x, y - 0.3])
    env.put("red_can", (x, y - 0.13, z))
    assert holds(env) == [True] * 3
    env.put("red_can", (x, y - 0.30, z))
    assert holds(env) == [False] * 3


def test_what_is_beside_its_target_already_was_not_pushed_there():
    env = FakeEnv(Step("push", "red_can", "next to", "white_bowl"))
    bowl = env.twin.object("white_bowl").T_world_object[:3, 3]
    can = np.array([bowl[0], bowl[1] - 0.15, 0.045])
    env.put("red_can", can)
    env.memory.starts[0, :, 2] = env.memory.starts.new_tensor([*can, 0, 0, 0, 1])
    assert holds(env) == [False] * 3
    env.put("red_can", can + np.array([0.0, 0.03, 0.0]))
    assert holds(env) == [True] * 3


def test_pouring_is_remembered_and_only_while_its_step_is_at_hand():
    from phototwin_tasks.skills import step_holds, watch_steps

    env = FakeEnv(Step("pour", "red_can", "in", "white_bowl"), n=4)
    x, y, _ = env.twin.object("white_bowl").T_world_object[:3, 3]
    step = env.task.steps[0]

    def look():
        watch_steps(env)
        return env.memory.poured[0].tolist()

    env.put("red_can", (x, y, 0.25))
    assert look() == [False] * 4, "upright"
    env.put("red_can", (x, y, 0.25), about_y(80))
    assert look() == [False] * 4, "not enough"
    env.put("red_can", (x + 0.2, y, 0.25), about_y(120))
    assert look() == [False] * 4, "beside it"
    env.put("red_can", (x - 0.03, y, 0.05), about_y(120))
    assert look() == [False] * 4, "below the rim"
    env.progress[3] = 1
    env.put("red_can", (x - 0.03, y, 0.25), about_y(120))
    env.put("red_can", (x - 0.03, y, 0.25), about_y(80), env=1)
    assert look() == [True, False, True, False]
    env.put("red_can", (x, y - 0.15, 0.25))
    assert look() == [True, False, True, False], "latched"
    env.put_tool((x, y - 0.15, 0.25))
    env.open_gripper(0.4)
    assert step_holds(env, step).tolist() == [True, False, True, False], "held upright again"
    env.put("red_can", (x + 0.2, y, 0.03), ON_SIDE, env=0)  # dropped
    env.put("red_can", (x + 0.2, y, 0.045), env=2)  # put back
    assert step_holds(env, step).tolist() == [False, False, True, False]


def test_a_new_attempt_has_poured_nothing():
    import torch

    from phototwin_tasks.memory import begin_step
    from phototwin_tasks.skills import watch_steps

    env = FakeEnv(Step("pour", "red_can", "in", "white_bowl"))
    x, y, _ = env.twin.object("white_bowl").T_world_object[:3, 3]
    env.put("red_can", (x - 0.03, y, 0.25), about_y(120))
    watch_steps(env)
    begin_step(env, torch.tensor([0, 2]), 0)
    assert env.memory.poured[0].tolist() == [False, True, False]


def lying_bottle():
    points, faces, st = box_mesh(np.array([0.20, 0.06, 0.06]))
    T = make_T(rotation_z(0.3), np.array([0.5, -0.2, 0.03]))
    size = np.array([0.20, 0.06, 0.06])
    mesh, piece = Mesh(points, faces, st, None), ConvexPiece(points, faces)
    return replace(make_can(), name="bottle", key="bottle", T_world_object=T, size_m=size, mesh=mesh, pieces=(piece,))


@pytest.mark.parametrize(("degrees", "expected"), [(90, True), (-90, True), (97, True), (75, False), (0, False)])
def test_what_lies_in_the_photo_is_upright_on_either_end(degrees, expected):
    env = FakeEnv(Step("upright", "bottle"), objects=(lying_bottle(),))
    R = about_y(degrees)
    height = -(lying_bottle().mesh.points @ R.T)[:, 2].min()
    env.put("bottle", (0.5, -0.2, height), R)
    assert holds(env) == [expected] * 3
    env.put("bottle", (0.5, -0.2, height + 0.05), R)
    assert not any(holds(env))


def test_a_vessel_is_upright_on_its_foot_alone():
    env = FakeEnv(Step("upright", "white_bowl"))
    assert holds(env) == [True] * 3
    env.put("white_bowl", (0.5, 0.08, 0.025), about_y(180))
    assert holds(env) == [False] * 3
    assert share(env).max() < 0.01


def test_a_lift_after_a_place_needs_a_closed_hand_and_that_is_no_contradiction():
    from phototwin_tasks.skills import task_done

    env = FakeEnv(Step("place", "green_cube", "in", "white_bowl"), Step("lift", "red_can"))
    x, y, _ = env.twin.object("white_bowl").T_world_object[:3, 3]
    env.put("green_cube", (x, y, 0.03))
    assert not task_done(env).any() and (env.progress == 1).all()
    env.put_tool((0.3, -0.2, 0.3))
    env.put("red_can", (0.3, -0.2, 0.3))
    env.open_gripper(0.6)
    assert task_done(env).all()
    env.put("green_cube", (x + 0.2, y, 0.02), env=1)
    assert task_done(env).tolist() == [True, False, True]


def test_what_fell_and_what_was_knocked_over():
    from phototwin_tasks.mdp.terminations import knocked_over, object_fell

    env = FakeEnv(Step("lift", "green_cube"), n=4)
    env.put("red_can", (0.4, 0.1, -0.3), env=0)
    env.put("red_can", (0.4, 0.1, 0.03), ON_SIDE, env=1)
    env.put("green_cube", (0.4, -0.1, 0.02), ON_SIDE, env=2)
    assert object_fell(env).tolist() == [True, False, False, False]
    assert knocked_over(env).tolist() == [False, True, False, False]


def test_goals_are_reached_where_steps_succeed():
    """Where the object stands at its goal, success follows for all that is judged by place alone."""
    from phototwin_tasks.skills import GOALS, goal_offset

    steps = (Step("place", "green_cube", "on", "red_can"), Step("place", "green_cube", "next to", "red_can"))
    for step in (*steps, Step("stack", "green_cube", "on", "blue_cube"), Step("push", "red_can", "left")):
        env = FakeEnv(step)
        goal = GOALS[step.skill](env, step)
        assert goal.shape == (3, 3)
        env.put(step.object, goal[0].numpy())
        assert holds(env) == [True] * 3, step
        assert np.allclose(goal_offset(env).numpy(), 0.0, atol=1e-4)

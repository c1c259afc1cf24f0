"""What learning is paid and shown: every bit of the way counts, and nothing that was earned is lost on it."""

import numpy as np
import pytest
from families_helpers import FakeEnv, holds, share

from phototwin.plan.task import Step


def test_a_wide_thing_is_let_go_when_the_fingers_no_longer_press():
    env = FakeEnv(Step("place", "green_cube", "on", "blue_cube"))
    env.put("blue_cube", (0.40, 0.0, 0.02))
    env.put("green_cube", (0.40, 0.0, 0.06))
    env.put_tool((0.40, 0.0, 0.06))
    env.open_gripper(0.55, commanded=0.0)
    pressed = share(env)
    env.open_gripper(0.55, commanded=0.4)
    held = share(env)
    assert holds(env) == [False] * 3 and (held > pressed + 0.05).all()
    env.open_gripper(0.55)
    assert holds(env) == [True] * 3 and (share(env) > held + 0.03).all()
    env.open_gripper(1.0)
    assert holds(env) == [True] * 3 and np.allclose(share(env), 1.0)


def test_taking_is_told_for_every_bit_the_fingers_close_at_the_grasp():
    import torch

    from phototwin_tasks.mdp.guide import Guide
    from phototwin_tasks.mdp.rewards import object_taken

    env = FakeEnv(Step("lift", "green_cube"))
    grasp = torch.tensor([[0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]])
    env.guide = Guide(torch.tensor([0]), grasp, grasp[:, 3:], torch.tensor([0.5]), grasp[0])
    env.put("green_cube", (0.4, 0.0, 0.02))
    env.put_tool((0.41, 0.0, 0.02), env=0)
    env.put_tool((0.43, 0.0, 0.02), env=1)  # hardly has it
    env.put_tool((0.45, 0.0, 0.02), env=2)  # too far to have it
    for opening, expected in ((1.0, 0.0), (0.75, 0.5), (0.5, 1.0), (0.45, 1.0), (0.0, 0.0)):
        env.open_gripper(opening)
        assert np.allclose(object_taken(env), [expected, expected / 2, 0.0], atol=1e-5), opening
    env.guide.openings[:] = 0.0  # pushed, not taken
    env.open_gripper(0.1)
    assert object_taken(env).tolist() == [0.0, 0.0, 0.0]


def test_who_lets_go_where_the_object_belongs_loses_nothing_of_what_taking_it_has_earned():
    import torch

    from phototwin_tasks.mdp import rewards
    from phototwin_tasks.mdp.guide import Guide

    env = FakeEnv(Step("place", "green_cube", "on", "blue_cube"))
    grasp = torch.tensor([[0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]])
    env.guide = Guide(torch.tensor([0]), grasp, grasp[:, 3:], torch.tensor([0.5]), grasp[0])
    env.put("blue_cube", (0.40, 0.0, 0.02))
    env.put("green_cube", (0.40, 0.0, 0.06))
    env.put("green_cube", (0.40, 0.3, 0.06), env=1)  # held somewhere else
    env.put_tool((0.40, 0.0, 0.06))
    env.put_tool((0.40, 0.3, 0.06), env=1)

    def earned():
        near, taken = rewards.tool_near(env, 0.03), rewards.object_taken(env)
        return torch.stack([near, taken, rewards.fingers_ready(env), rewards.tool_turned(env, 0.5)]).sum(0)

    env.open_gripper(0.5, commanded=0.0)
    held, share_held = earned(), share(env)
    assert np.allclose(held[:2], 4.0, atol=1e-5)
    for commanded in (0.3, 0.5):
        env.open_gripper(0.5, commanded=commanded)
        assert earned()[0] >= held[0] and (share(env)[0] > share_held[0])
    env.open_gripper(1.0)
    env.put_tool((0.40, 0.2, 0.30))
    env.put_tool((0.40, 0.3, 0.06), env=1)
    assert np.isclose(earned()[0], 4.0) and np.isclose(share(env)[0], 1.0), "free, and the hand is elsewhere"
    assert earned()[1] < 3.5, "dropped where it does not belong"


def test_the_way_leads_to_the_grasp_and_with_the_object_in_the_hand_to_the_goal_from_above():
    import torch

    from phototwin_tasks.mdp.guide import Guide
    from phototwin_tasks.mdp.way import way_offset

    env = FakeEnv(Step("place", "green_cube", "on", "blue_cube"))
    grasp = torch.tensor([[0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]])
    env.guide = Guide(torch.tensor([0]), grasp, grasp[:, 3:], torch.tensor([0.5]), grasp[0])
    env.put("green_cube", (0.4, 0.0, 0.02))
    env.put("blue_cube", (0.4, 0.3, 0.02))
    env.put_tool((0.4, 0.0, 0.12))
    env.put_tool((0.43, 0.0, 0.12), env=1)
    assert np.allclose(way_offset(env)[:2], [[0, 0, -0.1], [-0.03, 0, -0.07]], atol=1e-5), "along the approach"
    env.put_tool((0.4, 0.0, 0.02))
    env.open_gripper(0.5, commanded=0.0)
    assert np.allclose(way_offset(env), [0, 0.3, 0.04 + 0.08], atol=1e-5), "over what is in between"
    command = torch.tensor([[0.4, 0.01, 0.03, 1.0, 0.0, 0.0, 0.0]]).expand(3, 7)
    assert np.allclose(way_offset(env, command), [0, 0.29, 0.03 + 0.08], atol=1e-5), "what the command lacks"
    env.put("blue_cube", (0.4, 0.0, 0.02))
    env.put("green_cube", (0.4, 0.0, 0.09))
    env.put_tool((0.4, 0.0, 0.09))
    assert np.allclose(way_offset(env), [0, 0, -0.03], atol=1e-5), "down on it"


def test_offsets_are_shown_as_a_whole_and_their_last_centimetres():
    import torch

    from phototwin_tasks.mdp.shown import far_and_near

    shown = far_and_near(torch.tensor([[0.3, -0.002]]))
    assert np.allclose(shown, [[3.0, -0.02, 1.0, -0.0997]], atol=1e-4)


@pytest.mark.parametrize("relation", ["on", "in", "next to"])
def test_the_share_of_a_place_grows_along_its_way(relation):
    import torch

    from phototwin_tasks.memory import begin_step
    from phototwin_tasks.place.mdp import CARRY_M

    target = "red_can" if relation == "on" else "white_bowl"
    env = FakeEnv(Step("place", "green_cube", relation, target))
    x, y, _ = env.twin.object(target).T_world_object[:3, 3]
    top = env.twin.object(target).size_m[2]
    ends = {"on": (x, y, top + 0.02), "in": (x, y, 0.03), "next to": (x, y - 0.14, 0.02)}
    end = np.array(ends[relation])
    start = end - np.array([0.0, 0.3, 0.0]) if relation == "next to" else np.array([x, y - 0.3, 0.02])
    height = CARRY_M + 0.02 + (0.0 if relation == "next to" else top)
    env.open_gripper(0.4, commanded=0.0)
    way = [start, [*start[:2], height], [x, (start[1] + end[1]) / 2, height], [*end[:2], height], end]
    env.put("green_cube", start)
    begin_step(env, torch.arange(3), 0)
    seen = []
    for place in way:
        env.put_tool(place)
        env.put("green_cube", place)
        seen.append(share(env)[0])
    env.open_gripper(1.0)
    seen.append(share(env)[0])
    assert (np.diff(seen) > 0.1).all() and seen[0] < 0.01 and seen[-1] > 0.95
    env.put("green_cube", [*start[:2], height + 0.1])
    assert share(env)[0] < seen[1], "too high"

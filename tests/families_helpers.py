"""An environment of tensors alone: what skills, rewards and observations are judged by in tests."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
from synthetic import make_bowl, make_camera, make_can, make_cube

from phototwin.frames import quat_xyzw_from_matrix
from phototwin.plan.task import Task
from phototwin.robots import get_robot

UP = np.eye(3)
ON_SIDE = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
"""An object whose Z points along the world's X."""


def about_y(degrees):
    a = np.deg2rad(degrees)
    return np.array([[np.cos(a), 0.0, np.sin(a)], [0.0, 1.0, 0.0], [-np.sin(a), 0.0, np.cos(a)]])


class Value:
    """What Isaac Lab's data buffers look like."""

    def __init__(self, tensor):
        self.torch = tensor


class FakeEnv:
    """Cube, bowl, can and a second cube in ``n`` environments side by side; their states are plain tensors."""

    def __init__(self, *steps, n=3, objects=()):
        import torch

        from phototwin_tasks.memory import begin_step, make_memory

        blue = replace(make_cube(), name="blue cube", key="blue_cube")
        self.objects = (make_cube(), make_bowl(), make_can(), blue, *objects)
        self.twin = SimpleNamespace(
            objects=self.objects, camera=make_camera(), object=lambda k: next(o for o in self.objects if o.key == k)
        )
        self.robot, self.num_envs, self.device = get_robot("panda"), n, "cpu"
        self.task = Task(steps, "by hand")
        self.progress, self.just_done = torch.zeros(n, dtype=torch.long), torch.zeros(n, dtype=torch.bool)
        origins = torch.arange(n)[:, None] * torch.tensor([6.0, 0.0, 0.0])
        self.scene = Scene(origins, self)
        self.put_tool((0.2, 0.0, 0.5))
        self.open_gripper(1.0)
        for item in self.objects:
            self.put(item.key, item.T_world_object[:3, 3], item.T_world_object[:3, :3])
        self.memory = make_memory(len(steps), n, len(self.objects), "cpu")
        begin_step(self, torch.arange(n), 0)

    def put(self, key, position, R=UP, velocity=(0, 0, 0, 0, 0, 0), env=slice(None)):
        import torch

        data = self.scene.bodies[key]
        position = torch.as_tensor(np.asarray(position), dtype=torch.float32)
        data.root_pos_w.torch[env] = (position + self.scene.env_origins)[env]
        data.root_com_pos_w.torch[env] = data.root_pos_w.torch[env]
        data.root_quat_w.torch[env] = torch.as_tensor(quat_xyzw_from_matrix(np.asarray(R)), dtype=torch.float32)
        speed = torch.as_tensor(velocity, dtype=torch.float32)
        data.root_lin_vel_w.torch[env], data.root_ang_vel_w.torch[env] = speed[:3], speed[3:]

    def put_tool(self, position, env=slice(None)):
        """The tool point there, pointing down."""
        import torch

        body = torch.as_tensor(position, dtype=torch.float32)
        body = body + torch.tensor([0.0, 0.0, self.robot.tcp_position_m[2]]) + self.scene.env_origins
        self.scene.arm.body_pos_w.torch[env, 0] = body[env]

    def open_gripper(self, share, commanded=None):
        self.scene.arm.joint_pos.torch[:] = share * 0.04
        self.scene.arm.joint_pos_target.torch[:] = (share if commanded is None else commanded) * 0.04


class Scene:
    def __init__(self, origins, env):
        import torch

        n = len(origins)
        self.env_origins = origins
        wide = {"root_pos_w": 3, "root_quat_w": 4, "root_lin_vel_w": 3, "root_ang_vel_w": 3, "root_com_pos_w": 3}
        self.bodies = {
            item.key: SimpleNamespace(**{name: Value(torch.zeros(n, k)) for name, k in wide.items()})
            for item in env.objects
        }
        down = torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(n, 1, 1)
        self.arm = SimpleNamespace(
            body_pos_w=Value(torch.zeros(n, 1, 3)),
            body_quat_w=Value(down),
            joint_pos=Value(torch.zeros(n, 2)),
            joint_pos_target=Value(torch.zeros(n, 2)),
        )
        self.names = SimpleNamespace(body_names=[env.robot.tcp_body], joint_names=list(env.robot.finger_joints))

    def __getitem__(self, key):
        if key == "robot":
            return SimpleNamespace(data=self.arm, **vars(self.names))
        return SimpleNamespace(data=self.bodies[key])


def holds(env, index=0):
    from phototwin_tasks.skills import step_holds

    return step_holds(env, env.task.steps[index]).tolist()


def share(env):
    from phototwin_tasks.skills import task_share

    return task_share(env).numpy()

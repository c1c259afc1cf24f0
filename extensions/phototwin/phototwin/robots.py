"""What the product must know of a robot besides its URDF."""

from __future__ import annotations

from dataclasses import dataclass, field

from phototwin.resolve import resolve


@dataclass(frozen=True)
class Robot:
    """A fixed-base arm with a two-finger gripper.

    Attributes:
        name: Short name.
        urdf: URDF path inside the ``example-robot-data`` package.
        tcp_body: Link that carries the gripper; its +Z points out of the palm and the fingers slide along its Y.
        tcp_offset_m: Distance along the link's +Z to the point between the finger pads.
        arm_joints: Arm joint names, base to tip.
        finger_joints: Finger joint names.
        home_rad: Arm joint positions at the start of an episode.
        finger_open_m: Finger joint position when open (each finger).
        max_width_m: Widest thing the open gripper takes.
        finger_length_m: Free length of the fingers from the palm to their tips.
        finger_size_m: Finger thickness (along the opening direction) and width (across it).
        pad_half_m: How far the pads reach beyond (and behind) the tool point along its Z.
        reach_m: Distance from the base within which most tool poses have a solution.
        base_radius_m: Radius of the footprint of the base.
        stiffness, damping, effort: Drive gains by joint name pattern [N m/rad, N m s/rad, N m] (fingers [N/m, N s/m, N]).
    """

    name: str
    urdf: str
    tcp_body: str
    tcp_offset_m: float
    arm_joints: tuple[str, ...]
    finger_joints: tuple[str, ...]
    home_rad: tuple[float, ...]
    finger_open_m: float
    max_width_m: float
    finger_length_m: float
    finger_size_m: tuple[float, float]
    reach_m: float
    base_radius_m: float
    pad_half_m: float = 0.0095
    stiffness: dict[str, float] = field(default_factory=dict)
    damping: dict[str, float] = field(default_factory=dict)
    effort: dict[str, float] = field(default_factory=dict)


PANDA = Robot(
    name="panda",
    urdf="robots/panda_description/urdf/panda.urdf",
    tcp_body="panda_hand",
    tcp_offset_m=0.1034,
    arm_joints=tuple(f"panda_joint{i}" for i in range(1, 8)),
    finger_joints=("panda_finger_joint1", "panda_finger_joint2"),
    home_rad=(0.0, -0.569, 0.0, -2.810, 0.0, 3.037, 0.741),
    finger_open_m=0.04,
    max_width_m=0.078,
    finger_length_m=0.045,
    finger_size_m=(0.014, 0.021),
    reach_m=0.75,
    base_radius_m=0.10,
    stiffness={
        "panda_joint[1-4]": 600.0,
        "panda_joint5": 250.0,
        "panda_joint6": 150.0,
        "panda_joint7": 50.0,
        "panda_finger_joint.*": 1000.0,
    },
    damping={
        "panda_joint[1-4]": 50.0,
        "panda_joint5": 30.0,
        "panda_joint6": 25.0,
        "panda_joint7": 15.0,
        "panda_finger_joint.*": 100.0,
    },
    effort={"panda_joint[1-4]": 87.0, "panda_joint[5-7]": 12.0, "panda_finger_joint.*": 70.0},
)

ROBOTS = {"panda": "phototwin.robots:PANDA"}


def get_robot(name: str) -> Robot:
    """The robot of that short name, or the one at "module:Attr"."""
    return resolve(name, ROBOTS, "robot")

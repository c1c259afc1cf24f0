"""What the product must know of a robot besides its URDF."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np

from phototwin.frames import make_T, matrix_from_quat_xyzw
from phototwin.resolve import resolve


@dataclass(frozen=True)
class Hand:
    """A gripper of another URDF, mounted on an arm that comes without one.

    Attributes:
        urdf: URDF path inside the ``example-robot-data`` package.
        link: The link of it that is mounted, with all that it carries.
        mount: The arm's link that carries it.
        position_m: Origin of ``link`` in ``mount``.
        rpy_rad: Roll, pitch and yaw of ``link`` in ``mount``, as a URDF states them.
    """

    urdf: str
    link: str
    mount: str
    position_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    rpy_rad: tuple[float, float, float] = (0.0, 0.0, 0.0)


APPROACH_M, APPROACH_SHARE = 0.07, 0.15
"""The way back from a grasp: so far, but not further than this share of the arm's reach."""


@dataclass(frozen=True)
class Box:
    """A box fixed to a link.

    Attributes:
        center_m: Its centre in the link.
        size_m: Its edges.
        rpy_rad: Its roll, pitch and yaw in the link, as a URDF states them.
    """

    center_m: tuple[float, float, float]
    size_m: tuple[float, float, float]
    rpy_rad: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Robot:
    """A fixed-base arm with a gripper that closes along one line.

    Dictionaries by joint name take patterns (regular expressions for the whole name); the first that matches counts.

    Attributes:
        name: Short name.
        urdf: URDF path inside the ``example-robot-data`` package.
        tcp_body: Link that carries the gripper.
        tcp_position_m: The tool point, between the pads, in that link.
        tcp_quat_xyzw: The tool frame in that link: its +Z leaves the palm, the pads close along its Y.
        arm_joints: Arm joint names, base to tip.
        finger_joints: Names of the joints that open and close the gripper.
        home_rad: Arm joint positions at the start of an episode.
        fingers_open: Position of each finger joint when open [m or rad].
        fingers_closed: The same when closed on nothing.
        fingers_pressed: The same as it is commanded to close, beyond what the fingers can do, so that thin walls are held as firmly
            as thick things; () commands ``fingers_closed``.
        finger_open_m: Distance of each open pad from the tool point, along the tool's Y.
        max_width_m: Widest thing the open gripper takes.
        finger_length_m: Free length of the fingers from the palm to their tips.
        finger_size_m: Finger thickness (along the opening direction) and width (across it).
        pad_half_m: How far the pads reach beyond (and behind) the tool point along its Z.
        palm_half_m: Half the palm along the tool's X and Y.
        hand_depth_m: How far hand and wrist, of the palm's size, reach back from the palm along the tool's -Z.
        one_jaw: Whether only the pad at +Y moves: the other is part of ``tcp_body`` and must stand at the object.
        free_axis: Axis of the tool about which an arm of fewer than six joints cannot choose its turn; "" where it chooses all.
        reach_m: Distance from the base within which most tool poses have a solution.
        base_radius_m: Radius of the footprint of the base.
        base_height_m: Height of the base's frame above the surface on which the objects stand.
        hand: Gripper to be mounted; None where the URDF has one.
        locked: Joints that are held, with their positions: they become rigid.
        without: Joints that are left out with all they carry.
        boxes: Collision shapes of links in place of the URDF's, whose convex hulls would fill the opening of the gripper.
        stiffness, damping, effort: Drive gains by joint [N m/rad, N m s/rad, N m] (sliding joints [N/m, N s/m, N]).
        armature: Inertia of the drives by joint [kg m2, kg]: light links on stiff drives need it to be stable at 120 Hz.
    """

    name: str
    urdf: str
    tcp_body: str
    tcp_position_m: tuple[float, float, float]
    arm_joints: tuple[str, ...]
    finger_joints: tuple[str, ...]
    home_rad: tuple[float, ...]
    fingers_open: tuple[float, ...]
    fingers_closed: tuple[float, ...]
    finger_open_m: float
    max_width_m: float
    finger_length_m: float
    finger_size_m: tuple[float, float]
    palm_half_m: tuple[float, float]
    hand_depth_m: float
    reach_m: float
    base_radius_m: float
    pad_half_m: float
    tcp_quat_xyzw: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 1.0)
    fingers_pressed: tuple[float, ...] = ()
    one_jaw: bool = False
    free_axis: str = ""
    base_height_m: float = 0.0
    hand: Hand | None = None
    locked: dict[str, float] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    boxes: dict[str, tuple[Box, ...]] = field(default_factory=dict)
    stiffness: dict[str, float] = field(default_factory=dict)
    damping: dict[str, float] = field(default_factory=dict)
    effort: dict[str, float] = field(default_factory=dict)
    armature: dict[str, float] = field(default_factory=dict)


def match_joint(values: dict[str, float], joint: str) -> float | None:
    """The value of the first pattern that matches the whole joint name; None where none does."""
    return next((value for pattern, value in values.items() if re.fullmatch(pattern, joint)), None)


def approach_distance(robot: Robot) -> float:
    """How far back along its Z the tool comes from to a grasp, and goes again [m]: all that way must be free, and small arms do not reach much further back."""
    return min(APPROACH_M, APPROACH_SHARE * robot.reach_m)


def closing_command(robot: Robot) -> tuple[float, ...]:
    """What the finger joints are commanded to close [m or rad]."""
    return robot.fingers_pressed or robot.fingers_closed


def tool_in_link(robot: Robot) -> np.ndarray:
    """T_link_tool (4, 4): the tool frame in the link ``robot.tcp_body``."""
    return make_T(matrix_from_quat_xyzw(np.array(robot.tcp_quat_xyzw)), np.array(robot.tcp_position_m))


def rest_positions(robot: Robot) -> dict[str, float]:
    """Positions of arm and finger joints at the start of an episode: arm at home, gripper open [rad or m]."""
    names, values = (*robot.arm_joints, *robot.finger_joints), (*robot.home_rad, *robot.fingers_open)
    return dict(zip(names, values, strict=True))


PANDA = Robot(
    name="panda",
    urdf="robots/panda_description/urdf/panda.urdf",
    tcp_body="panda_hand",
    tcp_position_m=(0.0, 0.0, 0.1034),
    arm_joints=tuple(f"panda_joint{i}" for i in range(1, 8)),
    finger_joints=("panda_finger_joint1", "panda_finger_joint2"),
    home_rad=(0.0, -0.569, 0.0, -2.810, 0.0, 3.037, 0.741),
    fingers_open=(0.04, 0.04),
    fingers_closed=(0.0, 0.0),
    # 30 N at least: with 2 N on a wall of 3 mm a bowl of 0.3 kg hung 20 degrees askew. The real hand holds with up to 70 N.
    fingers_pressed=(-0.03, -0.03),
    finger_open_m=0.04,
    max_width_m=0.078,
    finger_length_m=0.045,
    finger_size_m=(0.014, 0.021),
    pad_half_m=0.0095,
    palm_half_m=(0.032, 0.104),
    hand_depth_m=0.14,
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
    armature={"panda_joint.": 0.2, "panda_finger_joint.*": 0.1},
)

UR10 = Robot(
    name="ur10",
    urdf="robots/ur_description/urdf/ur10_joint_limited_robot.urdf",
    hand=Hand("robots/panda_description/urdf/panda.urdf", link="panda_hand", mount="tool0"),
    without=("ee_fixed_joint",),
    tcp_body="panda_hand",
    tcp_position_m=PANDA.tcp_position_m,
    arm_joints=(
        "shoulder_pan_joint",
        "shoulder_lift_joint",
        "elbow_joint",
        "wrist_1_joint",
        "wrist_2_joint",
        "wrist_3_joint",
    ),
    finger_joints=PANDA.finger_joints,
    home_rad=(0.0, -1.9, 2.2, -1.87, -1.571, 0.0),
    fingers_open=PANDA.fingers_open,
    fingers_closed=PANDA.fingers_closed,
    fingers_pressed=PANDA.fingers_pressed,
    finger_open_m=PANDA.finger_open_m,
    max_width_m=PANDA.max_width_m,
    finger_length_m=PANDA.finger_length_m,
    finger_size_m=PANDA.finger_size_m,
    palm_half_m=PANDA.palm_half_m,
    hand_depth_m=PANDA.hand_depth_m,
    reach_m=1.0,
    base_radius_m=0.12,
    pad_half_m=PANDA.pad_half_m,
    stiffness={"shoulder_.*": 8000.0, "elbow_joint": 6000.0, "wrist_.*": 1500.0, "panda_finger_joint.*": 1000.0},
    damping={"shoulder_.*": 500.0, "elbow_joint": 250.0, "wrist_.*": 50.0, "panda_finger_joint.*": 100.0},
    effort={"shoulder_.*": 330.0, "elbow_joint": 150.0, "wrist_.*": 54.0, "panda_finger_joint.*": 70.0},
    armature={"panda_finger_joint.*": 0.1, ".*": 0.2},
)

SO101 = Robot(
    name="so101",
    urdf="robots/so_arm_description/urdf/so101.urdf",
    tcp_body="gripper_link",
    tcp_position_m=(0.0293, 0.0, -0.085),
    tcp_quat_xyzw=(0.7071067811865476, 0.7071067811865476, 0.0, 0.0),
    arm_joints=("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll"),
    finger_joints=("gripper",),
    home_rad=(0.0, -1.7, 0.8, 1.5, 0.049),
    fingers_open=(1.05,),
    fingers_closed=(-0.17,),
    finger_open_m=0.040,
    max_width_m=0.068,
    finger_length_m=0.055,
    finger_size_m=(0.014, 0.016),
    pad_half_m=0.014,
    palm_half_m=(0.025, 0.06),
    hand_depth_m=0.10,
    one_jaw=True,
    free_axis="y",
    reach_m=0.30,
    base_radius_m=0.06,
    # The printed jaws are hollow: their hulls would close the gripper. Flat pads along the printed ones, and what carries them.
    boxes={
        "gripper_link": (
            Box((-0.0024, 0.0, -0.0195), (0.0656, 0.048, 0.041)),
            Box((-0.0170, 0.0, -0.0771), (0.012, 0.016, 0.058), (0.0, -0.1, 0.0)),
        ),
        "moving_jaw_so101_v1_link": (
            Box((0.0, -0.009, 0.0188), (0.02, 0.038, 0.048)),
            Box((-0.0034, -0.0536, 0.0188), (0.012, 0.055, 0.016), (0.0, 0.0, -0.08)),
        ),
    },
    # The URDF's limit of 10 N m is a stand-in: the servos give about 3 N m at 12 V. Source: STS3215 data sheet.
    stiffness={"shoulder_.*|elbow_flex": 150.0, "wrist_.*": 60.0, "gripper": 4.0},
    damping={"shoulder_.*|elbow_flex": 6.0, "wrist_.*": 2.0, "gripper": 0.3},
    effort={"gripper": 2.0, ".*": 3.0},
    armature={"gripper": 0.005, "wrist_.*": 0.01, ".*": 0.03},
)

G1 = Robot(
    name="g1",
    urdf="robots/g1_description/urdf/g1_29dof_with_hand_rev_1_0.urdf",
    tcp_body="right_hand_palm_link",
    # The thumb pinches against the first finger, which is held bent: along a line 0.39 rad off the palm's X, approach 0.22 rad off its Y.
    tcp_position_m=(0.0520, 0.0808, 0.0075),
    tcp_quat_xyzw=(-0.519372, 0.434475, 0.348048, 0.648341),
    arm_joints=(
        "right_shoulder_pitch_joint",
        "right_shoulder_roll_joint",
        "right_shoulder_yaw_joint",
        "right_elbow_joint",
        "right_wrist_roll_joint",
        "right_wrist_pitch_joint",
        "right_wrist_yaw_joint",
    ),
    finger_joints=("right_hand_thumb_1_joint",),
    home_rad=(0.3, -0.35, 0.0, -1.0, -1.5, 0.2, 0.0),
    fingers_open=(0.6,),
    fingers_closed=(-0.75,),
    finger_open_m=0.048,
    max_width_m=0.075,
    finger_length_m=0.085,
    finger_size_m=(0.022, 0.026),
    pad_half_m=0.022,
    palm_half_m=(0.06, 0.11),
    hand_depth_m=0.06,
    one_jaw=True,
    reach_m=0.40,
    base_radius_m=0.13,
    base_height_m=0.04,  # its pelvis is 0.79 m above the floor when it stands: a table of 0.75 m
    without=("left_hip_pitch_joint", "right_hip_pitch_joint"),
    locked={
        "left_shoulder_pitch_joint": 0.4,
        "left_shoulder_roll_joint": 0.2,
        "left_elbow_joint": -1.0,
        "right_hand_thumb_0_joint": -0.39,
        "right_hand_thumb_2_joint": -0.35,
        "right_hand_index_0_joint": 1.15,
        "right_hand_index_1_joint": 0.2,
        "right_hand_middle_._joint": 0.15,
        "waist_.*|left_.*": 0.0,
    },
    boxes={
        "right_hand_index_1_link": (Box((0.025, 0.0, 0.0), (0.046, 0.0166, 0.024), (-0.39, 0.0, 0.0)),),
        "right_hand_thumb_2_link": (Box((0.0, 0.026, 0.0), (0.0166, 0.044, 0.024)),),
    },
    stiffness={
        "right_(shoulder|elbow).*": 300.0,
        "right_wrist_roll.*": 150.0,
        "right_wrist.*": 80.0,
        "right_hand.*": 4.0,
    },
    damping={"right_(shoulder|elbow).*": 15.0, "right_wrist_roll.*": 7.0, "right_wrist.*": 3.0, "right_hand.*": 0.25},
    effort={"right_(shoulder|elbow|wrist_roll).*": 25.0, "right_wrist.*": 5.0, "right_hand.*": 1.4},
    armature={"right_(shoulder|elbow).*": 0.1, "right_wrist.*": 0.03, "right_hand.*": 0.003},
)

ROBOTS = {
    "panda": "phototwin.robots:PANDA",
    "ur10": "phototwin.robots:UR10",
    "so101": "phototwin.robots:SO101",
    "g1": "phototwin.robots:G1",
}


def get_robot(name: str) -> Robot:
    """The robot of that short name, or the one at "module:Attr"."""
    return resolve(name, ROBOTS, "robot")

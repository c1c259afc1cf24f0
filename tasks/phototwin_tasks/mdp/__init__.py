"""Terms of the twin tasks, on top of Isaac Lab's own."""

from isaaclab.envs.mdp import (  # noqa: F401
    joint_pos_rel,
    joint_vel_rel,
    last_action,
    reset_scene_to_default,
    time_out,
)

from phototwin_tasks.mdp.events import reset_objects  # noqa: F401
from phototwin_tasks.mdp.events_physics import (  # noqa: F401
    reset_drives,
    reset_friction,
    reset_gravity,
    reset_masses,
)
from phototwin_tasks.mdp.observations import object_poses, tool_pose  # noqa: F401
from phototwin_tasks.mdp.terminations import object_fell  # noqa: F401

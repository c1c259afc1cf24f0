"""Place with a Franka Panda."""

import gymnasium as gym

gym.register(
    id="PhotoTwin-Place-Panda",
    entry_point="phototwin_tasks.twin_env:TwinEnv",
    disable_env_checker=True,
    kwargs={"env_cfg_entry_point": f"{__name__}.env_cfg:PandaPlaceEnvCfg"},
)

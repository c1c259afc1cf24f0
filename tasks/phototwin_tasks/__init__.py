"""Isaac Lab tasks over a photo twin; importing it registers the gym ids and nothing heavier."""

import phototwin_tasks.lift.config.panda
import phototwin_tasks.place.config.panda  # noqa: F401

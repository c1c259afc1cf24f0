"""Isaac Lab tasks over a photo twin; importing it registers the gym ids and nothing heavier."""

from phototwin_tasks.register import register_tasks

register_tasks()

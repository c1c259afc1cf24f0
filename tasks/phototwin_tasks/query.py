"""What ``scripts/query.py`` runs."""

from __future__ import annotations

import os
from pathlib import Path

from phototwin.console import logged_to
from phototwin.errors import InputError, PlanError
from phototwin.images import save_rgb
from phototwin.output import disk_errors
from phototwin.plan.grasp import propose_grasps
from phototwin.plan.planner import make_plan
from phototwin.plan.query import find_region
from phototwin.plan.query_picture import paint_region
from phototwin.plan.region import see_item
from phototwin.robots import get_robot
from phototwin.scene import load_scene


def show_query(twin: Path, text: str, query: str, robot: str, out: Path) -> str:
    """What ``describe_query`` gives, without what the libraries print."""
    with logged_to(Path(os.devnull)):
        return describe_query(twin, text, query, robot, out)


def describe_query(twin: Path, text: str, query: str, robot: str, out: Path) -> str:
    """Write the heat map of the part that ``text`` names, and give what there is to say about it.

    Raises:
        InputError: The text names no part of a thing, or the backend cannot run.
        PlanError: The thing has no such part.
        OutputError: The picture cannot be written.
    """
    scene, hand = load_scene(twin), get_robot(robot)
    step = make_plan(f"grasp {text}", scene, query=query).steps[0]
    if not step.part:
        raise InputError(
            f"'{text}' names no part of the {scene.object(step.object).name}: say 'by its handle', for example."
        )
    item = scene.object(step.object)
    region = find_region(scene, item, step.part, query)
    with disk_errors(out):
        save_rgb(out, paint_region(scene, item, region))
    seen = see_item(scene, item).seen
    lines = [
        f"{item.name}, {step.part}: {region.inside.mean():.0%} of its surface, "
        f"{(region.inside & seen).sum() / region.inside.sum():.0%} of that seen by the photo"
    ]
    try:
        others = tuple((other, other.T_world_object) for other in scene.objects if other is not item)
        grasps = propose_grasps(item, hand, others, item.T_world_object, 0, region=region)
        widths = f"{1000 * grasps.width_m.min():.0f} to {1000 * grasps.width_m.max():.0f} mm wide"
        lines.append(f"{len(grasps.score)} grasps there by the {hand.name}, best {grasps.score[0]:.2f}, {widths}")
    except PlanError as error:
        lines.append(f"No grasp there: {error}")
    return "\n".join([*lines, f"{out}"]) + "\n"

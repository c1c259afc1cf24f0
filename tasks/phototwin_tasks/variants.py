"""Variants of a twin: relatives in place of its objects, and things that were not there.

A variant is a twin of its own, written to a folder, so base, grasps, motion, physics and frames see nothing special. Isaac Lab's
``MultiAssetSpawner`` would put different things into the environments of one batch, but then every environment would need its
own plan, mesh and blender under one name, and physics could not be replicated; here a batch has one variant, the next another.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from phototwin.blend.delight import texel_places
from phototwin.blend.derive import derive_twin, reflectance_of
from phototwin.blend.moving import texture_of
from phototwin.build.cousins import Kinship, draw_kinship, make_cousin, named_after_color, recolor
from phototwin.build.distractors import KEY, is_distractor, make_distractor
from phototwin.errors import InputError
from phototwin.frames import make_T, transform
from phototwin.output import disk_errors
from phototwin.pattern import pattern_gain
from phototwin.plan.randomize import Randomization
from phototwin.plan.randomize_draw import factor_rng
from phototwin.plan.randomize_places import find_groups, free_place, outline_gap
from phototwin.scene import Scene, SceneObject, load_scene
from phototwin.stage.author import TWIN_FILE
from phototwin_tasks.generate.jobs import DERIVED_FROM, twin_hash

GAP_M = 0.04
"""Kept free around a thing that is added: fingers must still get at its neighbours."""
LARGEST_M = 0.2
"""Objects of other twins that are larger are not added."""
MARKS_SHARE = 0.3
"""Distance between the marks of a relative's pattern, as a share of its size."""
FINE_PX = 512
"""Side of a texture up to which patterns are worked out texel by texel."""
GROW_TRIES, SHRINK, TOUCHING_M = 8, 0.93, 0.001
"""A relative that reaches into its neighbours, as its original does not, is made smaller step by step."""


def has_variants(config: Randomization) -> bool:
    """Whether there is more than one variant of a twin."""
    return config.distractors > 0 or config.cousins > 0


def shard_variant(
    twin: Path, twin_sha256: str, config: Randomization, seed: int, shard: int, folder: Path
) -> tuple[int, Path]:
    """Number and folder of the variant that the attempts of a shard are made in: each shard has its own, the first the twin itself.

    Args:
        twin: Folder of the twin.
        twin_sha256: Its content.
        config: Ranges.
        seed: Of the run.
        shard: Number of the shard within its job.
        folder: Where the run keeps variants.
    """
    number = shard if has_variants(config) else 0
    return number, make_variant(twin, config, seed, number, folder / f"{twin_sha256[:12]}_{number:05d}")


def make_variant(twin: Path, config: Randomization, seed: int, variant: int, folder: Path) -> Path:
    """The folder of a variant of the twin in ``twin``, a pure function of twin, config, seed and number: ``folder``, written where it is not there yet.

    Variant 0, and any where nothing varies, is the twin itself.
    """
    if variant == 0 or not has_variants(config):
        return twin
    if not (folder / TWIN_FILE).is_file():
        scene = load_scene(twin)
        cousins, textures = draw_cousins(scene, config, seed, variant)
        added, colors = draw_distractors(replace(scene, objects=cousins), config, seed, variant)
        notes = scene.notes | {"variant": describe_variant(cousins, added, textures), DERIVED_FROM: twin_hash(twin)}
        with disk_errors(folder.parent):  # whole or not at all, whoever else makes the same one
            folder.parent.mkdir(parents=True, exist_ok=True)
            aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
            try:
                derive_twin(replace(scene, notes=notes), (*cousins, *added), textures, colors, aside, seed + variant)
                aside.chmod(0o755)
                aside.rename(folder)
            except OSError:
                if not (folder / TWIN_FILE).is_file():  # nobody else was quicker
                    raise
            finally:
                shutil.rmtree(aside, ignore_errors=True)
    return folder


def add_distractors(scene: Scene, seed: int, count: int, folder: Path) -> Scene:
    """The twin with up to ``count`` simple solids added where there is room, written to ``folder``."""
    added, colors = _distractors(scene, np.random.default_rng(np.random.SeedSequence([seed, count])), count, [])
    return derive_twin(scene, (*scene.objects, *added), {}, colors, folder, seed)


def replace_by_cousin(scene: Scene, key: str, kin: Kinship, folder: Path) -> Scene:
    """The twin with one object replaced by a relative, written to ``folder``."""
    cousins = tuple(make_cousin(item, kin) if item.key == key else item for item in scene.objects)
    item = scene.object(key)
    textures = {key: cousin_texture(scene, item, kin)}
    return derive_twin(scene, cousins, textures, {}, folder, 0)


def draw_cousins(
    scene: Scene, config: Randomization, seed: int, variant: int
) -> tuple[tuple[SceneObject, ...], dict[str, np.ndarray]]:
    """All objects, some replaced by relatives, and the relatives' textures (h, w, 3) uint8 by key.

    What stands on or carries another is left as it is.
    """
    alone = {g.members[0] for g in find_groups(scene.objects) if len(g.members) == 1}
    objects, textures = list(scene.objects), {}
    for i, item in enumerate(scene.objects):
        rng = factor_rng(seed, variant, f"cousin {item.key}")
        if rng.uniform() >= config.cousins or i not in alone:
            continue
        kin = draw_kinship(
            rng,
            config.cousin_scale,
            config.cousin_aspect,
            config.cousin_taper,
            float(np.radians(config.cousin_hue_deg)),
            config.cousin_contrast,
            config.cousin_pattern,
        )
        kin = _fitting(item, kin, objects[:i] + objects[i + 1 :])
        objects[i] = make_cousin(item, kin)
        textures[item.key] = cousin_texture(scene, item, kin)
    return tuple(objects), textures


def _fitting(item: SceneObject, kin: Kinship, others: list[SceneObject]) -> Kinship:
    """The relationship, smaller where the relative would reach into its neighbours."""
    own = [min(outline_gap(item, other), TOUCHING_M) for other in others]
    for _ in range(GROW_TRIES):
        cousin = make_cousin(item, kin)
        if all(outline_gap(cousin, other) >= gap for other, gap in zip(others, own, strict=True)):
            break
        kin = replace(kin, scale=kin.scale * SHRINK)
    return kin


def cousin_texture(scene: Scene, item: SceneObject, kin: Kinship) -> np.ndarray:
    """The texture of a relative of an object, (h, w, 3) uint8."""
    import cv2

    texture = texture_of(scene, item)
    points, _, known = texel_places(item.mesh, texture.shape[:2], np.eye(4), FINE_PX)
    marks = MARKS_SHARE * float(item.size_m.mean())
    gain = np.where(known, pattern_gain(points, marks, kin.pattern, kin.pattern_seed), 1.0)
    gain = cv2.resize(gain, texture.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return recolor(texture, kin, gain, named_after_color(item))


def draw_distractors(
    scene: Scene, config: Randomization, seed: int, variant: int
) -> tuple[tuple[SceneObject, ...], dict[str, np.ndarray]]:
    """Things to add, and their reflectance (h, w, 3) by key: from none to as many as the config says, each as likely."""
    rng = factor_rng(seed, variant, f"distractors {scene.name}")  # other twins get other things
    return _distractors(scene, rng, int(rng.integers(config.distractors + 1)), find_things(config.things))


def find_things(folder: str) -> list[Path]:
    """Twins below a folder, in order; none without a folder.

    Raises:
        InputError: There are none below it.
    """
    found = sorted(file.parent for file in Path(folder).rglob("scene.json")) if folder else []
    if folder and not found:
        raise InputError(f"The folder '{folder}' of things to add holds no twin: name one with twins in it.")
    return found


def borrow_thing(twin: Path, number: int, rng: np.random.Generator) -> tuple[SceneObject, np.ndarray] | None:
    """An object of another twin as a thing to add, standing at the world's origin, and its reflectance (h, w, 3); None where none is small enough."""
    scene = load_scene(twin)
    small = [item for item in scene.objects if max(item.size_m) <= LARGEST_M and not is_distractor(item)]
    if not small:
        return None
    item = small[int(rng.integers(len(small)))]
    T = make_T(item.T_world_object[:3, :3], np.zeros(3))
    T[2, 3] = -transform(T, item.mesh.points.astype(np.float64))[:, 2].min()
    key = f"{KEY}_{number}"
    lent = replace(item, name=f"{KEY} {number}", key=key, T_world_object=T)
    return lent, reflectance_of(scene, item)


def _distractors(
    scene: Scene, rng: np.random.Generator, count: int, things: list[Path]
) -> tuple[tuple[SceneObject, ...], dict[str, np.ndarray]]:
    """Up to ``count`` things with room for them: objects of the twins ``things``, and as many simple solids."""
    added: list[SceneObject] = []
    colors = {}
    for number in range(1, count + 1):
        made = None
        if things and rng.uniform() < 0.5:
            made = borrow_thing(things[int(rng.integers(len(things)))], number, rng)
        item, color = made or make_distractor(number, rng)
        T = free_place(scene, item, (*scene.objects, *added), rng, GAP_M)
        if T is not None:
            added.append(replace(item, T_world_object=T))
            colors[item.key] = color
    return tuple(added), colors


def describe_variant(
    objects: tuple[SceneObject, ...], added: tuple[SceneObject, ...], textures: dict[str, np.ndarray]
) -> str:
    """One sentence for the report."""
    changed = ", ".join(item.name for item in objects if item.key in textures)
    words = [f"the {changed} replaced by relatives"] if changed else []
    words += [f"{len(added)} things added"] if added else []
    return f"Derived from another twin, with {' and '.join(words) or 'nothing changed'}."

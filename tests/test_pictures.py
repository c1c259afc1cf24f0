"""The before/after pictures: files small enough for a repository, clear words where captures are missing, one picture end to end."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from synthetic import make_scene

from phototwin.errors import InputError
from phototwin.scene import save_scene
from phototwin_tasks.pictures import GAP_PX, MOST_BYTES, PANEL, before_after, capture_twin, save_picture


def test_pictures_are_small_whatever_they_show(tmp_path):
    noisy = np.random.default_rng(0).integers(0, 256, (PANEL[1], 900, 3), dtype=np.uint8)
    smooth = np.broadcast_to(np.linspace(0, 255, 900).astype(np.uint8)[:, None], (480, 900, 3))
    save_picture(tmp_path / "a" / "noisy.jpg", noisy)
    save_picture(tmp_path / "a" / "smooth.jpg", smooth)
    assert (tmp_path / "a/noisy.jpg").stat().st_size <= MOST_BYTES
    back = np.asarray(Image.open(io.BytesIO((tmp_path / "a/smooth.jpg").read_bytes())))
    assert np.abs(back.astype(int) - smooth).max() < 6


def test_a_missing_capture_is_said_in_one_sentence(tmp_path):
    with pytest.raises(InputError, match="--data"):
        capture_twin(Path(tmp_path), "six_blue_mug", tmp_path / "work")


def test_photo_paste_and_blend_differ_only_where_they_should(tmp_path):
    save_scene(make_scene(tmp_path / "twin"), tmp_path / "twin")
    panels = before_after(tmp_path / "twin")
    width = PANEL[0]
    photo, paste, ours = (panels[:, i * (width + GAP_PX) :][:, :width].astype(int) for i in range(3))
    pasted, blended = (np.abs(p - photo).max(-1) > 0 for p in (paste, ours))
    assert 0.005 < pasted.mean() < 0.6
    assert (pasted & ~blended).sum() < 0.02 * pasted.sum()  # where there is a robot there is ours
    assert (blended & ~pasted).any()  # and it throws a shadow
    assert (photo[:, :20] == ours[:, :20]).mean() > 0.5

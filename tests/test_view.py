"""The report shows what the twin is, escapes what people typed, and loads nothing; the film holds the frames."""

import base64
import html.parser
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from test_data import make_episode

from phototwin.errors import InputError, OutputError
from phototwin.frames import make_T, project
from phototwin.images import save_depth, save_ids, save_rgb
from phototwin.scene import Camera, ConvexPiece, Mesh, Scene, SceneObject, Support, save_scene
from phototwin.view.preview import grid_frames, write_preview
from phototwin.view.render import color_depth, overlay_masks, render_twin, scaled_camera, side_camera
from phototwin.view.report import ReportFacts, write_report

WIDTH, HEIGHT = 160, 120
CORNERS = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])


def quad(half, texture):
    """A level square; its texture's left half lies at negative x and its lower half at negative y."""
    points = np.concatenate([CORNERS * half, np.zeros((4, 1))], 1).astype(np.float32)
    faces = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    return Mesh(points, faces, ((CORNERS[faces] + 1) / 2).astype(np.float32), texture)


def make_scene(folder, name="desk", note="Looked at it.", object_name="red tile"):
    """A camera looks down on a tile of four colours, 2 cm above a table."""
    colors = np.array([[[250, 0, 0], [0, 250, 0]], [[0, 0, 250], [250, 250, 0]]], np.uint8)  # upper row first
    save_rgb(folder / "textures/tile.png", colors.repeat(8, 0).repeat(8, 1))
    plate = np.full((HEIGHT, WIDTH, 3), 120, np.uint8)
    save_rgb(folder / "background.png", plate)
    save_rgb(folder / "photo.png", plate)
    save_depth(folder / "depth.png", np.full((HEIGHT, WIDTH), 0.5, np.float32))
    save_depth(folder / "background_depth.png", np.full((HEIGHT, WIDTH), 0.5, np.float32))
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    ids[40:80, 60:100] = 1
    save_ids(folder / "masks.png", ids)
    save_ids(folder / "owners.png", ids)
    T_world_camera = make_T(np.diag([1.0, -1.0, -1.0]), np.array([0, 0, 0.52]))
    camera = Camera(np.array([[200.0, 0, 80], [0, 200, 60], [0, 0, 1]]), WIDTH, HEIGHT, T_world_camera)
    tile = SceneObject(
        name=object_name,
        key="tile",
        shape="box",
        hollow=False,
        T_world_object=make_T(np.eye(3), np.array([0, 0, 0.02])),
        size_m=np.array([0.1, 0.1, 0.02]),
        color_rgb=np.array([1.0, 0, 0]),
        mesh=quad(0.05, "textures/tile.png"),
        pieces=(ConvexPiece(np.zeros((4, 3), np.float32), np.zeros((1, 3), np.int32)),),
        mass_kg=0.123,
    )
    scene = Scene(
        name, camera, (tile,), Support(CORNERS * 0.3), quad(0.1, None), notes={"scale <i>": note}, folder=folder
    )
    save_scene(scene, folder)
    return scene


def test_render_puts_each_texel_where_the_camera_sees_it(tmp_path):
    scene = make_scene(tmp_path)
    image = render_twin(scene, scene.camera, over_photo=True)
    want = {(-1, 1): [250, 0, 0], (1, 1): [0, 250, 0], (-1, -1): [0, 0, 250], (1, -1): [250, 250, 0]}
    for (x, y), color in want.items():
        point_c = np.array([x * 0.03, -y * 0.03, 0.5])
        u, v = project(scene.camera.K_px, point_c)
        assert image[int(v), int(u)].tolist() == color
    assert image[5, 5].tolist() == [120] * 3
    meshes = render_twin(scene, scene.camera, over_photo=False)
    assert meshes[5, 5].tolist() == [238, 238, 242] and meshes[60, 45].tolist() == [170] * 3


def test_side_camera_keeps_looking_at_the_objects(tmp_path):
    scene = make_scene(tmp_path)
    moved = side_camera(scene, 0.6)
    before, after = scene.camera.T_world_camera[:3, 3], moved.T_world_camera[:3, 3]
    pivot = np.array([0, 0, 0.02])
    assert np.isclose(np.linalg.norm(before - pivot), np.linalg.norm(after - pivot))
    small = scaled_camera(moved, 80)
    assert (small.width, small.height) == (80, 60) and np.allclose(small.K_px[:2], moved.K_px[:2] / 2)


def test_masks_and_depth_pictures(tmp_path):
    scene = make_scene(tmp_path)
    overlay = overlay_masks(scene)
    assert (overlay[40, 60:100] == 255).all() and overlay[60, 80, 0] > overlay[60, 80, 2] + 60
    depth = np.full((HEIGHT, WIDTH), 0.5, np.float32)
    depth[:60], depth[:, :10] = 1.0, 0.0
    save_depth(tmp_path / "depth.png", depth)
    image, reach = color_depth(scene)
    assert reach == (0.5, 1.0)
    assert image[90, 50].tolist() == [253, 231, 37] and image[10, 50].tolist() == [68, 1, 84]
    assert image[50, 5].tolist() == [40, 40, 44]
    save_depth(tmp_path / "depth.png", depth * 0)
    assert color_depth(scene)[1] is None


class Page(html.parser.HTMLParser):
    """Collects what a browser would do with the page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.sources, self.text = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for key, value in attrs if key in ("src", "href")]

    def handle_data(self, data):
        self.text.append(data)


FACTS = ReportFacts(
    seconds={"perceive": 1.25, "roll out": 20.0},
    settings={"instruction": 'say "<script>alert(1)</script>"', "seed": "17"},
    notes={"gravity": "the normal of the table"},
    versions={"isaaclab": "3.0.0"},
    attempts=((0, True, "", 120), (1, False, "dropped", 90), (2, True, "", 110)),
    peak_memory_gb=2.5,
)


def test_report_is_self_contained_and_says_everything(tmp_path):
    make_scene(tmp_path / "twin", object_name="red <b>tile</b>", note="5 < 6 & true")
    (tmp_path / "preview.mp4").touch()
    episodes = [make_episode(i, success=i != 1) for i in range(3)]
    file = write_report(tmp_path, tmp_path / "twin", episodes, FACTS)
    page = Page(file.read_text())
    assert not {"script", "link", "iframe", "b>tile"} & set(page.tags)
    links = [s for s in page.sources if not s.startswith("data:image/jpeg;base64,")]
    assert links == ["preview.mp4"] and not re.search(r"url\(|@import|https?://", file.read_text())
    pictures = [Image.open(io.BytesIO(base64.b64decode(s.split(",")[1]))) for s in page.sources if s not in links]
    assert len(pictures) == 6 + 2 * 3
    assert abs(np.asarray(pictures[0]).astype(int) - 120).max() <= 2
    text = " ".join(" ".join(page.text).split())
    for words in (
        'say "<script>alert(1)</script>"',
        "red <b>tile</b>",
        "5 < 6 & true",
        "scale <i>",
        "the normal of the table",
        "100 x 100 x 20",
        "123",
        "2 of 3",
        "67 %",
        "1 x dropped",
        "21.2 s",
        "isaaclab",
        "17",
        "2.5 GB",
        "seams 0.75, worst 0.50 in frame 0",
    ):
        assert words in text, words


def test_report_of_a_reconstruction_alone(tmp_path):
    scene = make_scene(tmp_path / "twin")
    save_scene(replace(scene, objects=()), tmp_path / "twin")
    page = Page(write_report(tmp_path, tmp_path / "twin").read_text())
    text = " ".join(page.text)
    assert "Attempts" not in text and "Demonstrations" not in text and "Seconds per stage" not in text
    assert not list(tmp_path.glob("*.partial"))


def test_report_without_a_twin_or_a_disk(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="not a twin"):
        write_report(tmp_path, tmp_path / "none")
    make_scene(tmp_path / "twin")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OutputError, match="No space"):
        write_report(tmp_path, tmp_path / "twin")
    assert [p.name for p in tmp_path.iterdir()] == ["twin"]


@pytest.mark.parametrize("count,grid", [(1, (1, 1)), (2, (1, 2)), (3, (2, 2)), (6, (2, 2))])
def test_preview_holds_every_frame(tmp_path, count, grid):
    import av

    episodes = [
        make_episode(0, success=False),
        *(make_episode(i, steps=6 + 2 * i, size=(35, 21)) for i in range(count)),
    ]
    file = write_preview(iter(episodes), tmp_path / "film/preview.mp4")
    with av.open(str(file)) as film:
        stream = film.streams.video[0]
        assert stream.codec_context.pix_fmt == "yuv420p" and stream.average_rate == 20
        frames = [f.to_ndarray(format="rgb24") for f in film.decode(stream)]
    assert len(frames) == 6 + 2 * (min(count, 4) - 1) + 20
    height, width = frames[0].shape[:2]
    assert height % 2 == width % 2 == 0 and height >= 400
    cell = height // grid[0]
    for t in (0, 5):  # red is ten times the step
        assert abs(int(frames[t][cell // 2, cell // 2, 0]) - 10 * t) < 12
    assert [p.name for p in file.parent.iterdir()] == ["preview.mp4"]


def test_grid_enlarges_by_whole_pixels():
    clips = [np.random.default_rng(0).integers(0, 256, (2, 50, 60, 3), dtype=np.uint8)]
    first = next(iter(grid_frames(clips, 0)))
    assert first.shape == (400, 480, 3) and (first[::8, ::8] == clips[0][0]).all()


def test_nothing_to_preview(tmp_path):
    with pytest.raises(InputError, match="no episode has frames"):
        write_preview([make_episode(0, success=False)], tmp_path / "preview.mp4")
    assert not list(tmp_path.iterdir())

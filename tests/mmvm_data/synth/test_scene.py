"""The toy world: what a video holds, and that its masks are the visible pixels."""

from __future__ import annotations

import colorsys
from itertools import combinations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmvm_data.cases.appearance import mean_lab
from mmvm_data.synth import SynthOptions, make_scene, make_shots
from mmvm_data.synth.motion import ROLES, plan_camera_path, plan_track
from mmvm_data.synth.pen import Pen
from mmvm_data.synth.scene import Scene, _draw_group_sizes, _paste_sprite
from mmvm_data.synth.scenery import THEMES, Lens, _paint_clouds
from mmvm_data.synth.sprite import Sprite
from mmvm_data.synth.style import draw_patterned_styles, draw_similar_styles
from mmvm_data.synth.toys import TOYS

OPTIONS = SynthOptions(width=320, height=180)
NUMBERS = (0, 5, 9)  # buses; giraffes and bicycles; dogs
LENS = Lens(320, 180, focal=230, horizon=72)


@pytest.fixture(scope="module", params=NUMBERS)
def painted(request: pytest.FixtureRequest) -> tuple[Scene, list[np.ndarray], list[np.ndarray]]:
    scene = make_scene(request.param, OPTIONS)
    images, labels = zip(*scene.render_frames(), strict=True)
    return scene, list(images), list(labels)


def interior(mask: np.ndarray) -> np.ndarray:
    return cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)


def test_frames_have_the_size_and_labels_of_the_cast(painted):
    scene, images, labels = painted
    assert len(images) == OPTIONS.frames
    for image, label in zip(images, labels, strict=True):
        assert image.shape == (180, 320, 3)
        assert image.dtype == np.uint8
        assert label.shape == (180, 320)
        assert set(np.unique(label)) <= {0, *(actor.label for actor in scene.toys)}


def test_hiding_what_is_behind_or_beside_leaves_a_toys_pixels_as_they_are(painted):
    scene, images, labels = painted
    same = total = 0
    for number in (3, 11):
        for actor in scene.toys:
            others = frozenset(a.label for a in scene.toys) - {actor.label}
            alone, _ = scene.render_frame(number, hide=others)
            inside = interior(labels[number] == actor.label)
            same += int((alone[inside] == images[number][inside]).all(axis=-1).sum())
            total += int(inside.sum())
    assert total > 1000
    assert (
        same >= 0.97 * total
    )  # the rest is covered in part: spokes, ropes, pixels where two toys meet; or out of focus


def test_hiding_a_toy_changes_its_pixels_and_lets_no_other_toy_change_where_it_was_seen(painted):
    scene, images, labels = painted
    for number in (3, 11):
        for actor in scene.toys:
            mine = labels[number] == actor.label
            without, left = scene.render_frame(number, hide=frozenset({actor.label}))
            assert not (left == actor.label).any()
            others = labels[number] != 0
            others &= ~mine
            assert (left[others] == labels[number][others]).all()
            assert (without[mine] != images[number][mine]).any(axis=-1).mean() > 0.9 if mine.sum() > 30 else True


def test_the_nearer_toy_is_in_front(painted):
    scene, _, labels = painted
    everyone = frozenset(actor.label for actor in scene.toys)
    met = 0
    for number in (2, 7, 12, 17):
        whole = {a.label: scene.render_frame(number, hide=everyone - {a.label})[1] == a.label for a in scene.toys}
        for one, two in combinations(scene.toys, 2):
            near, far = sorted((one, two), key=lambda actor: float(actor.track.depth[number]))
            assert not (whole[near.label] & (labels[number] == far.label)).any()
            met += int((whole[near.label] & whole[far.label]).sum())
    assert met


def test_every_video_has_hidden_parts_an_exit_with_a_return_holes_and_pieces(painted):
    scene, _, labels = painted
    seen = {actor.label: [int((label == actor.label).sum()) for label in labels] for actor in scene.toys}
    assert any(
        max(areas[:k], default=0) > 50 and areas[k] == 0 and max(areas[k:]) > 50
        for areas in seen.values()
        for k in range(OPTIONS.frames)
    )
    covered = holes = pieces = 0
    for number, label in enumerate(labels):
        for actor in scene.toys:
            mask = (label == actor.label).astype(np.uint8)
            _, tree = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
            if tree is not None:
                holes += bool((tree[0][:, 3] >= 0).any())
                pieces += int((tree[0][:, 3] < 0).sum()) > 1
            if number % 2 == 0 and mask.any():
                others = frozenset(a.label for a in scene.toys) - {actor.label}
                _, alone = scene.render_frame(number, hide=others)
                covered += int((alone == actor.label).sum()) > 1.2 * int(mask.sum())
    assert covered
    assert holes
    assert pieces


def test_one_toy_leaves_over_the_edge_and_one_comes_closer(painted):
    scene, _, labels = painted
    edges = {int(v) for label in labels for v in np.unique(np.concatenate((label[:, 0], label[:, -1])))}
    assert edges - {0}
    nearer = [a for a in scene.toys if float(a.track.depth[0]) > float(a.track.depth[-1]) + 1.0]
    if len(scene.toys) >= len(ROLES):
        assert nearer


def test_light_and_camera_change_over_some_videos():
    scenes = [make_scene(n, OPTIONS) for n in range(12)]
    assert any(np.ptp(s.light.mean(axis=1)) > 0.2 for s in scenes)
    assert any(np.ptp(s.light.mean(axis=1)) == 0 for s in scenes)
    assert any(np.ptp(s.camera) > 1 for s in scenes)
    assert any(s.blur.max() > 0.3 for s in scenes)


def test_counts_and_look_alikes_of_many_videos():
    totals = set()
    for number in range(30):
        toys = make_scene(number, SynthOptions(width=128, height=96, frames=2)).toys
        totals.add(len(toys))
        by_category: dict[str, list] = {}
        for actor in toys:
            by_category.setdefault(actor.category, []).append(actor.style)
        assert all(2 <= len(looks) <= 4 for looks in by_category.values())
        for looks in by_category.values():
            for one, two in combinations(looks, 2):
                assert one.accent != two.accent
                assert one.sign != two.sign or one.sign == ""
                # alike: no farther apart than an eighth of the circle of hues
                hues = [colorsys.rgb_to_hsv(*(value / 255 for value in look.base))[0] for look in (one, two)]
                apart = abs(hues[0] - hues[1])
                assert min(apart, 1 - apart) <= 1 / 8
    assert min(totals) == 3
    assert max(totals) == 9


def test_a_cut_says_nothing_about_places_sizes_order_and_light():
    before, after, light = [], [], []
    for number in range(24):
        options = SynthOptions(width=128, height=96, frames=2, cuts=1, objects=(6, 9))
        first, second = make_shots(number, options)
        assert [(a.label, a.category, a.style) for a in first.toys] == [
            (a.label, a.category, a.style) for a in second.toys
        ]
        for shot, seen in ((first, before), (second, after)):
            for actor in shot.toys:
                depth, x = float(actor.track.depth[0]), float(actor.track.x[0]) - float(shot.camera[0])
                unit = shot.lens.pixels_per_meter(depth)
                seen.append((x * unit, shot.lens.project(0, 0, depth, 0)[1], unit))
        light.append(second.light[0] / first.light[0])
    for name, one, two in zip(("x", "y", "size"), *map(np.transpose, (before, after)), strict=True):
        assert abs(np.corrcoef(one, two)[0, 1]) < 0.2, name  # 176 toys: three standard deviations
    assert np.std(np.log(light), axis=0).min() > 0.1


def test_toys_that_differ_in_patterns_share_kind_proportions_and_mean_color():
    for number in range(6):
        toys = make_scene(number, SynthOptions(width=128, height=96, frames=2, look_alikes="patterns")).toys
        assert len({actor.category for actor in toys}) == 1
        assert len({(a.style.base, a.style.second, a.style.accent, a.style.build) for a in toys}) == 1
    for seed in range(12):
        styles = draw_patterned_styles(6, np.random.default_rng(seed))
        everywhere = np.ones(styles[0].coat.shape[:2], np.uint8)
        means = [mean_lab(style.coat[..., ::-1], everywhere) for style in styles]
        assert max(np.linalg.norm(one - two) for one, two in combinations(means, 2)) < 5  # clipped colors
        for one, two in combinations(styles, 2):
            assert np.abs(one.coat.astype(int) - two.coat).mean() > 30
            assert one.sign != two.sign or one.sign == ""


@given(total=st.integers(2, 26), seed=st.integers(0, 2**32))
def test_groups_of_two_to_four_make_up_the_total(total, seed):
    sizes = _draw_group_sizes(total, np.random.default_rng(seed))
    assert sum(sizes) == total
    assert set(sizes) <= {2, 3, 4}


@settings(max_examples=40)
@given(role=st.sampled_from(sorted(set(ROLES))), kind=st.sampled_from(sorted(TOYS)), seed=st.integers(0, 2**32))
def test_paths_are_finite_smooth_and_do_what_the_role_says(role, kind, seed):
    random = np.random.default_rng(seed)
    camera = plan_camera_path(20, random)
    track = plan_track(role, TOYS[kind], 5.0, 0.4, LENS, camera, random)
    for values in (track.x, track.up, track.depth, track.facing, track.tilt, track.phase):
        assert values.shape == (20,)
        assert np.isfinite(values).all()
    assert (track.depth > 3).all()
    assert (np.abs(track.facing) >= 0.4).all()
    places = np.array([LENS.project(x, 0, d, c) for x, d, c in zip(track.x, track.depth, camera, strict=True)])[:, 0]
    half = TOYS[kind].half_width * TOYS[kind].size * LENS.focal / track.depth
    outside = (places + half < 0) | (places - half > LENS.width)
    if role == "return":
        assert outside.any()
        assert not outside[0]
        assert not outside[-1]
    elif role == "cross":
        assert outside[0] or outside[-1]
        assert not outside[10]
    else:
        assert ((places > 0) & (places < LENS.width)).any()
    steps = np.diff(places)
    assert np.abs(np.diff(steps)).max() < 0.35 * LENS.width


@pytest.mark.parametrize("facing", [1.0, -1.0])
def test_signs_are_never_mirrored(facing):
    look = draw_similar_styles(2, np.random.default_rng(1))[0]
    pen = Pen(
        np.zeros((80, 80, 3), np.uint8),
        np.full((80, 80), 255, np.uint8),
        np.array([[40.0 * facing, 0, 40], [0, -40.0, 60]]),
        40.0,
        look,
        0.0,
    )
    picture = np.zeros((32, 32, 4), np.uint8)
    picture[..., 3] = 255
    picture[:16, :16, 0] = 250  # red at the top left
    pen.stamp(picture, 0.0, 0.5, 0.8)
    y, x = np.nonzero(pen.rgb[..., 0] > 125)
    assert x.mean() < 40
    assert y.mean() < 40
    assert abs(len(x) - 16 * 16) < 40


def test_a_cloud_takes_nothing_from_the_clouds_below_it():
    """Seven discs a cloud; the first cloud is low, the others stand above it or far to its left."""

    class Numbers:
        def __init__(self, x: float) -> None:
            clouds = [(300.0, 0.6, 0.1), *[(x, 0.3, 0.1)] * 4]
            self.queue = [value for cloud in clouds for value in (*cloud, *[0.9] * 7)]

        def uniform(self, low: float, high: float) -> float:
            return self.queue.pop(0)

    above, apart = (
        _paint_clouds(THEMES["meadow"], LENS, 100, 400, False, Numbers(x))[50:, 200:, 3]  # type: ignore[arg-type]
        for x in (320.0, 60.0)
    )
    assert apart.max() > 200
    assert np.array_equal(above, apart)


def test_every_toy_stays_inside_the_room_that_it_names():
    """Drawn with the room doubled, nothing is painted outside the room itself."""
    look = draw_similar_styles(2, np.random.default_rng(2))[0]
    unit = 60.0
    for name, toy in TOYS.items():
        for phase in (0.0, 1.3, 2.6, 4.1):
            shape = (round(unit * (toy.height + 1)), round(unit * (2 * toy.half_width + 1)))
            matrix = np.array([[unit, 0, shape[1] / 2], [0, -unit, shape[0] - unit / 2]])
            pen = Pen(np.zeros((*shape, 3), np.uint8), np.zeros(shape, np.uint8), matrix, unit, look, phase)
            toy.draw(pen)
            y, x = np.nonzero(pen.alpha)
            across = np.abs((x + 0.5 - shape[1] / 2) / unit).max()
            up = (shape[0] - unit / 2 - (y + 0.5)) / unit
            assert across <= toy.half_width, name
            assert up.max() <= toy.height, name
            assert up.min() >= -0.08, name


def test_a_video_is_the_same_whatever_the_number_of_videos():
    few, many = SynthOptions(videos=1, width=160, height=96), SynthOptions(videos=900, width=160, height=96)
    one, labels = make_scene(7, few).render_frame(4)
    two, again = make_scene(7, many).render_frame(4)
    assert (one == two).all()
    assert (labels == again).all()


def test_another_seed_is_another_world():
    one, _ = make_scene(0, SynthOptions(seed=0, width=160, height=96)).render_frame(0)
    two, _ = make_scene(0, SynthOptions(seed=1, width=160, height=96)).render_frame(0)
    assert (one != two).any(axis=-1).mean() > 0.5


def test_a_pixel_is_the_toys_from_half_its_cover_on():
    cover = np.linspace(0, 1, 11, dtype=np.float32)[None]
    image, labels = np.full((3, 20, 3), 100, np.float32), np.full((3, 20), 7, np.uint8)
    _paste_sprite(image, labels, Sprite(np.repeat(200 * cover[..., None], 3, axis=2), cover, 5, 1), 2)
    assert labels[1, 5:16].tolist() == [7] * 5 + [2] * 6
    assert (labels[[0, 2]] == 7).all()
    # the color is nearer to the toy's 200 than to the 100 behind just where the label says so
    nearer = image[1, :, 0] >= 150
    assert (nearer == (labels[1] == 2)).all()


@pytest.mark.parametrize(("x", "y"), [(-4, -3), (15, 6), (-40, 2), (3, 50)])
def test_what_reaches_over_the_edge_is_cut_off(x: int, y: int):
    image, labels = np.zeros((10, 20, 3), np.float32), np.zeros((10, 20), np.uint8)
    _paste_sprite(image, labels, Sprite(np.full((6, 8, 3), 90, np.float32), np.ones((6, 8), np.float32), x, y), 3)
    wanted = np.zeros((200, 200), bool)
    wanted[100 + y : 106 + y, 100 + x : 108 + x] = True
    assert ((labels == 3) == wanted[100:110, 100:120]).all()
    assert ((image[..., 0] == 90) == (labels == 3)).all()

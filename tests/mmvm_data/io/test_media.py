"""Pixels of files and videos, against Pillow and against decord read front to back."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Frame
from mmvm_data.io import media

CLIP = "davis2017_schoolgirls_240p/schoolgirls.mp4"


@pytest.fixture
def picture() -> np.ndarray:
    rng = np.random.default_rng(0)
    return cv2.resize(rng.integers(0, 256, (12, 16, 3), np.uint8), (64, 48))


def _frame(name: str, width: int = 64, height: int = 48) -> Frame:
    return Frame(path=name, index=0, width=width, height=height)


def _jpeg(picture: np.ndarray, *options: int) -> bytes:
    return cv2.imencode(".jpg", picture, list(options))[1].tobytes()


def test_jpeg_pixels_agree_with_pillow_and_bytes_are_returned(realdata: Path) -> None:
    root = realdata / "davis2016_val"
    name = "DAVIS/JPEGImages/480p/soapbox/00007.jpg"
    pixels = media.load_frame(root, _frame(name, 854, 480))
    expected = np.asarray(Image.open(root / name))[..., ::-1].astype(int)
    assert pixels.bgr.dtype == np.uint8
    assert np.abs(pixels.bgr - expected).max() <= 2
    assert pixels.jpeg == (root / name).read_bytes()
    assert media.read_image_size(root / name) == (854, 480)


@pytest.mark.parametrize("ending", [".png", ".bmp", ".tiff"])
def test_other_formats_have_exact_pixels_and_no_jpeg_bytes(tmp_path: Path, picture: np.ndarray, ending: str) -> None:
    cv2.imwrite(str(tmp_path / f"a{ending}"), picture)
    pixels = media.load_frame(tmp_path, _frame(f"a{ending}"))
    assert (pixels.bgr == picture).all()
    assert pixels.jpeg is None
    assert media.read_jpeg_bytes(tmp_path, _frame(f"a{ending}")) is None
    assert media.read_image_size(tmp_path / f"a{ending}") == (64, 48)


def test_exif_orientation_is_not_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.new("RGB", (64, 48)).save(tmp_path / "a.jpg", exif=exif)
    assert media.read_frame_bgr(tmp_path, _frame("a.jpg")).shape == (48, 64, 3)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.97])
@pytest.mark.parametrize("ending", [".jpg", ".png", ".webp", ".bmp", ".tiff"])
def test_truncated_image_is_an_error(tmp_path: Path, picture: np.ndarray, ending: str, share: float) -> None:
    data = cv2.imencode(ending, picture)[1].tobytes()
    (tmp_path / f"a{ending}").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(InputError, match=f"a{ending}"):
        media.load_frame(tmp_path, _frame(f"a{ending}"))


def test_jpeg_without_end_marker_is_an_error(tmp_path: Path, picture: np.ndarray) -> None:
    (tmp_path / "a.jpg").write_bytes(_jpeg(picture)[:-2])
    with pytest.raises(InputError, match="cut off: it ends before its end marker"):
        media.load_frame(tmp_path, _frame("a.jpg"))


@pytest.mark.parametrize("progressive", [0, 1])
@pytest.mark.parametrize("tail", [b"\0" * 100, b"\n", b"MPF\xff\xd8 and more"])
def test_jpeg_may_have_trailing_data_but_not_zeros_for_content(
    tmp_path: Path, picture: np.ndarray, tail: bytes, progressive: int
) -> None:
    data = _jpeg(picture, cv2.IMWRITE_JPEG_PROGRESSIVE, progressive, cv2.IMWRITE_JPEG_RST_INTERVAL, 2)
    (tmp_path / "a.jpg").write_bytes(data + tail)
    assert media.load_frame(tmp_path, _frame("a.jpg")).jpeg == data + tail
    (tmp_path / "b.jpg").write_bytes(data[: len(data) // 2] + b"\0" * (len(data) // 2))
    with pytest.raises(InputError, match="before its end marker"):
        media.load_frame(tmp_path, _frame("b.jpg"))


def test_end_marker_of_a_thumbnail_does_not_count(tmp_path: Path, picture: np.ndarray) -> None:
    data = _jpeg(picture)
    thumbnail = b"Exif\0\0" + _jpeg(picture[:8, :8])
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    whole = data[:2] + segment + data[2:]
    (tmp_path / "a.jpg").write_bytes(whole + b"\0")
    assert media.load_frame(tmp_path, _frame("a.jpg")).bgr.shape == (48, 64, 3)
    (tmp_path / "b.jpg").write_bytes(whole[: len(whole) * 3 // 4])
    with pytest.raises(InputError, match="before its end marker"):
        media.load_frame(tmp_path, _frame("b.jpg"))


def test_wrong_size_missing_file_and_path_outside_are_errors(tmp_path: Path, picture: np.ndarray) -> None:
    (tmp_path / "a.jpg").write_bytes(_jpeg(picture))
    with pytest.raises(InputError, match="64 x 48, the frame is 63 x 48"):
        media.load_frame(tmp_path, _frame("a.jpg", 63))
    with pytest.raises(InputError, match=r"b\.jpg: file cannot be read: No such file"):
        media.load_frame(tmp_path, _frame("b.jpg"))
    with pytest.raises(InputError, match="stay inside"):
        media.load_frame(tmp_path / "sub", _frame("../a.jpg"))
    with pytest.raises(InputError, match="not a readable image"):
        (tmp_path / "c.jpg").write_bytes(b"hello")
        media.read_image_size(tmp_path / "c.jpg")


def test_random_access_equals_sequential_decoding(realdata: Path) -> None:
    import decord

    info = media.read_video_info(realdata / CLIP)
    assert info == (80, 432, 240, 24.0)
    reader = decord.VideoReader(str(realdata / CLIP), num_threads=1)
    front_to_back = [reader.next().asnumpy() for _ in range(80)]
    for index in (79, 3, 41, 40, 0, 64):
        frame = Frame(path=CLIP, index=index, width=432, height=240, video_frame=index)
        pixels = media.load_frame(realdata, frame)
        assert pixels.jpeg is None
        assert (pixels.bgr[..., ::-1] == front_to_back[index]).all()
    with pytest.raises(InputError, match="there is no frame 80, the video has 80"):
        media.load_frame(realdata, frame.model_copy(update={"video_frame": 80}))
    with pytest.raises(InputError, match="image is 432 x 240, the frame is 431 x 240"):
        media.load_frame(realdata, frame.model_copy(update={"width": 431}))


@pytest.mark.parametrize("width", [16, 48, 50, 72, 130])
def test_narrow_videos_keep_their_rows(tmp_path: Path, width: int) -> None:
    picture = np.zeros((32, width, 3), np.uint8)
    picture[..., 0] = np.linspace(0, 255, width)
    picture[..., 1] = np.linspace(0, 255, 32)[:, None]
    writer = cv2.VideoWriter(str(tmp_path / "a.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 24, (width, 32))
    for _ in range(3):
        writer.write(picture)
    writer.release()
    found = media.load_frame(tmp_path, Frame(path="a.mp4", index=1, width=width, height=32, video_frame=1)).bgr
    assert np.abs(found.astype(int) - picture).max() < 30


def test_two_videos_stay_open_and_a_forked_child_opens_its_own(realdata: Path, tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / f"{name}.mp4").symlink_to(realdata / CLIP)
        media._read_video_frame(tmp_path / f"{name}.mp4", 0)
    assert [Path(key).name for key in media._open_decoders] == ["b.mp4", "c.mp4"]
    expected = media._read_video_frame(tmp_path / "c.mp4", 50)
    child = os.fork()
    if child == 0:
        fresh = not media._open_decoders
        same = (media._read_video_frame(tmp_path / "c.mp4", 50) == expected).all()
        os._exit(0 if fresh and same else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("content", [b"", b"hello\n" * 100, "half"])
def test_broken_or_missing_video_is_an_error(realdata: Path, tmp_path: Path, content: bytes | str) -> None:
    whole = (realdata / CLIP).read_bytes()
    (tmp_path / "a.mp4").write_bytes(whole[: len(whole) // 2] if isinstance(content, str) else content)
    with pytest.raises(InputError, match="video cannot be opened"):
        media.read_video_info(tmp_path / "a.mp4")
    with pytest.raises(InputError, match="video file is missing"):
        media.read_video_info(tmp_path / "b.mp4")

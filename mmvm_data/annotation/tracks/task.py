"""A shot as a task of Label Studio: the label config of the page on which objects are drawn, and the data of a task."""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from xml.sax.saxutils import quoteattr

from mmvm_data.annotation.labelstudio.shapes import Editor, ObjectSlot, Result, region_to_results
from mmvm_data.annotation.labelstudio.sync import data_revision
from mmvm_data.annotation.tracks.layout import Shot
from mmvm_data.annotation.tracks.sam2 import TrackedMask
from mmvm_data.core.plurals import pluralize
from mmvm_data.core.types import Region

NAME_KEY: Final = "shot_id"
"""Where a task's data hold the name of its shot."""

IMAGE: Final = "original1"
CATEGORY: Final = "category"
_GOLDEN_RATIO: Final = 0.618034  # keeps the hues of neighboring numbers far apart
_HELP: Final = (
    "Choose a number, then a tool, and draw. One thing keeps one number in every picture of the shot; a picture counts "
    "when something is drawn in it, and then everything that has a number and is visible must be drawn."
)

_VIDEO_HELP: Final = (
    "Choose a number, and draw a box. Click on a later picture of the timeline and move the box there: in between it "
    "moves by itself. Where a thing is gone, end its box on the timeline. Everything that has a number and is visible "
    "must have a box."
)

_STYLE: Final = """
.mmvm-shot .lsf-richtext { margin: 0; padding: 0; font-size: 13px; }
.mmvm-shot h4 { font-size: 14px; line-height: 1.35; font-weight: 400; margin: 4px 0 8px !important; max-width: 1000px; }
.mmvm-shot .lsf-video__main { height: max(280px, 100vh - 470px) !important; }
[data-testid^=bottombar-auto]:focus:not(:focus-visible) { visibility: hidden; }
"""
"""At 1366 x 768, picture and timeline are in the window together. A switch that was clicked would keep the focus, and
with it the keys of numbers and tools: hidden for a moment, it loses it. The editor escapes quotes in styles."""
_IMAGE_HEIGHT: Final = "calc(100vh - 310px)"
"""Of a picture at most: what the editor's bars, the help and the numbers leave of the window."""


def build_label_config(objects: int, categories: Sequence[str] = (), rate: int | None = None) -> str:
    """The label config (labelstud.io/tags) of the shots: all frames of a shot in one image with a pager, or in a video.

    Args:
        objects: how many identity numbers there are to choose from, 1 or more.
        categories: names to choose from; without any, a category is typed.
        rate: frames a second of the videos; None for pictures.
    """
    labels = "".join(f'<Label value="{n}" background="{_label_color(n)}"/>' for n in range(1, objects + 1))
    labels = f'<Labels name="object1" toName="{IMAGE}" showInline="true">{labels}</Labels>'
    if categories:
        choices = "".join(f"<Choice value={quoteattr(name)}/>" for name in categories)
        category = (
            f'<Choices name="{CATEGORY}" toName="{IMAGE}" perRegion="true" choice="single-radio" showInline="true">'
            f"{choices}</Choices>"
        )
    else:
        category = (
            f'<TextArea name="{CATEGORY}" toName="{IMAGE}" perRegion="true" rows="1" maxSubmissions="1" '
            'placeholder="Category (once for each number is enough); press Enter"/>'
        )
    if rate is not None:
        return (
            f'<View className="mmvm-shot"><Style>{_STYLE}</Style><Text name="about" value="$about"/>'
            f'<Header value={quoteattr(_VIDEO_HELP)} size="5"/>{labels}'
            f'<Video name="{IMAGE}" value="$video" frameRate="{rate}"/>'
            f'<VideoRectangle name="rectangle1" toName="{IMAGE}"/>{category}</View>'
        )
    # every tool is a smart one too unless it says otherwise; the assistant answers rectangles and clicks
    return (
        f'<View className="mmvm-shot"><Style>{_STYLE}</Style><Text name="about" value="$about"/>'
        f'<Header value={quoteattr(_HELP)} size="5"/>{labels}'
        f'<Image name="{IMAGE}" valueList="$frames" zoom="true" brightnessControl="true" '
        f'maxHeight="{_IMAGE_HEIGHT}"/>'
        f'<Brush name="brush1" toName="{IMAGE}" smart="false"/>'
        f'<Polygon name="polygon1" toName="{IMAGE}" opacity="0.3" strokeWidth="2" pointSize="small" smart="false"/>'
        f'<Rectangle name="rectangle1" toName="{IMAGE}" opacity="0.3" strokeWidth="2" smart="true"/>'
        f'<KeyPoint name="click1" toName="{IMAGE}" strokeWidth="4" smart="true"/>'
        f"{category}</View>"
    )


def _label_color(number: int) -> str:
    red, green, blue = colorsys.hsv_to_rgb(number * _GOLDEN_RATIO % 1, 0.85, 0.9)
    return f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"


def build_task(name: str, shot: Shot, image_url: Callable[[str], str], video: str | None = None) -> dict[str, Any]:
    """A shot as a task.

    Args:
        name: ``<clip>/<shot>``.
        shot: its frames.
        image_url: path relative to the folder -> where the server finds the file.
        video: path of the video that has the frames; None for pictures.
    """
    numbers = [frame.index for frame in shot.frames]
    data: dict[str, Any] = {
        NAME_KEY: name,
        "about": f"{name}: {pluralize(len(numbers), 'picture')} of frames {shot.first} to {shot.last}",
        "frames": [image_url(frame.path) for frame in shot.frames],
        "numbers": numbers,
        "size": [shot.frames[0].width, shot.frames[0].height],
    }
    if video is not None:
        data["video"] = image_url(video)
    data["revision"] = data_revision(data)
    return {"data": data}


def is_same_shot(data: Mapping[str, Any], shot: Shot) -> bool:
    """Whether a task shows the frames of this shot."""
    first = shot.frames[0]
    return data.get("numbers") == [f.index for f in shot.frames] and data.get("size") == [first.width, first.height]


def object_slot(shot: Shot, position: int, label: str) -> ObjectSlot:
    """Where an object is drawn: the page has one image, whose pager turns to the frame at ``position``."""
    frame = shot.frames[position]
    return ObjectSlot(1, label, frame.height, frame.width)


def tracks_to_results(shot: Shot, tracks: Mapping[int, Sequence[Region]], editor: Editor = "polygon") -> list[Result]:
    """Proposed tracks as the results of a prediction.

    Args:
        shot: the shot.
        tracks: position in its frames -> objects there; their ids are the numbers on the page. The score of a
            ``TrackedMask`` stands beside it in the list of shapes.
        editor: how masks are shown.
    """
    results = []
    for position in sorted(tracks):
        for region in tracks[position]:
            for result in region_to_results(region, object_slot(shot, position, region.id), editor):
                placed = result | {"id": f"{position}-{result['id']}", "item_index": position}
                if isinstance(region.mask, TrackedMask):
                    placed["score"] = region.mask.score
                results.append(placed)
    return results

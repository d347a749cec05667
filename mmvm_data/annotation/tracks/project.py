"""What Label Studio is told: the page on which objects are drawn, and a shot as one of its tasks."""

from __future__ import annotations

import colorsys
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from xml.sax.saxutils import quoteattr

from mmvm_data.annotation.labelstudio.shapes import Editor, Place, Result, shown
from mmvm_data.annotation.tracks.layout import Shot
from mmvm_data.core.types import Region

KEY: Final = "shot_id"
IMAGE: Final = "original1"
CATEGORY: Final = "category"
_GOLDEN: Final = 0.618034  # the golden ratio keeps the hues of neighbouring numbers far apart
_HELP: Final = (
    "Choose a number, then a tool, and draw. One thing keeps one number in every picture of the shot; a picture counts "
    "when something is drawn in it, and then everything that has a number and is visible must be drawn."
)


def page(objects: int, categories: Sequence[str] = ()) -> str:
    """The labeling config (labelstud.io/tags) of the shots: all frames of a shot in one image with a pager.

    Args:
        objects: how many identity numbers there are to choose from, 1 or more.
        categories: names to choose from; without any, a category is typed.
    """
    labels = "".join(f'<Label value="{n}" background="{_colour(n)}"/>' for n in range(1, objects + 1))
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
    return (
        '<View className="mmvm-shot"><Text name="about" value="$about"/>'
        f'<Header value={quoteattr(_HELP)} size="5"/>'
        f'<Labels name="object1" toName="{IMAGE}" showInline="true">{labels}</Labels>'
        f'<Image name="{IMAGE}" valueList="$frames" zoom="true" brightnessControl="true"/>'
        f'<Brush name="brush1" toName="{IMAGE}"/>'
        f'<Polygon name="polygon1" toName="{IMAGE}" opacity="0.3" strokeWidth="2" pointSize="small"/>'
        f'<Rectangle name="rectangle1" toName="{IMAGE}" opacity="0.3" strokeWidth="2"/>'
        f'<KeyPoint name="click1" toName="{IMAGE}" strokeWidth="4"/>'
        f"{category}</View>"
    )


def _colour(number: int) -> str:
    red, green, blue = colorsys.hsv_to_rgb(number * _GOLDEN % 1, 0.85, 0.9)
    return f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"


def task_of(name: str, shot: Shot, url: Callable[[str], str]) -> dict[str, Any]:
    """A shot as a task.

    Args:
        name: ``<clip>/<shot>``.
        shot: its frames.
        url: path relative to the folder -> where the server finds it.
    """
    numbers = [frame.index for frame in shot.frames]
    data: dict[str, Any] = {
        KEY: name,
        "about": f"{name}: {len(numbers)} pictures of frames {shot.first} to {shot.last}",
        "frames": [url(frame.path) for frame in shot.frames],
        "numbers": numbers,
        "size": [shot.frames[0].width, shot.frames[0].height],
    }
    data["revision"] = hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]
    return {"data": data}


def same_shot(data: Mapping[str, Any], shot: Shot) -> bool:
    """Whether a task shows the frames of this shot."""
    first = shot.frames[0]
    return data.get("numbers") == [f.index for f in shot.frames] and data.get("size") == [first.width, first.height]


def place_of(shot: Shot, position: int, label: str) -> Place:
    """Where an object is drawn."""
    frame = shot.frames[position]
    return Place(1, label, frame.height, frame.width)


def shown_tracks(shot: Shot, tracks: Mapping[int, Sequence[Region]], editor: Editor = "polygon") -> list[Result]:
    """Proposed tracks as the results of a prediction.

    Args:
        shot: the shot.
        tracks: position in its frames -> objects there; their ids are the numbers on the page.
        editor: how masks are shown.
    """
    found = []
    for position in sorted(tracks):
        for region in tracks[position]:
            for result in shown(region, place_of(shot, position, region.id), editor):
                found.append(result | {"id": f"{position}-{result['id']}", "item_index": position})
    return found

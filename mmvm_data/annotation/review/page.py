"""The page of a case in Label Studio: its label config, the keys that answer it, and the project's instructions.

Keys are named by the tags (``hotkey``, labelstud.io/tags/choice), so that they are the same whatever the number of
candidates; tags without one are given whichever key is left. The editor's own keys are left alone: b, e, h, p, r, u, v.
"""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Final
from xml.sax.saxutils import quoteattr

from mmvm_data.annotation.review.zoom import write_zoom_style
from mmvm_data.cases.prompts import format_choices
from mmvm_data.core.types import MATCH_TYPES, Case
from mmvm_data.formats.tsv import drawn_paths

VERDICTS: Final = {
    "accept": "Accept",
    "fix": "Fix: I changed something",
    "reject": "Reject the case",
    "unsure": "Not sure",
}
CLEAN_KEY: Final = "o"
"""Shows the images without marks, and with them again."""
ZOOM_KEY: Final = "m"
"""Enlarges the query and the candidate that is looked at, and shows the whole images again."""
VERDICT_KEYS: Final = {"accept": "a", "fix": "f", "reject": "x", "unsure": "n"}
MATCH_TYPE_KEYS: Final = {1: "c", 2: "s", 3: "t", 4: "z", 5: "l", 6: "d", 7: "g", 8: "k"}
_DIGIT_MODIFIERS: Final = ("", "ctrl+alt+", "ctrl+shift+alt+", "shift+alt+")
"""What is held with the last digit of an option's number, by its tens."""
_UNTYPED: Final = 0xE000
"""First code point of the private use area: no keyboard has it. A tag with such a key gets no other."""

_STYLE: Final = """
.mmvm { position: relative; display: grid; grid-template-columns: minmax(0, 1fr); column-gap: 12px; }
.mmvm .lsf-choice { line-height: 28px; }
.mmvm-look { position: absolute; top: 0; right: 0; display: block !important; }
.mmvm-look .lsf-choices { display: block; margin: 2px 0; }
.mmvm-ask { grid-column: 1; grid-row: 1; margin-bottom: 4px; }
.mmvm-ask .lsf-object, .mmvm-ask .lsf-richtext, .mmvm-ask .lsf-htx-richtext {
    margin: 0; padding: 0; font-size: 13px; line-height: 1.35;
}
.mmvm-ask .lsf-choice { line-height: 24px; }
.mmvm-ask .lsf-choices, .mmvm-why .lsf-choices { margin: 2px 0; }
.mmvm-why { max-width: 1000px; }
.mmvm-marks { display: contents; }
.mmvm:not(:has(CLEAN)) .mmvm-clean .mmvm-side, .mmvm:has(CLEAN) .mmvm-drawn .mmvm-side {
    visibility: hidden; opacity: 0; pointer-events: none;
}
.mmvm-side { min-width: 0; }
.mmvm-marks .mmvm-side { grid-column: 1; }
.mmvm-side .lsf-object { padding-right: 42px; }
.mmvm-side .lsf-toolbar { margin-right: -42px; }
.mmvm-originals {
    display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); gap: 12px; padding-right: 330px;
}
.mmvm-originals .lsf-label__hotkey, .mmvm-originals .lsf-label__hint { display: none; }
.mmvm .ant-collapse-content-inactive {
    display: block !important; height: 0 !important; overflow: hidden; visibility: hidden;
}
.mmvm:has(.ant-collapse-item-active) .mmvm-why { max-width: min(1000px, 100% - 330px); }
.lsf-sidepanels:has(.mmvm) { padding: 0 !important; }
.lsf-sidepanels:has(.mmvm .ant-collapse-item-active) .lsf-bottombar { padding-right: 320px; }
.lsf-sidepanels:has(.mmvm):not(:has(.mmvm .ant-collapse-item-active)) .lsf-sidepanels__wrapper { display: none; }
ROWS
@media (min-width: 1101px) {
    .mmvm { grid-template-columns: minmax(0, 1fr) minmax(0, 2fr); grid-template-rows: TRACKS; }
    .mmvm-why, .mmvm .ant-collapse { grid-column: 1 / -1; }
    .mmvm-marks .mmvm-side:last-child { grid-column: 2; grid-row: 1 / span SPAN; }
    .mmvm:has(.ant-collapse-item-active) .mmvm-marks .mmvm-side:last-child {
        transform: scale(0.55); transform-origin: top left;
    }
}
@media (min-width: 1700px) {
    .mmvm:has(.ant-collapse-item-active) .mmvm-marks .mmvm-side:last-child { transform: scale(0.7); }
}
.mmvm:has(.ant-collapse-item-active) .mmvm-marks .mmvm-side:last-child .lsf-toolbar { display: none; }
"""
"""The question and the images with the query stand beside the last image, so that all of them are in the window at
1366 x 768; in a narrow window they lie one below the other. Images with and without marks share their places.

Hidden images are laid out as if they were shown: the editor fails again and again on a brush in an image without a
width, and an image whose room changes keeps its zoom, which cuts small ones off. So there is always room for an image's
tools. While the fold is open, the side panels, which list shapes, lie over the page; there the last image is scaled
down, without its tools, whose menu would lose its place. The editor escapes quotes and child combinators in styles."""
_UNSTORED: Final = 'visibleWhen="choice-selected" whenTagName="verdict" whenChoiceValue="never"'
"""Of the switches of the view: the editor leaves what is not visible out of annotations and drafts. The style shows
them all the same, and their keys work."""
_BARS: Final = 190
"""Pixels of the window's height that the editor's bars and an image's title take."""
_ASK: Final = 150
"""Pixels of a question that is as wide as the window, with 25 answers."""
_STACKED_STYLE: Final = """
@media (min-width: 1101px) {
    .mmvm-ask { grid-column: 1 / -1; }
    .mmvm-marks .mmvm-side:last-child { grid-row: 2 / span QUERIES; }
}
.mmvm-marks h4 { margin: 2px 0 !important; }
.mmvm-marks .mmvm-side:not(:last-child) .lsf-toolbar { zoom: 0.6; margin-right: -70px; }
"""
"""Where there are two images or more with the query: the question above all images, to leave them its height."""


def build_label_config(num_images: int = 2, has_boxes: bool = False) -> str:
    """The label config (labelstud.io/tags) of cases with up to ``num_images`` images.

    Args:
        num_images: 2 or more.
        has_boxes: whether there are cases of boxes, which need the rectangle tool.
    """
    queries = num_images - 1
    if queries == 1:
        query_height, last_height = "max(225px, 100vh - 480px)", f"calc(100vh - {_BARS}px)"
    else:
        last_height = f"max(225px, 100vh - {_BARS + _ASK}px)"
        query_height = f"max(110px, (100vh - {_BARS + _ASK + 40 * (queries - 1)}px) / {queries})"
    marked, clean = (
        "".join(
            f'<View className="mmvm-side"><Header value={quoteattr(_image_title(k, num_images))} size="5"/>'
            f'<Image name="{name}{k}" value="${source}{k}" zoom="true" '
            f'maxHeight="{query_height if k < num_images else last_height}"/></View>'
            for k in range(1, num_images + 1)
        )
        for name, source in (("drawn", "drawn"), ("clean", "original"))
    )
    rectangle = (
        '<Rectangle name="rectangle{k}" toName="original{k}" opacity="0.3" strokeWidth="2"/>' if has_boxes else ""
    )
    original = "".join(
        '<View className="mmvm-side">'
        f'<Header value="Image {k}" size="5"/>'
        f'<Labels name="object{k}" toName="original{k}" value="$objects{k}" showInline="true"/>'
        f'<Image name="original{k}" value="$original{k}" zoom="true" brightnessControl="true"/>'
        f'<Polygon name="polygon{k}" toName="original{k}" opacity="0.3" strokeWidth="2" pointSize="small"/>'
        f'<Brush name="brush{k}" toName="original{k}"/>{rectangle.format(k=k)}</View>'
        for k in range(1, num_images + 1)
    )
    types = "".join(
        f'<Choice value={quoteattr(describe_match_type(n))} hotkey="{MATCH_TYPE_KEYS[n]}"/>' for n in MATCH_TYPES
    )
    verdicts = "".join(
        f'<Choice value={quoteattr(text)} alias="{name}" hotkey="{VERDICT_KEYS[name]}"/>'
        for name, text in VERDICTS.items()
    )
    places = [f".mmvm-marks .mmvm-side:nth-child({k}) {{ grid-row: {k + 1}; }}" for k in range(1, num_images + 1)]
    places.append(f".mmvm-why {{ grid-row: {num_images + 2}; }} .mmvm .ant-collapse {{ grid-row: {num_images + 3}; }}")
    tracks = "auto " * (num_images - 1) + "1fr"
    style = _STYLE.replace("ROWS", "\n".join(places)).replace("TRACKS", tracks).replace("SPAN", str(num_images))
    if queries > 1:
        style += _STACKED_STYLE.replace("QUERIES", str(queries))
    is_clean, is_zoomed = (_switch_selector(k) for k in (1, 2))
    style = style.replace("CLEAN", is_clean) + write_zoom_style(num_images, is_zoomed, ".mmvm-answer")
    return (
        f'<View className="mmvm"><Style>{style}</Style>'
        '<View className="mmvm-ask">'
        f'<Choices name="verdict" toName="question" choice="single" showInline="true" required="true" '
        f'requiredMessage="Accept, fix, reject or not sure: choose one">{verdicts}</Choices>'
        '<View visibleWhen="choice-selected" whenTagName="verdict" whenChoiceValue="reject">'
        '<TextArea name="reason" toName="question" rows="1" maxSubmissions="1" placeholder="Why is it rejected?"/>'
        '</View><Text name="question" value="$question"/>'
        '<View className="mmvm-answer">'
        '<Choices name="answer" toName="question" value="$options" choice="single" showInline="true"/></View></View>'
        f'<View className="mmvm-look" {_UNSTORED}>'
        '<Choices name="look" toName="question" choice="multiple" showInline="true">'
        f'<Choice value="Without marks" alias="clean" hotkey="{CLEAN_KEY}"/>'
        f'<Choice value="Zoom to the objects" alias="zoom" hotkey="{ZOOM_KEY}"/></Choices></View>'
        f'<View className="mmvm-marks mmvm-drawn">{marked}</View>'
        f'<View className="mmvm-marks mmvm-clean">{clean}</View>'
        '<View className="mmvm-why"><Header value="What gives it away" size="5"/>'
        f'<Choices name="match_types" toName="question" choice="multiple" showInline="true">{types}</Choices>'
        '<Header value="Why" size="5"/>'
        '<TextArea name="rationale" toName="question" rows="2" editable="true" maxSubmissions="1" '
        'placeholder="What makes it the same object, in a sentence or two"/></View>'
        '<Collapse bordered="false"><Panel value="Masks: mend them on the images without marks">'
        f'<View className="mmvm-originals">{original}</View></Panel></Collapse></View>'
    )


def _switch_selector(number: int) -> str:
    """What matches while a switch of the view is on, or pointed at where nothing can be ticked, as on predictions."""
    switch = f".mmvm-look .lsf-choice:nth-child({number})"
    return f":is({switch} input:checked, {switch}:hover input:disabled)"


def hide_repeated_images(shown: int, num_images: int) -> str:
    """A style for a case of ``shown`` images on a page of ``num_images``, where the last one is shown again."""
    return "".join(
        f".mmvm-marks .mmvm-side:nth-child({k}){{visibility:hidden;opacity:0;pointer-events:none}}"
        for k in range(shown, num_images)
    )


def _image_title(k: int, num_images: int) -> str:
    if k < num_images:
        return f"Image {k}: the object in cyan"
    return f"Image {k}: the candidates" if num_images == 2 else "The last image: the candidates"


def describe_match_type(number: int) -> str:
    """A match type as the page shows it: its abbreviation and its meaning."""
    return " ".join(MATCH_TYPES[number])


def option_key(number: int | None) -> str:
    """The key of an answer: the candidate's digit, 0 for none of the candidates; beyond 9 the last digit with Ctrl+Alt
    (10 to 19), Ctrl+Shift+Alt (20 to 29) or Shift+Alt (30 to 39). Higher numbers have none."""
    if number is None:
        return "0"
    tens, digit = divmod(number, 10)
    return f"{_DIGIT_MODIFIERS[tens]}{digit}" if tens < len(_DIGIT_MODIFIERS) else untyped_key(number)


def untyped_key(number: int) -> str:
    """A key that cannot be pressed, for a tag that must not get a free one; ``number`` tells it from others."""
    return chr(_UNTYPED + number)


def write_instructions(example: Case, image_url: Callable[[str], str] | None) -> str:
    """The instructions of a project, HTML of the tags that Label Studio lets through, with the pictures of a case.

    Args:
        example: a case with an answer, in a case folder.
        image_url: path relative to the benchmark -> where a browser finds the image; None leaves the example out.
    """
    shown = "" if image_url is None else _write_example(example, image_url)
    verdicts = "".join(
        f"<li><code>{key}</code> <b>{escape(VERDICTS[name])}</b>{_VERDICT_HELP[name]}</li>"
        for name, key in VERDICT_KEYS.items()
    )
    types = " ".join(f"<code>{MATCH_TYPE_KEYS[n]}</code> {meaning}," for n, (_, meaning) in MATCH_TYPES.items())
    return (
        "<p>Which numbered object of the last image is the object in cyan? An answer is proposed; you check it.</p>"
        f"{shown}<p>Look at the object, look for it among the candidates, and ask whether a person can tell.</p>"
        f"<ul>{verdicts}</ul>"
        "<p><code>1</code> to <code>9</code> choose a candidate, <code>0</code> none of them; from 10, the last digit "
        "with Ctrl+Alt (20: Ctrl+Shift+Alt, 30: Shift+Alt). "
        f"What gives it away: {types.rstrip(',')}. <code>{CLEAN_KEY}</code> shows the images without marks, "
        f"<code>{ZOOM_KEY}</code> zooms to the object in cyan and to the candidate that is ticked or pointed at.</p>"
        "<p><b>Ctrl+Enter</b> submits and opens the next case.</p>"
    )


def _write_example(example: Case, image_url: Callable[[str], str]) -> str:
    drawn = drawn_paths(example)
    answer = dict(zip([o.number for o in example.options], format_choices(example.options).split("\n"), strict=True))
    pictures = "".join(
        f'<td><b>{escape(title)}</b><br><img src="{escape(image_url(path))}" width="300"></td>'
        for title, path in (("Image 1: the object in cyan", drawn[0]), ("The last image: the candidates", drawn[-1]))
    )
    proposed = escape(answer.get(example.answer, ""))
    return f"<table><tr>{pictures}</tr></table><p>Proposed in this example: <b>{proposed}</b>.</p>"


_VERDICT_HELP: Final = {
    "accept": ": everything is right as it is.",
    "fix": ": the answer, a match type, the text or a mask.",
    "reject": ": it must not be used, such as two numbers on one object. Say why.",
    "unsure": ": you cannot tell. Somebody else will look.",
}

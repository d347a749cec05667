"""Text of a model's reply in one plain form: without its reasoning, markup and typographic variants, in English words.

The strict rule reads this form only, so that its grammar has one spelling for what models write in many.
"""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

_REASONING_TAGS = "think|thinking|thought|thoughts|reasoning|reflection|analysis|scratchpad|seed:think"
_OPENED = rf"(?:<(?:{_REASONING_TAGS})>|◁think▷|<\|begin_of_thought\|>|\[THINK\])"
_CLOSED = rf"(?:</(?:{_REASONING_TAGS})>|◁/think▷|<\|end_of_thought\|>|\[/THINK\])"
_REASONING_MARK = re.compile(rf"(?P<opened>{_OPENED})|{_CLOSED}", re.IGNORECASE)
_CHANNEL = re.compile(r"<\|channel\|>\s*(?P<name>\w+)\s*<\|message\|>")
_CONTROL_TOKEN = re.compile(r"<\|[^|<>]{1,40}\|>|</?s>|<(?:eos|end_of_turn|bos)>")

_LATEX_TEXT = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mathsf|mathit|bf|rm)\s*\{([^{}]*)\}")
_LATEX_BOX = re.compile(r"\\f?box(?:ed)?\s*\{([^{}]*)\}|\\boxed\s+(\w+)")
_LATEX_MARKS = re.compile(r"\\[()\[\]]|\\[,;! ]|\$+")
_ANSWER_TAG = re.compile(
    r"<\s*(?:final_)?answer\s*>(.*?)(?:<\s*/\s*(?:final_)?answer\s*>|$)", re.DOTALL | re.IGNORECASE
)
_HTML_TAG = re.compile(r"</?(?:b|i|em|strong|u|p|br|code|span|div)\s*/?>")
_MARKDOWN = re.compile(r"\*+|__+|`+|~~|^[ \t]*(?:#+[ \t]+|>[ \t]*|[-•]\s+)", re.MULTILINE)
_BOX_TOKENS = re.compile(r"<\|(?:begin|end)_of_box\|>")
_QUOTES = str.maketrans(
    dict.fromkeys('"“”„«»「」『』《》\u2018', " ") | {"\u2019": "'", "【": "(", "】": ")", "、": ",", "。": ". "}
)

_CHINESE: tuple[tuple[str, str], ...] = (
    (r"(?:以上|上述)(?:选项|答案|物体|对象|候选)?(?:都|皆|均|全)?(?:不是|不对|不正确|不符合|非|错误?)"
     r"|(?:都|均)(?:不是|不对|不匹配|不正确|不符合)"
     r"|没有(?:一个)?(?:正确|匹配|符合|合适)的?(?:选项|答案|物体|对象)?"
     r"|无(?:正确|匹配)(?:选项|答案|对象)?|以上皆非", " none of the above "),
    (r"(?:对不起|抱歉|很遗憾|不好意思)[,]?", " I'm sorry, "),
    (r"(?:我)?(?:无法|不能|没法|难以)(?:确定|判断|回答|看到|识别|分辨|提供|确认)", " I cannot determine "),
    (r"(?:就)?(?:是|为)(?:正确|标准|最佳)?的?(?:答案|选项)(?=\s*(?:[.,!]|$))", " is the correct answer "),
    (r"第([一二三四五六七八九十])(?:个|号)(?:选项)", r" the \1 option "),
    (r"(?:最终|最后|正确|标准|最佳|我)?的?(?:答案|回答|答)(?:应该|应当|应|就|选项)?(?:是|为|选)?(?=\s*[^不非]|$)",
     " . the answer is "),
    (r"(?:不是|并非|不选|不应选|排除|而非|而不是|不可能是)", " not "),
    (r"(?:正确|匹配|对应|相同|同一)的?(?:选项|物体|对象|目标|候选|编号|那个)?(?:应该|应当|应)?(?:是|为)",
     " . the answer is "),
    (r"(?:应该|应当|应|所以|因此|故|我|会|将)?(?:选择|选(?![项]))(?:了)?", " . I choose "),
    (r"选项", " option "),
    (r"(?:编号|标号|序号|标记|ID)(?:为|是)?", " object "),
    (r"(?:候选)?(?:物体|对象|目标|候选|实例)", " object "),
    (r"(?<=[0-9])\s*号", " "),
    (r"(?:是|为)?(?:正确|对)的(?:答案)?|正确", " is correct "),
    (r"(?:不匹配|不对应|不符|不符合|不对|错误|不正确)", " is wrong "),
    (r"(?:匹配|对应|相同|同一个?|一致)", " match "),
    (r"(?:或者|或是|还是|或)", " or "),
    (r"(?:因为|由于|理由|原因|解释)", " because "),
    (r"(?:所以|因此|综上所?述?|故|总之|那么)", " . so "),
    (r"(?:和|与|以及|跟)", " and "),
    (r"(?:应该|应当|应|就|可能|大概)?(?:是|为)", " is "),
)  # fmt: skip
_CHINESE_RULES = tuple((re.compile(pattern), text) for pattern, text in _CHINESE)
_HAN = re.compile(r"[\u3400-\u9fff]+")
_HAN_DIGITS = "一二三四五六七八九十"
_HAN_ORDINAL = re.compile(rf"the ([{_HAN_DIGITS}]) option")
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")

_ANSWER_KEYS = frozenset(
    ("answer", "finalanswer", "choice", "option", "letter", "prediction", "selectedoption", "correctanswer", "result",
     "match", "objectid", "id", "答案", "选项")
)  # fmt: skip


def remove_reasoning(text: str) -> str:
    """Return a reply without its blocks of reasoning.

    A block that is closed but was opened in the prompt, and one that was cut off before its end, are removed as well:
    an unfinished thought is no answer.
    """
    channels = list(_CHANNEL.finditer(text))
    if channels:
        text = text[channels[-1].end() :] if channels[-1]["name"] == "final" else text[: channels[0].start()]
    kept: list[str] = []
    position, depth = 0, 0
    for mark in _REASONING_MARK.finditer(text):
        if mark["opened"]:
            if depth == 0:
                kept.append(text[position : mark.start()])
            depth += 1
        elif depth <= 1:
            if depth == 0:  # opened in the prompt: all before was thought
                kept = []
            depth, position = 0, mark.end()
        else:
            depth -= 1
    if depth == 0:
        kept.append(text[position:])
    return "\n".join(kept)


def to_plain(text: str) -> str:
    """Return text without markup, in ASCII marks, with Chinese statements in English words.

    The content of a box or an answer tag becomes the statement "final answer: …" in a sentence of its own.
    """
    text = unicodedata.normalize("NFKC", text).replace("◁", "<").replace("▷", ">")
    text = _BOX_TOKENS.sub(lambda match: " \\boxed{" if "begin" in match[0] else "} ", text)
    text = _CONTROL_TOKEN.sub(" ", text)
    for _ in range(3):
        text = _LATEX_TEXT.sub(r"\1", text)
    text = _LATEX_BOX.sub(lambda match: f"\n final answer: {match[1] or match[2]} .\n", text)
    text = _ANSWER_TAG.sub(lambda match: f"\n final answer: {match[1].strip()} .\n", text)
    text = _MARKDOWN.sub("", _HTML_TAG.sub("", _LATEX_MARKS.sub(" ", text))).translate(_QUOTES)
    if _HAN.search(text):
        text = _to_english(text)
    return text.strip()


def find_json_values(text: str) -> list[str] | None:
    """Return the values of "answer" and similar keys of a JSON object in a reply, as text; None without such an
    object."""
    found: list[str] | None = None
    for match in re.finditer(r"\{[^{}]*\}", text):
        try:
            value: Any = json.loads(match[0])
        except (ValueError, RecursionError):
            continue
        if not isinstance(value, dict):
            continue
        answers = [
            str(answer)
            for key, answer in value.items()
            if re.sub(r"[\s_-]", "", key.casefold()) in _ANSWER_KEYS and isinstance(answer, (str, int))
        ]
        if answers:
            found = [*(found or []), *answers]
    return found


def _to_english(text: str) -> str:
    for pattern, english in _CHINESE_RULES:
        text = pattern.sub(english, text)
    text = _HAN_ORDINAL.sub(lambda match: f"the {ORDINALS[_HAN_DIGITS.index(match[1])]} option", text)
    # a sentence in words that the lexicon does not hold: keep a mark, so that what stands around does not join
    return _HAN.sub(" … ", text)

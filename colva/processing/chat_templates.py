"""Chat templates: how each model family writes a conversation, and which part of it the assistant wrote.

The texts are those of the published models: InternVL's `conversation.py` (InternVL2 with Phi-3 `phi3-chat`, with
InternLM2 `internlm2-chat`, with Qwen2 or Hermes-2 `Hermes-2`; InternVL2.5, 3 and 3.5 `internvl2_5`), the chat
templates of Qwen2-VL, Qwen2.5-VL, Qwen3-VL and SmolLM2, and Vicuna's as LLaVA-1.5 uses it (`llava-v1`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

Role = Literal["system", "user", "assistant"]


class Turn(NamedTuple):
    """The text of one role; `<image>` stands for an image and `<VPT_CONTEXT>` for an object."""

    role: Role
    text: str


@dataclass(frozen=True)
class ChatTemplate:
    """The text around each turn.

    Attributes:
        system: default system text; "" for none.
        system_marks, user_marks, assistant_marks: text before and after a turn.
        lead: text before the assistant's own (Vicuna's space); a training target, and never part of a prompt.
        after_assistant: text after the assistant's end mark; not a training target.
    """

    system: str
    system_marks: tuple[str, str]
    user_marks: tuple[str, str]
    assistant_marks: tuple[str, str]
    lead: str = ""
    after_assistant: str = ""

    @property
    def end(self) -> str:
        """The token with which the assistant ends its turn."""
        return self.assistant_marks[1]

    def render(self, turns: tuple[Turn, ...] | list[Turn], prompt: bool = False) -> tuple[str, list[tuple[int, int]]]:
        """Return a conversation as text, and the (start, end) of each assistant turn in it with its end mark.

        Args:
            turns: an optional system turn (an empty one omits the default); then user and assistant alternate.
            prompt: end with the start of an assistant turn, for generation; the last turn must be the user's.

        Raises:
            ValueError: turns in another order, or of an unknown role.
        """
        turns = list(turns)
        system = turns.pop(0).text if turns and turns[0].role == "system" else self.system
        parts = [self.system_marks[0], system, self.system_marks[1]] if system else []
        length = sum(map(len, parts))
        spans: list[tuple[int, int]] = []

        def add(text: str) -> None:
            nonlocal length
            parts.append(text)
            length += len(text)

        for number, turn in enumerate(turns):
            expected = "assistant" if number % 2 else "user"
            if turn.role != expected:
                raise ValueError(f"turn {number}: {turn.role!r}, expected {expected!r}")
            if turn.role == "user":
                add(self.user_marks[0] + turn.text + self.user_marks[1])
                continue
            add(self.assistant_marks[0])
            start = length
            add(self.lead + turn.text + self.assistant_marks[1])
            spans.append((start, length))
            add(self.after_assistant)
        if prompt:
            if not turns or turns[-1].role != "user":
                raise ValueError("a prompt must end with a user turn")
            add(self.assistant_marks[0])
        return "".join(parts), spans


def _chatml(system: str, between: str) -> ChatTemplate:
    return ChatTemplate(
        system,
        ("<|im_start|>system\n", "<|im_end|>" + between),
        ("<|im_start|>user\n", "<|im_end|>" + between),
        ("<|im_start|>assistant\n", "<|im_end|>"),
        after_assistant=between,
    )


_INTERNVL2 = (
    "你是由上海人工智能实验室联合商汤科技开发的书生多模态大模型，英文名叫InternVL, 是一个有用无害的人工智能助手。"
)
_INTERNVL25 = (
    "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。"
)

TEMPLATES: dict[str, ChatTemplate] = {
    "phi3-chat": ChatTemplate(
        _INTERNVL2, ("<|system|>\n", "<|end|>"), ("<|user|>\n", "<|end|>"), ("<|assistant|>\n", "<|end|>")
    ),
    "internlm2-chat": _chatml(_INTERNVL2, ""),
    "Hermes-2": _chatml(_INTERNVL2, ""),
    "internvl2_5": _chatml(_INTERNVL25, "\n"),
    "qwen2-vl": _chatml("You are a helpful assistant.", "\n"),
    "qwen3-vl": _chatml("", "\n"),
    "smollm2": _chatml("You are a helpful AI assistant named SmolLM, trained by Hugging Face", "\n"),
    "llava-v1": ChatTemplate(
        "A chat between a curious user and an artificial intelligence assistant. "
        "The assistant gives helpful, detailed, and polite answers to the user's questions.",
        ("", " "),
        ("USER: ", " "),
        ("ASSISTANT:", "</s>"),
        lead=" ",
    ),
}


def get_template(name: str) -> ChatTemplate:
    """Return a template by name; ValueError lists the known names."""
    if name not in TEMPLATES:
        raise ValueError(f"chat template {name!r} is not one of {', '.join(TEMPLATES)}")
    return TEMPLATES[name]

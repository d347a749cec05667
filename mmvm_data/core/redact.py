"""Secrets are taken out of text before it is cut, stored or shown."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

MASK: Final = "***"
MIN_UNIQUE_LENGTH: Final = 8
"""Secrets of fewer characters are masked only where they are no part of a word."""

_USER_INFO = re.compile(r"(://)[^/\s:@]*:(?!:|\d+[/?#])[^\s@]*@(?:[^/\s@]*@)*|(https?://)[^/\s?#@]+@", re.IGNORECASE)
"""``user:password@``, where the password may hold a slash; before a web address also a name alone, which is a token."""
_PARAMETER = re.compile(
    r"([?&][\w.-]*(?:sig|token|key|passw|pwd|secret|credential|auth(?!or)|jwt)[\w.-]*=)[^&#\s]+", re.IGNORECASE
)
_SECRET_FIELD = re.compile(
    r"token|(?:.*[_-])?(?:api[_-]?key|(?:access|auth|bearer|refresh)[_-]?token|password|passwd|secret|authorization)",
    re.IGNORECASE,
)


def redact(text: str, *secrets: str) -> str:
    """Return text without secrets, and without the secrets in URLs.

    Each secret is also found as it stands in JSON and in a URL. Redact all of a text before a part of it is taken:
    otherwise the beginning of a secret may remain at the end of the part.

    Args:
        text: of any length.
        secrets: keys, tokens, passwords; "" is none.
    """
    forms = {form for secret in secrets if secret for form in (secret, json.dumps(secret)[1:-1], quote(secret, ""))}
    for form in sorted(forms, key=len, reverse=True):
        if len(form) < MIN_UNIQUE_LENGTH:
            text = re.sub(rf"(?<!\w){re.escape(form)}(?!\w)", MASK, text)
        else:
            text = text.replace(form, MASK)
    return redact_urls(text)


def redact_urls(text: str) -> str:
    """Return text whose URLs have no ``user:password@`` and no values of parameters such as ``token``."""
    if "://" not in text:
        return text
    text = _USER_INFO.sub(lambda match: f"{match[1] or match[2]}{MASK}@", text)
    return _PARAMETER.sub(rf"\1{MASK}", text)


def redact_fields(value: Any) -> Any:
    """Return a JSON value without secrets in its URLs, and with the values of fields such as ``api_key`` masked."""
    if isinstance(value, str):
        return redact_urls(value)
    if isinstance(value, Mapping):
        return {
            name: MASK if isinstance(entry, str) and _SECRET_FIELD.fullmatch(str(name)) else redact_fields(entry)
            for name, entry in value.items()
        }
    return [redact_fields(entry) for entry in value] if isinstance(value, (list, tuple)) else value

"""Secrets are taken out of text before it is cut, stored or shown."""

from __future__ import annotations

import json
import re
from typing import Final
from urllib.parse import quote

MASK: Final = "***"
MIN_UNIQUE_LENGTH: Final = 8
"""Secrets of fewer characters are masked only where they are no part of a word."""

_USER_INFO = re.compile(r"(://)[^/\s:@]*:[^/\s]*@")
_PARAMETER = re.compile(
    r"([?&][\w.-]*(?:sig|signature|token|key|password|secret|credential)[\w.-]*=)[^&#\s]+", re.IGNORECASE
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
    return _PARAMETER.sub(rf"\1{MASK}", _USER_INFO.sub(rf"\1{MASK}@", text))

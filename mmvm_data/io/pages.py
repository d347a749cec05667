"""HTML pages from jinja2 templates: shared ones lie in ``mmvm_data/io/templates``, those of a package beside it.

Every value is escaped, an unknown variable is an error, and JSON in a page cannot end its ``<script>`` element.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

from jinja2 import BaseLoader, ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

_SHARED = "mmvm_data.io"


def render(template: str, **values: Any) -> str:
    """Return a page, or a part of one, as text.

    Args:
        template: ``package/name``, such as ``mmvm_data.viz/report.html``: the name is looked up in the package's
            folder ``templates``, then among the shared templates. Names in ``extends``, ``import`` and ``raw_file``
            are looked up in the same order. A name alone is a shared template.
        values: variables of the template.

    Raises:
        jinja2.TemplateNotFound: no such template.
        jinja2.UndefinedError: the template uses a variable that is not among ``values``.
    """
    package, name = _split_name(template)
    return page_environment(package).get_template(name).render(values)


def stream(template: str, **values: Any) -> Iterator[str]:
    """Yield a page piece by piece, see ``render``. Iterators among ``values`` are consumed as the page needs them, so a
    page may be larger than memory."""
    package, name = _split_name(template)
    return page_environment(package).get_template(name).generate(values)


def script_json(value: Any) -> Markup:
    """Return JSON that is safe inside a ``<script>`` element: ASCII (so U+2028 is escaped), without a "<" that could
    end the element or open a comment.

    Raises:
        ValueError: a number is NaN or infinite.
    """
    return Markup(json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"))


@cache
def page_environment(package: str = "") -> Environment:
    """Return the jinja2 environment of a package's templates and the shared ones.

    Beside jinja2's own there are the filter ``script_json`` and the function ``raw_file(name)``, which inserts a style
    sheet or a script as it lies on disk.

    Args:
        package: dotted name; "" for the shared templates alone.
    """
    loaders: list[BaseLoader] = [PackageLoader(name) for name in (package, _SHARED) if name]
    environment = Environment(
        loader=ChoiceLoader(loaders),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )

    def raw_file(name: str) -> Markup:
        loader = environment.loader
        assert loader is not None
        return Markup(loader.get_source(environment, name)[0])

    environment.globals["raw_file"] = raw_file
    environment.filters["script_json"] = script_json
    return environment


def _split_name(template: str) -> tuple[str, str]:
    package, _, name = template.rpartition("/")
    return package, name

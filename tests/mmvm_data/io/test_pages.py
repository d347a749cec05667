"""Templates: values are escaped, unknown variables are errors, JSON cannot end its script element."""

from __future__ import annotations

import json

import jinja2
import pytest

from mmvm_data.io.pages import page_environment, render, script_json, stream

HOSTILE = "</script><script>alert(1)</script><!-- & \u2028 \ud800"


def test_script_json_is_json_without_anything_that_ends_a_script() -> None:
    text = script_json({"a": [HOSTILE, 1.5, None]})
    assert "<" not in text
    assert text.isascii()
    assert json.loads(text) == {"a": [HOSTILE, 1.5, None]}
    with pytest.raises(ValueError):
        script_json(float("nan"))


def test_values_are_escaped_and_unknown_ones_are_errors() -> None:
    page = render("base.html", title='<b> & "x"')
    assert "<title>&lt;b&gt; &amp; &#34;x&#34;</title>" in page
    with pytest.raises(jinja2.UndefinedError):
        render("base.html")
    with pytest.raises(jinja2.TemplateNotFound):
        render("nothing.html")


def test_a_package_has_its_own_templates_and_the_shared_ones() -> None:
    environment = page_environment("mmvm_data.viz")
    assert {"report.html", "base.html", "page.css"} <= set(environment.list_templates())
    assert "report.html" not in page_environment().list_templates()


def test_a_stream_is_the_page_in_pieces() -> None:
    assert "".join(stream("base.html", title="x")) == render("base.html", title="x")

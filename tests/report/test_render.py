"""Templates: values are escaped, and a forgotten one is an error."""

import jinja2
import pytest

from retina_plugin.report.render import render

VALUES = {"title": "a < b & c", "subtitle": "", "file": "x.json", "where": "", "data": {"name": "</script>"}}


def test_values_are_escaped_in_text_and_in_data():
    text = render("review.html", **VALUES)
    assert "<title>a &lt; b &amp; c</title>" in text and text.count("</script>") == 2
    assert "max-width: 1100px" in text, "the style of all pages"


def test_a_missing_value_is_an_error():
    with pytest.raises(jinja2.UndefinedError):
        render("review.html", title="x")

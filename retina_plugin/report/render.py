"""Pages with scripts, made from the templates in the folder ``templates``."""

from importlib import resources
from typing import Any

import jinja2

from retina_plugin.report.style import STYLE


def render(template: str, **values: Any) -> str:
    """Return a template with its values, which are escaped; ``style`` is that of all pages."""
    text = (resources.files(__package__) / "templates" / template).read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(text).render(style=STYLE, **values)

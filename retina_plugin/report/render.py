"""The style of all pages, and pages with scripts, made from the templates in the folder ``templates``."""

from importlib import resources
from typing import Any

import jinja2

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1100px; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem; margin-bottom: .2rem }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; border-bottom: 1px solid #ddd }
p { margin: .4rem 0; max-width: 75ch } .note { color: #666 }
table { border-collapse: collapse; margin: .5rem 0 }
th, td { padding: .2rem .7rem; text-align: right; border-bottom: 1px solid #eee }
th { background: #f5f5f5 } th:first-child, td:first-child { text-align: left }
h1, h2, p, td:first-child { overflow-wrap: anywhere } th, td { max-width: 28rem; unicode-bidi: isolate }
.table { overflow-x: auto } td:first-child { min-width: 6rem }
@media (max-width: 600px) { body { margin: 1rem auto; padding: 0 .6rem } th, td { padding: .2rem .4rem } }
img { max-width: 100%; height: auto } pre { background: #f5f5f5; padding: .6rem; overflow-x: auto }
figure { display: inline-block; margin: .3rem .6rem .3rem 0; vertical-align: top; max-width: 100% }
figcaption { color: #666; font-size: .85rem; width: 0; min-width: max(100%, 11rem); overflow-wrap: anywhere }
.legend span { display: inline-block; margin-right: 1rem }
.legend i { display: inline-block; width: .8rem; height: .8rem; margin-right: .35rem; vertical-align: -.1rem;
  border: 1px solid #666 }
"""


def render(template: str, **values: Any) -> str:
    """Return a template with its values, which are escaped; ``style`` is that of all pages."""
    text = (resources.files(__package__) / "templates" / template).read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(text).render(style=STYLE, **values)

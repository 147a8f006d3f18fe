"""Links of the pages that lead out of docs/: on the site they go to the repository, on disk they stay relative."""

import re

REPOSITORY = "https://github.com/retina-plugin/retina_plugin/blob/main/"
LINK = re.compile(r"(\]\()\.\./([^)\s]+)(\))")


def on_page_markdown(markdown: str, **_: object) -> str:
    """Replace ``](../configs/...)`` by the address of the file in the repository."""
    return LINK.sub(lambda match: f"{match[1]}{REPOSITORY}{match[2]}{match[3]}", markdown)

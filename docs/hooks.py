"""Links of the pages that lead out of docs/: on disk they are relative, on the site they need an address."""

import re
from typing import Any

LINK = re.compile(r"\[([^\]]+)\]\(\.\./([^)\s]+)\)")


def on_page_markdown(markdown: str, *, config: Any, **_: object) -> str:
    """Point ``[text](../configs/...)`` at the repository, if mkdocs.yml has a ``repo_url``; else keep the text only."""
    if config.repo_url:
        return LINK.sub(lambda match: f"[{match[1]}]({config.repo_url.rstrip('/')}/blob/main/{match[2]})", markdown)
    return LINK.sub(lambda match: match[1], markdown)

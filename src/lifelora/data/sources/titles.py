"""Titles of films, as catalogues write them and as one says them. Knows no file."""

import re

ARTICLE = re.compile(r"^(.*), (The|A|An|Il|L'|La|Le|Les|Der|Die|Das|El|Los|Las)$")


def spoken(title: str) -> str:
    """``Usual Suspects, The (1995)`` as LLaRA writes it: ``The Usual Suspects``."""
    bare = re.sub(r"\s*\(\d{4}\)\s*$", "", title).strip()
    article = ARTICLE.match(bare)
    if article is None:
        return bare
    space = "" if article[2].endswith("'") else " "
    return f"{article[2]}{space}{article[1]}"

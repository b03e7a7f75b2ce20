"""The documentation as tests read it: the README, and the pages beside it."""

from __future__ import annotations

import re
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
README = CHECKOUT / "README.md"
PAGES = {path: path.read_text(encoding="utf-8") for path in (README, *sorted(CHECKOUT.glob("docs/*.md")))}


def section(title: str) -> str:
    """What stands under the one heading that begins so, on whichever page, its subsections included."""
    headed = rf"^(#+) {re.escape(title)}[^\n]*\n(.*?)(?=^(?!\1#)#+ |\Z)"
    (found,) = [text for page in PAGES.values() for _, text in re.findall(headed, page, re.M | re.S)]
    return found


def links(page: Path) -> list[tuple[Path, str]]:
    """The file and the anchor to which each link and picture of a page leads within the repository."""
    text = re.sub(r"^```.*?^```", "", PAGES[page], flags=re.M | re.S)
    targets = [target.partition("#") for target in re.findall(r"\]\(([^()\s]+)\)", text) if ":" not in target]
    return [((page.parent / (path or page.name)).resolve(), anchor) for path, _, anchor in targets]


def anchors(page: Path) -> set[str]:
    """What links may name of a page: its headings, as GitHub writes them."""
    titles = re.findall(r"^#+ (.*)$", PAGES[page], re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}

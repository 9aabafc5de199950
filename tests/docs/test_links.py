"""What the pages link to and show is there."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


LINK = re.compile(r"""\]\(\s*<?([^)\s>]+)|(?:src|href)="([^"]+)"|^\[[^\]]+\]:\s*(\S+)""", re.MULTILINE)


def links(page: Path) -> list[str]:
    """Targets of links and images, of Markdown's and of HTML's, outside code."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(), flags=re.DOTALL)
    return ["".join(found) for found in LINK.findall(text)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    files = {
        target.partition("#")[0] for target in links(page) if not re.match(r"[a-z][a-z+.-]*:", target, re.IGNORECASE)
    }
    missing = [file for file in sorted(files) if file and not (page.parent / unquote(file)).exists()]
    assert missing == []

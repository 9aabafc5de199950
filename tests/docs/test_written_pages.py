"""Pages that are written from the code are as the code is now."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.write_pages import ROOT, pages


@pytest.fixture(scope="module")
def written() -> Iterator[dict[Path, str]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OCCFRAME_LOAD_PLUGINS", "occframe")
        yield pages()


@pytest.mark.parametrize(
    "page", ["docs/cli.md", "docs/conformance.md", "docs/hooks.md", "registry/occframe_registry/plugins.toml"]
)
def test_the_page_is_as_the_code(written: dict[Path, str], page: str) -> None:
    same = (ROOT / page).read_text(encoding="utf-8") == written[ROOT / page]
    assert same, f"{page} is not what the code says: run python -m tests.docs.write_pages and commit it"

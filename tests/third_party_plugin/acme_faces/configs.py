from __future__ import annotations

from pydantic import Field

from occframe import Config


class MatcherConfig(Config):
    log: str | None = Field(None, description="file to which every search adds a line")

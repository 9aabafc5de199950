"""Options, as a pipeline's YAML gives them. Imports nothing heavy: validating a pipeline loads this module."""

from pydantic import Field

from occframe import {{Base}}


class {{Class}}Config({{Base}}):
{{options}}

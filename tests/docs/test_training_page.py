"""docs/training.md: its pipeline is valid, and the options and parts it names are those there are."""

from __future__ import annotations

import re
from pathlib import Path

from occframe.config import load_pipeline
from occframe.plugins import PluginRegistry
from occframe.steps.train import TrainConfig
from occframe.training.profiling import PARTS
from occframe.yamlfile import parse_yaml

PAGE = (Path(__file__).parents[2] / "docs" / "training.md").read_text()


def test_the_pipeline_on_the_page_is_valid_and_names_what_the_page_explains() -> None:
    (written,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.S)
    pipeline = load_pipeline(parse_yaml(written, "docs/training.md"), PluginRegistry.discover())
    config: TrainConfig = pipeline.steps["train"].config
    assert (config.augment_on, config.images_per_identity, config.compile) == ("device", 4, True)


def test_the_table_of_a_profile_names_all_parts() -> None:
    table = re.findall(r"^    (\w+) +[\d.]+ +[\d.]+%$", PAGE, re.M)
    assert table == [*PARTS, "other", "step"]

"""A component under test: its example configurations, and how it is built from one."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from occframe.component import BuildContext
from occframe.testing.check import Inapplicable
from occframe.testing.examples import examples_of
from occframe.types import ImageSpec

if TYPE_CHECKING:
    from pydantic import BaseModel

    from occframe.plugins import Component, PluginRegistry
    from occframe.testing.fresh import Loaded

#: What the suite tells a component that it builds, where its own images and embeddings are as small.
IDENTITIES = 5
EMBEDDING_DIM = 8
IMAGE_SPEC = ImageSpec(height=32, width=32)


@dataclass
class Subject:
    """One component with one of its example configurations.

    written: the example, as YAML would give it. scratch: a folder of this component's own.
    load: tells how its plugin and its configuration load in a process of their own.
    """

    component: Component
    registry: PluginRegistry
    written: Mapping[str, Any]
    scratch: Path
    load: Callable[[], Loaded]

    @cached_property
    def model(self) -> type[BaseModel]:
        return self.component.load_config()

    @cached_property
    def config(self) -> BaseModel | None:
        """The example, validated; None for a command."""
        if self.component.config is None:
            return None
        try:
            return self.validate(self.written)
        except ValidationError as error:
            raise Inapplicable("its example is not valid: see the check config_takes_its_example") from error

    def validate(self, written: Mapping[str, Any]) -> BaseModel:
        return self.model.model_validate(dict(written), context={"registry": self.registry})

    def context(self, **known: Any) -> BuildContext:
        given: dict[str, Any] = {
            "num_identities": IDENTITIES,
            "embedding_dim": EMBEDDING_DIM,
            "image_spec": IMAGE_SPEC,
        } | known
        return BuildContext(self.registry, **given)

    def build(self, config: BaseModel | None = None, **known: Any) -> Any:
        """A new instance. known: fields of the ``BuildContext``, such as ``seed=1`` or ``device="cuda"``."""
        return self.component.load_factory()(config or self.config, self.context(**known))

    @cached_property
    def built(self) -> Any:
        """One instance for checks that leave it as it is; networks in evaluation mode."""
        instance = self.build()
        return instance.eval() if self.component.kind in ("backbone", "loss", "generator") else instance

    @cached_property
    def spare(self) -> Any:
        """One instance as the factory gave it, for checks that train it without changing a weight."""
        return self.build()

    def folder(self) -> Path:
        """A new empty folder."""
        return Path(tempfile.mkdtemp(dir=self.scratch))


def subjects(
    component: Component, registry: PluginRegistry, scratch: Path, load: Callable[[], Loaded]
) -> list[Subject]:
    """The component with each of its examples. Raises Inapplicable where it says that there can be none here."""
    subject = Subject(component, registry, {}, scratch, load)
    if component.config is None:
        return [subject]
    return [replace(subject, written=example) for example in examples_of(component, registry, scratch)]

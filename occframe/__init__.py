"""occframe: a plugin-based framework for face recognition that survives occlusion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from occframe.hookspecs import API_VERSION, hookimpl
from occframe.lazy_names import lazy_names

if TYPE_CHECKING:
    from occframe.component import (
        AlignerBlock,
        BackboneBlock,
        BuildContext,
        Config,
        DataRef,
        DatasetBlock,
        DetectorBlock,
        EmbeddingsRef,
        EvaluationRef,
        FileRef,
        GeneratorBlock,
        GeneratorRef,
        HitsRef,
        IndexRef,
        LossBlock,
        MatcherBlock,
        ModelRef,
        OcclusionBlock,
        ProtocolBlock,
    )
    from occframe.errors import ConfigError, Interrupted, OccframeError, PluginError
    from occframe.plugins import Register
    from occframe.step import Artefact, StepConfig, StepContext, StepOutcome
    from occframe.types import (
        AlignedFace,
        Backbone,
        BackboneOutput,
        Curve,
        DetectedFace,
        EmbeddingTable,
        FaceBatch,
        FeatureInfo,
        GeneratorOutput,
        Group,
        Histogram,
        Hits,
        ImageSpec,
        Interval,
        Mistake,
        Occluded,
        ProtocolResult,
        Trials,
    )

__version__ = "0.1.0"

_HOMES = {
    "occframe.component": (
        "AlignerBlock BackboneBlock BuildContext Config DataRef DatasetBlock DetectorBlock EmbeddingsRef EvaluationRef "
        "FileRef "
        "GeneratorBlock GeneratorRef HitsRef IndexRef LossBlock MatcherBlock ModelRef OcclusionBlock ProtocolBlock"
    ),
    "occframe.errors": "ConfigError Interrupted OccframeError PluginError",
    "occframe.plugins": "Register",
    "occframe.step": "Artefact StepConfig StepContext StepOutcome",
    "occframe.types": (
        "AlignedFace Backbone BackboneOutput Curve DetectedFace EmbeddingTable FaceBatch FeatureInfo "
        "GeneratorOutput Group Histogram Hits ImageSpec Interval Mistake Occluded ProtocolResult Trials"
    ),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names.split()}

# Written out, not computed from _HOMES: type checkers read it.
__all__ = [
    "API_VERSION",
    "AlignedFace",
    "AlignerBlock",
    "Artefact",
    "Backbone",
    "BackboneBlock",
    "BackboneOutput",
    "BuildContext",
    "Config",
    "ConfigError",
    "Curve",
    "DataRef",
    "DatasetBlock",
    "DetectedFace",
    "DetectorBlock",
    "EmbeddingTable",
    "EmbeddingsRef",
    "EvaluationRef",
    "FaceBatch",
    "FeatureInfo",
    "FileRef",
    "GeneratorBlock",
    "GeneratorOutput",
    "GeneratorRef",
    "Group",
    "Histogram",
    "Hits",
    "HitsRef",
    "ImageSpec",
    "IndexRef",
    "Interrupted",
    "Interval",
    "LossBlock",
    "MatcherBlock",
    "Mistake",
    "ModelRef",
    "OccframeError",
    "Occluded",
    "OcclusionBlock",
    "PluginError",
    "ProtocolBlock",
    "ProtocolResult",
    "Register",
    "StepConfig",
    "StepContext",
    "StepOutcome",
    "Trials",
    "__version__",
    "hookimpl",
]


# A plugin that only registers does not pay for pydantic.
__getattr__ = lazy_names(__name__, _HOME_OF)

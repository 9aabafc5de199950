"""A good pipeline step, and one for each promise that breaks it."""

from __future__ import annotations

from pydantic import Field

from occframe import Config, DataRef, StepConfig, StepOutcome, hookimpl


class GoodConfig(StepConfig):
    produces = "count"
    data: DataRef = Field(description="what is counted")


class PlainConfig(Config):
    data: DataRef = Field(description="what is counted")


class OddOutputs(GoodConfig):
    def outputs(self):
        return {"the count": "count"}


class TextInput(StepConfig):
    data: str = Field("faces", description="what is counted")


class Good:
    def run(self, context):
        return StepOutcome(outputs={"": {"count": len(context.dataset(context.config.data).ids)}})


class RunsWithNothing:
    def run(self):
        return StepOutcome()


def good(config, context):
    return Good()


@hookimpl
def occframe_register_steps(register):
    register("good", good, config=GoodConfig, summary="counts")
    register("config_is_a_step_config", good, config=PlainConfig, summary="declares nothing")
    register("outputs_are_declared", good, config=OddOutputs, summary="an output nobody can name")
    register("inputs_are_references", good, config=TextInput, summary="names its data by a text")
    register(
        "runs_with_a_context", lambda config, context: RunsWithNothing(), config=GoodConfig, summary="takes no context"
    )

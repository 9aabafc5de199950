"""A good tracker, and one for each promise that breaks it."""

from __future__ import annotations

from pathlib import Path

from occframe import Config, hookimpl


class NoOptions(Config):
    """Has none."""


class Good:
    """Appends lines to a file in the run directory."""

    def __init__(self, config, context):
        self.lines = []

    def begin(self, run):
        self.file = Path(run.url) / "figures.txt"

    def figures(self, source, figures, step):
        self.lines += [f"{source} {name} {value} {step}" for name, value in figures.items()]

    def finish(self, status):
        with open(self.file, "a") as file:
            file.write("\n".join([*self.lines, status]))


class FollowsARun(Good):
    def figures(self, source, figures, step):
        super().figures(source, figures, int(step))


class ASecondRunGoesOn(Good):
    def begin(self, run):
        super().begin(run)
        self.file.touch(exist_ok=False)


class AnEmptyRunIsARun(Good):
    def finish(self, status):
        self.lines[-1] += "."
        super().finish(status)


class IsSilent(Good):
    def figures(self, source, figures, step):
        super().figures(source, figures, step)
        print(figures)


class FiguresAreLeftAlone(Good):
    def figures(self, source, figures, step):
        super().figures(source, figures, step)
        figures.clear()


BROKEN = {
    "follows_a_run": FollowsARun,
    "a_second_run_goes_on": ASecondRunGoesOn,
    "an_empty_run_is_a_run": AnEmptyRunIsARun,
    "is_silent": IsSilent,
    "figures_are_left_alone": FiguresAreLeftAlone,
}


@hookimpl
def occframe_register_trackers(register):
    for name, made in {"good": Good, **BROKEN}.items():
        register(name, made, config=NoOptions, summary="a text file")

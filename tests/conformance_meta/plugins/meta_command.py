"""A good command, and one for each promise that breaks it."""

from __future__ import annotations

import click

from occframe import hookimpl


@click.command()
def good() -> None:
    """Say hello."""
    click.echo("hello")


@click.command()
def mute() -> None:
    click.echo("hello")


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("words", nargs=-1)
def lax(words: tuple[str, ...]) -> None:
    """Say hello, whatever it is told."""


@hookimpl
def occframe_register_commands(register):
    register("good", "meta_command:good", config=None, summary="says hello")
    register("is_a_click_command", good, config=None, summary="imported to be listed")
    register("helps", "meta_command:mute", config=None, summary="says nothing of itself")
    register("bad_usage_exits_with_2", "meta_command:lax", config=None, summary="takes anything")
    register("its_name_is_a_verb", "meta_command:good", config=None, summary="has an underscore")

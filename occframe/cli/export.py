from __future__ import annotations

import json
from dataclasses import asdict

import click

from occframe.cli.common import json_option


@click.command()
@click.argument("model")
@click.argument("target")
@click.option("--opset", default=18, show_default=True, type=click.IntRange(17, 25), help="Of ONNX.")
@json_option
def export(model: str, target: str, opset: int, as_json: bool) -> None:
    """Write MODEL (a folder with model.json: a step of a run) to TARGET, by its suffix .onnx or .safetensors.

    MODEL is a recogniser or a generator (glasses removal). An ONNX file takes any batch size, is compared with torch
    before it is written (1e-4 at most), and says in its metadata what it wants to be fed. Outputs: `embedding`, not
    normalised, and with FROM `mask`; of a generator `result`, and `alpha` where it blends.
    `backbone: {use: onnx, path: TARGET}` reads a recogniser again, a step `pretrained` a safetensors file.
    """
    if not target.endswith((".onnx", ".safetensors")):
        raise click.BadParameter("ends in .onnx or .safetensors", param_hint="TARGET")

    from occframe.exporting import export_onnx, export_safetensors
    from occframe.standalone import standalone_context

    if target.endswith(".onnx"):
        click.echo("exporting and comparing with torch; this takes half a minute …", err=True)
        result = export_onnx(model, target, standalone_context(), opset=opset)
    else:
        result = export_safetensors(model, target)
    if as_json:
        click.echo(json.dumps(asdict(result), indent=2))
        return
    click.echo(f"{result.url}: {result.bytes / 2**20:.1f} MiB")
    if result.difference is not None:
        click.echo(
            f"outputs: {', '.join(result.outputs)}; opset {result.opset}; differs from torch by {result.difference:.1g}"
        )

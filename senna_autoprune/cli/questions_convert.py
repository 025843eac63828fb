"""``senna-prune questions convert``: parse, call ``senna_autoprune.formats``, print."""

from __future__ import annotations

import click


@click.command("convert")
@click.argument("file", type=click.Path())
@click.option("--images", required=True, type=click.Path(), help="Folder that the file's image paths are relative to.")
@click.option("--out", "out", required=True, type=click.Path(dir_okay=False), help="Question file to write (JSON).")
@click.option("--licence", help="Of the source, for the sidecar.  [default: what is known of the format]")
@click.option("--require-images", is_flag=True, help="Leave out questions that lack one of their images.")
def command(file: str, images: str, out: str, licence: str | None, require_images: bool) -> None:
    """Turn FILE into a question file, one record a question-answer pair, and OUT.meta.json with what was counted.

    The format is recognised: DriveLM v1.1 (frames with QA by stage), RoboSense and DriveBench (question, answer, img_paths),
    LLaVA's conversations or messages as a JSON list or as JSON lines, and a CSV with columns images, question, answer. Of a
    conversation of several turns every question is asked, by itself.
    """
    from senna_autoprune.cli.labels import print_labels
    from senna_autoprune.formats.convert import convert

    sidecar = convert(file, images, out, licence=licence, require_images=require_images)
    source, samples = sidecar["source"], sidecar["samples"]
    click.echo(f"{source['format']}: {sidecar['records']} questions about {samples['with_questions']} samples -> {out}")
    click.echo(f"licence: {source['licence']}")
    print_labels(sidecar)
    if sidecar["categories"]:
        click.echo("categories: " + ", ".join(f"{name} {count}" for name, count in sidecar["categories"].items()))
    if sidecar["later_turns"]:
        click.echo(f"{sidecar['later_turns']} questions are later turns of a conversation; each is asked by itself")
    if sidecar["unlabelled"]:
        click.echo(f"{sidecar['unlabelled']} questions have no answer: they measure agreement alone")
    if samples["missing_images"]:
        kept = "their questions left out" if require_images else "questions kept (see --require-images)"
        click.echo(f"images: {samples['missing_images']} files missing, {kept}")
    for reason, count in sidecar["skipped"].items():
        click.echo(f"not asked: {count} questions, {reason}")

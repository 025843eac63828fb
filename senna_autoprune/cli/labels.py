"""What a question file holds, on a terminal."""

from __future__ import annotations

from typing import Any

import click


def print_labels(counted: dict[str, Any]) -> None:
    """Print counts of a sidecar: questions by type, their labels, and what always saying the commonest is worth."""
    for kind, count in counted["questions"].items():
        click.echo(f"{kind:<12}{count:>7} questions")
        labels = counted["labels"].get(kind, {})
        total = sum(labels.values())
        for label, n in labels.items():
            click.echo(f"{'':<12}{n:>7} {100 * n / total:5.1f} %  {label}")
        if kind in counted["majority"]:
            best = counted["majority"][kind]
            click.echo(f"{'':<12}always saying {best['answer']!r} is right for {100 * best['share']:.1f} %")

"""``nnmedseg_models``: the networks in one table, or one of them in full."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from nnmedseg.cli import _command


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, print the table or the card, and return the exit code."""
    parser = argparse.ArgumentParser(
        description="List the networks with their size, cost and licence; with a NAME, show one in "
        "full: paper, options, published results and how these were made."
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="a network, for instance rosper")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    return _command.run(parser, _run, arguments)


def _run(options: argparse.Namespace) -> None:
    import json

    from nnmedseg import model_cards
    from nnmedseg.networks import list_networks

    if options.name is not None:
        card = model_cards.describe_network(options.name)
        text = json.dumps(card, indent=2) if options.json else model_cards.card_text(card)
    else:
        summaries = [model_cards.summarise_network(name) for name in list_networks()]
        text = json.dumps(summaries, indent=2) if options.json else _with_legend(summaries)
    sys.stdout.write(text + "\n")


def _with_legend(summaries: list[dict]) -> str:
    from nnmedseg.model_cards import table_text

    return (
        f"{table_text(summaries)}\n\n"
        "GFLOPs of one image of the paper's size, all outputs; a multiply-add counts two.\n"
        "The licence is that of the authors' code; nnmedseg's own is Apache-2.0.\n"
        "One network in full: nnmedseg_models NAME"
    )

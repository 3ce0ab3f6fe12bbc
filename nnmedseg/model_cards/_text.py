"""Model cards as text for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

_WIDTH = 100
_LABEL = 16
_COLUMNS = ("NAME", "PAPER", "PARAMETERS", "TRAINABLE", "GFLOPS", "AT", "LICENCE")
_NUMBERS = ("PARAMETERS", "TRAINABLE", "GFLOPS", "AT")


def table_text(summaries: Iterable[Mapping[str, Any]]) -> str:
    """One aligned line a network, from `summarise_network`."""
    rows = [
        (
            summary["name"],
            summary["short_title"],
            _millions(summary["parameters"]),
            _millions(summary["trainable_parameters"]),
            _giga(summary["flops"]),
            _size(summary["image_size"]),
            summary["licence"],
        )
        for summary in summaries
    ]
    return "\n".join(_aligned([_COLUMNS, *rows], _NUMBERS))


def card_text(card: Mapping[str, Any]) -> str:
    """A whole card, from `describe_network`."""
    blocks = [
        [f"{card['short_title']} ({card['name']})"],
        list(_source(card)),
        list(_cost(card)),
        ["Options (name = default)", *_options(card["options"])],
        ["Weights and losses", *_training(card)],
        ["Published results (percent unless a unit is named)", *_results(card["results"])],
        ["How these results were made", *_bullets(card["results_notes"])],
        ["Before you use it", *_bullets(card["notes"])],
    ]
    return "\n\n".join("\n".join(block) for block in blocks)


def _source(card: Mapping[str, Any]) -> Iterator[str]:
    yield from _labelled("paper", card["title"])
    yield from _labelled("authors", card["authors"])
    yield from _labelled("repository", card["repository"])
    yield from _labelled("licence", f"{card['licence']} (the authors' code)")
    yield from _labelled("weights' terms", card["weights_licence"])
    yield from _labelled("cite as", card["citation"])


def _cost(card: Mapping[str, Any]) -> Iterator[str]:
    channels, classes = card["input_channels"], card["num_classes"]
    yield from _labelled(
        "image size",
        f"{_size(card['image_size'])} pixels, {channels} {_plural('channel', channels)}, "
        f"{classes} {_plural('class', classes)} in the paper",
    )
    yield from _labelled(
        "other sizes", f"multiples of {card['size_divisor']}, at least {card['min_size']}"
    )
    yield from _labelled(
        "parameters", f"{card['parameters']:,}, of which {card['trainable_parameters']:,} trainable"
    )
    yield from _labelled(
        "GFLOPs",
        f"{_giga(card['flops'])} at that size, {_giga(card['flops_of_the_main_output'])} without "
        "outputs that only training needs (a multiply-add counts two)",
    )
    published = card["published_cost"]
    figures = [
        f"{published[figure]} {unit}"
        for figure, unit in (("millions_of_parameters", "M parameters"), ("gflops", "GFLOPs"))
        if published[figure] is not None
    ]
    yield from _labelled("published", ", ".join(figures) or "no figure")
    if published["note"]:
        yield from _labelled("compared", published["note"])


def _training(card: Mapping[str, Any]) -> Iterator[str]:
    command = f"nnmedseg_import_weights {card['name']} FILE -o MODEL"
    importer = command if card["imports_checkpoints"] else "no importer"
    yield from _labelled("authors' files", importer)
    yield from _labelled("starts from", card["starts_from"] or "random weights")
    losses = (f"{loss['name']} ({' or '.join(loss['forms'])})" for loss in card["losses"])
    yield from _labelled("losses", ", ".join(losses))


def _options(options: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for option in options:
        yield f"  {option['name']} = {option['default']!r}"
        yield from _wrapped(option["meaning"], " " * 6)


def _results(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """One line a data set, one column a metric."""
    if not results:
        return ["  none"]
    columns = list(dict.fromkeys((result["metric"], result["unit"]) for result in results))
    titles = [metric if unit == "%" else f"{metric} ({unit})" for metric, unit in columns]
    values = {
        (result["data_set"], result["metric"], result["unit"]): f"{result['value']:.2f}"
        for result in results
    }
    rows = [
        (data_set, *(values.get((data_set, *column), "-") for column in columns))
        for data_set in dict.fromkeys(result["data_set"] for result in results)
    ]
    return ["  " + line for line in _aligned([("data set", *titles), *rows], titles)]


def _aligned(rows: Sequence[Sequence[str]], numbers: Sequence[str]) -> list[str]:
    """Lines with columns of equal width, those whose title is in ``numbers`` to the right."""
    columns = [
        [
            cell.rjust(width) if column[0] in numbers else cell.ljust(width)
            for cell, width in zip(column, [max(map(len, column))] * len(column), strict=True)
        ]
        for column in zip(*rows, strict=True)
    ]
    return ["  ".join(row).rstrip() for row in zip(*columns, strict=True)]


def _labelled(label: str, text: str) -> list[str]:
    return _wrapped(text, " " * (_LABEL + 2), f"  {label.ljust(_LABEL)}")


def _bullets(notes: Iterable[str]) -> Iterator[str]:
    for note in notes:
        yield from _wrapped(note, " " * 4, "  - ")


def _wrapped(text: str, indent: str, first: str | None = None) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=indent if first is None else first,
        subsequent_indent=indent,
        break_on_hyphens=False,
        break_long_words=False,
    )


def _plural(noun: str, count: int) -> str:
    ending = "es" if noun.endswith("s") else "s"
    return noun if count == 1 else noun + ending


def _millions(count: int) -> str:
    return f"{count / 1e6:.3f} M"


def _giga(count: int) -> str:
    return f"{count / 1e9:.2f}"


def _size(image_size: Sequence[int]) -> str:
    return " x ".join(map(str, image_size))

"""The attribute table that lies beside the pictures: the official one, and CSV of it."""

import csv
from pathlib import Path

from learningcurves.errors import InvalidInput


def read_attributes(path) -> tuple[tuple[str, ...], dict[str, list[bool]]]:
    """Return the attributes' names and, for each picture's name, its values, from the official table or a CSV of it.

    The official table begins with the number of pictures and a line of names; values are -1 / 1 (or 0 / 1).

    Raises
    ------
    InvalidInput
        With the line's number, where a line has another number of values, or a value is none of -1, 0, 1.
    """
    path = Path(path)
    lines = table_lines(path)
    number, first = next(lines, (0, []))
    count = None
    if len(first) == 1 and first[0].isdecimal():
        count = int(first[0])
        number, first = next(lines, (0, []))
    names = tuple(first[1:] if first and first[0].lower() in ("image_id", "image", "filename", "") else first)
    if len(names) < 1 or len(set(names)) != len(names) or any(_is_value(name) for name in names):
        raise InvalidInput(f"`{path}`, line {max(number, 1)}: no line of attribute names. Copy the table again.")
    table = {}
    for number, words in lines:
        if len(words) != len(names) + 1:
            raise InvalidInput(
                f"`{path}`, line {number}: {len(words) - 1} values after the picture's name where there are "
                f"{len(names)} attributes. Copy the table again."
            )
        wrong = [word for word in words[1:] if not _is_value(word)]
        if wrong:
            raise InvalidInput(f"`{path}`, line {number}: {wrong[0]!r} is none of -1, 0, 1.")
        table[words[0]] = [word == "1" for word in words[1:]]
    if count is not None and len(table) > count:
        raise InvalidInput(f"`{path}` holds {len(table)} pictures where its first line says {count}.")
    if not table:
        raise InvalidInput(f"`{path}` names no picture.")
    return names, table


def _is_value(word):
    return word in ("-1", "0", "1")


def table_lines(path):
    """Yield (line number, words) of the lines of a table that are not empty."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file) if path.suffix == ".csv" else (line.split() for line in file)
            for number, words in enumerate(rows, 1):
                if words:
                    yield number, [word.strip() for word in words]
    except UnicodeDecodeError:
        raise InvalidInput(f"`{path}` is no text file. Copy it again.") from None

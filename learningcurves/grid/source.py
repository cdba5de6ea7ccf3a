"""Where a grid was written down: errors name the file, the line and the nearest known word."""

import difflib
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from learningcurves.errors import InvalidInput


@dataclass(frozen=True)
class Source:
    """The text of a grid file, or nothing for a grid given as a dictionary."""

    name: str = ""
    text: str = ""

    def refuse(self, message: str, key: str | None = None, inner: str | None = None, value=None):
        """Return an InvalidInput that begins with the file and line of a key, of a key inside it, or of its value."""
        line = self.line(key, inner, value) if key else None
        where = f"{self.name}, line {line}: " if line else f"{self.name}: " if self.name else ""
        return InvalidInput(where + message)

    def line(self, key: str, inner: str | None = None, value=None) -> int | None:
        """Return the line (from 1) of ``key =``, or of ``inner =`` or of a value from there on; None if not found."""
        lines = [_without_comment(line) for line in self.text.splitlines()]
        start = _first(lines, 0, rf"^\s*(\[+\s*)?[\"']?{re.escape(key)}[\"']?\s*(=|\.|\])")
        if start is None:
            return None
        found = start
        end = _first(lines, start + 1, r"^\s*(\[+\s*)?[A-Za-z_][\w\"'-]*\s*(=|\])")  # the next key of the file
        if inner is not None:
            found = _first(lines, start, rf"(^|[\s{{,.])[\"']?{re.escape(inner)}[\"']?\s*=")
        elif value is not None:
            text = (
                f"[\"']{re.escape(value)}[\"']" if isinstance(value, str) else rf"(?<![\w.]){re.escape(str(value))}\b"
            )
            at = _first(lines, start, text)
            found = at if at is not None and (end is None or at < end) else start
        return (start if found is None else found) + 1


def _without_comment(line):
    """Cut a comment, minding a # inside quotes."""
    quote = ""
    for i, char in enumerate(line):
        if quote:
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        elif char == "#":
            return line[:i]
    return line


def _first(lines, start, pattern):
    return next((i for i in range(start, len(lines)) if re.search(pattern, lines[i])), None)


def read_toml(path) -> tuple[dict, Source]:
    """Return the table in a TOML file, and the text it came from."""
    path = Path(path).expanduser()
    try:
        text = path.read_text(encoding="utf-8")
        return tomllib.loads(text), Source(str(path), text)
    except FileNotFoundError:
        raise InvalidInput(
            f"`{path}` does not exist (here is {Path.cwd()}). Give the path of a grid file (.toml)."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"`{path}` cannot be read: {error}.") from None
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(f"`{path}` is not valid TOML: {error}.") from None


def nearest(word: str, known, renamed=None) -> str:
    """Return "Did you mean ...? " for the known word closest to another, or ""."""
    if renamed and word in renamed:
        return f"Write {renamed[word]}. "
    lowered = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), lowered, n=1, cutoff=0.5)
    return f"Did you mean `{lowered[close[0]]}`? " if close else ""

"""External text on a terminal or in a log line: characters that control the terminal are shown as escapes."""

import re
from collections.abc import MutableMapping
from typing import Any

# C0 and C1 controls, lone surrogates, separators that end a line, marks that reorder or hide text, tags.
_STEERING = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff\U000e0000-\U000e007f]"
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def visible(text: str, keep: str = "") -> str:
    """Return the text with ESC, CR, bidirectional marks and similar characters as `\x1b`, except those to `keep`."""
    return _STEERING.sub(lambda found: found[0] if found[0] in keep else _escaped(found[0]), text)


def _escaped(character: str) -> str:
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    if code < 0x10000:
        return f"\\u{code:04x}"
    return f"\\U{code:08x}"


def visible_event(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Escape every text of a log event; a traceback keeps its lines (a processor of structlog's)."""
    return {
        visible(key): visible(value, "\n\t" if key == "exception" else "") if isinstance(value, str) else value
        for key, value in event.items()
    }


def unformula(cell: Any) -> Any:
    """Return a cell of a CSV file; a text that a spreadsheet would run as a formula begins with an apostrophe."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell

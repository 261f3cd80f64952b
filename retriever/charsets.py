"""What the names of old encodings mean to browsers, which is what pages that declare them are written in.

Owns the names. Knows nothing about where one is declared, or about pages.
"""

from __future__ import annotations

import codecs
from typing import Final

# By Python's name of each (https://encoding.spec.whatwg.org/#names-and-labels).
_MEANT: Final = {
    "ascii": "cp1252", "iso8859-1": "cp1252", "gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932",
    "x-sjis": "cp932", "euc_kr": "cp949", "big5": "cp950",
}  # fmt: skip


def meant(declared: str) -> str:
    """Python's name of the encoding that a browser reads `declared` as; itself where Python knows none."""
    try:
        name = codecs.lookup(declared).name
    except (LookupError, ValueError):
        name = declared.lower()
    return _MEANT.get(name, name)

"""What a text may hold, how what is not seen in it is shown, and phrases of messages."""

import difflib
import re
import unicodedata
from collections.abc import Iterable, Sequence

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # the last half an emoji, which no file can hold
_LONGEST = 4096  # characters
_NAMED = 5  # files that a message lists


def visible(text: str, keep: str = "") -> str:
    r"""Write every character that would move, hide or end text as its escape, such as ``\u202e``.

    Those in `keep` stay. These are control and format characters (bidirectional marks, zero-width ones), line and
    paragraph separators, lone surrogates, and code points that have no character. Spaces of every width stay.
    """
    if text.isprintable():
        return text
    return "".join(
        each
        if each.isprintable() or each in keep or unicodedata.category(each) == "Zs"
        else each.encode("unicode_escape", "surrogatepass").decode("ascii")
        for each in text
    )


def text_problem(text: str) -> str:
    """Say why no key takes a text; nothing if it may stand."""
    if not text:
        return "is empty"
    if found := CONTROL.search(text):
        return f"has the control character U+{ord(found[0]):04X}"
    return f"has {len(text)} characters, at most {_LONGEST} are allowed" if len(text) > _LONGEST else ""


def word_problem(word: str) -> str:
    """Say why tables cannot hold a word or a name among others; nothing if they can."""
    if "; " in word:
        return "must not contain '; ', which separates words in tables"
    return text_problem(word) if word else ""


def spelling(name: str) -> str:
    """Write a name as all its spellings are: ``polar_bear`` as ``Polar bear``, and accents apart as in one piece."""
    return re.sub(r"[\W_]+", " ", unicodedata.normalize("NFC", name)).strip().casefold()


def shorten(text: str) -> str:
    """Cut the middle out of a text that is too long for a message."""
    return text if len(text) <= 400 else f"{text[:200]} … {text[-180:]}"


def first_few(things: Iterable) -> str:
    """List the first few of many things in a message."""
    names = list(map(str, things))
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")


def nearest(name: str, names: Sequence[str]) -> str:
    """Name the three of `names` most like `name`, for error messages."""
    return ", ".join(difflib.get_close_matches(name, names, cutoff=0)) or "none"

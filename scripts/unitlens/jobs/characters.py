"""What a text may hold, and how what is not seen is shown: control, bidirectional and zero-width characters."""

import re
import unicodedata

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # the last half an emoji, which no file can hold
_LONGEST = 4096  # characters


def visible(text: str, keep: str = "") -> str:
    r"""Write every character that would move, hide or end text as its escape, such as ``\u202e``.

    These are control and format characters (bidirectional marks, zero-width ones), line and paragraph separators, lone
    surrogates, and code points that have no character. Spaces of every width stay.

    Parameters
    ----------
    text : str
        Names and messages from outside.
    keep : str
        Characters that stay, for instance line ends.
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
        return "must not have '; ' in it, which stands between words in tables"
    return text_problem(word) if word else ""


def shorten(text: str) -> str:
    """Cut the middle out of a text that is too long for a message."""
    return text if len(text) <= 400 else f"{text[:200]} … {text[-180:]}"

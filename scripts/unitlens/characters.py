"""Show what a text holds that is not seen: control, bidirectional and zero-width characters."""

import unicodedata


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

"""What the section `audit` names: classes of the networks, and concepts that units can be called by."""

import difflib
from collections.abc import Sequence

from unitlens.jobs.characters import shorten
from unitlens.jobs.csv_files import read_all
from unitlens.jobs.sheets import annotations, class_names, count_classes

TEXTURE_WORDS = (  # what the label maps of generated textures mark
    *("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "gray"),
    *("plain", "striped", "checkered", "dotted", "grid", "zigzag", "speckled", "marbled", "concentric"),
)


def check_audit(config: dict, models: Sequence[str]) -> list[str]:
    """List the classes that none of the explained `models` has, and concepts by which no unit can be called.

    Concepts are checked where all words are known before the first job: not with common words, Broden's or the names of
    folders; those the job that tabulates checks.
    """
    if "audit" not in config:
        return []
    classes, problems = {}, []
    for model in models:
        own = class_list(config["models"][model]["classes"])
        if own is None:
            return []  # a problem of its own
        classes |= dict.fromkeys(own)
    words = known_words(config)
    for name, lists in config["audit"].items():
        if name not in classes:
            problems.append(
                f"audit: {shorten(repr(name))} is no class of {', '.join(models)}; {nearest(name, classes)}"
            )
        expected, unexpected = (lists.get(part, []) for part in ("expected", "unexpected"))
        problems += [
            f"audit.{shorten(str(name))}: {shorten(repr(concept))} is both expected and unexpected"
            for concept in expected
            if concept in unexpected
        ]
        problems += [
            f"audit.{shorten(str(name))}: {shorten(repr(concept))} is no concept of this run; {nearest(concept, words)}"
            for concept in [*expected, *unexpected]
            if words is not None and concept not in words
        ]
    return problems


def nearest(name: object, known: Sequence[str]) -> str:
    """List the known names that are most like one."""
    return f"nearest: {', '.join(map(repr, difflib.get_close_matches(str(name), list(known), n=3, cutoff=0)))}"


def known_words(config: dict) -> list[str] | None:
    """List the words that units can be called by; None where not all of them are known before the first job."""
    words: dict[str, None] = {}
    by_encoder = config["dissect"]["method"] == "encoder"  # whose words `dissect.annotations` tests
    sources = [given for (_, key), given in annotations(config).items() if key == "netdissect" or not by_encoder]
    if by_encoder:
        if config["concepts"].get("common_words"):
            return None
        sources.insert(0, {"masks": config["concepts"]["list"]})
    for given in sources:
        masks, listed = given.get("masks"), given.get("boxes", given.get("labels"))
        own = class_list(listed) if listed else TEXTURE_WORDS if masks == "textures" else _words_of(masks)
        if own is None:
            return None
        words |= dict.fromkeys(own)
    return list(words)


def _words_of(table: str) -> list[str] | None:
    if table == "broden":
        return None
    try:
        columns, rows = read_all(table)
        return [row[columns.index("word")].strip() for row in rows]
    except (OSError, ValueError, IndexError):
        return None  # a problem of its own


def class_list(classes: str | int) -> list[str] | None:
    """Name the classes of a list as `class_names` does; None where it cannot be read."""
    return None if classes == "folders" or not count_classes(classes) else class_names(classes)

"""Labeled units, without torch: what labels may claim, units by group, and the list of concepts."""

import pandas as pd

ALL = "all"  # the layer column of rows that pool the configured layers
SILENT = ("dead", "constant", "not finite")  # status of units that cannot have a label
ANNOTATIONS = "annotation of the probe set"  # in the place of an encoder's title
CLAIMS = ("named", "theme", "selective")  # status of units that are no accident, by what their label may claim
STATUSES = (*CLAIMS, "not selective")  # of active units
TOLD = CLAIMS[:2]  # status of units whose words are more than guesses
COUNTED = {"named": CLAIMS[:1], "selective": CLAIMS}  # the status of units whose concepts are counted by each claim
COVERAGE = 0.9  # share of selective units whose set holds what the other half of the source images calls them
FEWEST_CALIBRATED = 9  # selective units: of fewer, no set can be sure to cover so many
LARGEST_THEME = 12  # groups of near-duplicates in a set that still says something
PUBLISHED_TOP_K = 100  # images that `soft_wpmi` looks at, of 63,000
SELECTIVE = 0.05  # the largest q of a selective unit


def spoken(name: str) -> str:
    """Give the word for a class: of several names the first, with spaces."""
    return " ".join(name.partition(",")[0].replace("_", " ").split())


def titles(concepts: pd.DataFrame) -> pd.Series:
    """Say of each unit what its label may claim: the word if it is named, a theme, no name, or why there is none."""
    status = concepts["status"]
    found = status.mask(status == "named", concepts["concept"]).mask(status == "selective", "selective, no name")
    if (theme := status == "theme").any():
        words = concepts["set"].str.replace("; ", ", ")
        found = found.mask(theme, "a theme: " + words + concepts["set_size"].map(" ({:.0f} groups)".format))
    return found


def counted_units(concepts: pd.DataFrame, claim: str = "selective") -> pd.DataFrame:
    """Units of a claim of `COUNTED` under their best word, near-duplicate concepts under the name of their group.

    ValueError if the labels come from more than one encoder, similarity or concept list and so cannot be compared.
    """
    for column in ("encoder", "similarity", "concept_list"):
        if concepts[column].nunique() > 1:
            raise ValueError(
                f"labels of different {column.replace('_', ' ')}s cannot be compared: "
                f"{', '.join(concepts[column].unique())}"
            )
    counted = concepts[concepts["status"].isin(COUNTED[claim])]
    return counted.assign(concept=counted["group"])


def with_all(concepts: pd.DataFrame) -> pd.DataFrame:
    """Add all layers of a model together, as a layer of its own."""
    return pd.concat([concepts, concepts.assign(layer=ALL)], ignore_index=True)


def groups(concepts: pd.DataFrame) -> list[tuple[str, str]]:
    """Model and layer pairs, models together, in the order of their appearance."""
    first = {model: position for position, model in enumerate(concepts.model.unique())}
    return sorted(dict.fromkeys(zip(concepts.model, concepts.layer, strict=True)), key=lambda pair: first[pair[0]])


def concept_counts(labeled: pd.DataFrame) -> pd.Series:
    """Units of each concept, most frequent first, ties by name."""
    counts = labeled.concept.value_counts().rename_axis("concept").reset_index()
    return counts.sort_values(["count", "concept"], ascending=[False, True]).set_index("concept")["count"]


def with_common_words(concepts: pd.DataFrame, count: int) -> pd.DataFrame:
    """Add the `count` most common English words, of letters only and at least three of them, to a concept list.

    They are those of wordfreq (Speer 2022: subtitles, Wikipedia, news, books, the web), so not the published list of
    CLIP-Dissect, whose 20,000 words come from another corpus in another order; even lists of 10,000 and 20,000 words
    of one corpus agree on 42 to 50 % of the labels only, so labels compare within one list. Words that the list lacks
    follow it, with the category ``word``.
    """
    if not count:
        return concepts
    from wordfreq import top_n_list

    common = [word for word in top_n_list("en", 2 * count) if word.isalpha() and len(word) >= 3][:count]
    listed = set(concepts.word)
    added = [word for word in common if word not in listed]
    return pd.concat([concepts, pd.DataFrame({"word": added, "category": "word"})], ignore_index=True)

"""What a reader should know first: what was run, how many units have a name, and how far words can be trusted.

Numbers come from the tables of docs/outputs.md, the words from templates/findings/summary.j2.
"""

from collections.abc import Mapping

import pandas as pd

from unitlens.report import text
from unitlens.report.pages import say
from unitlens.tables import unit_labels, word_controls

FEW = 20  # units below which a number of concepts says little
_SHUFFLED = {"shuffled": "shuffled_units", "shuffled_named": "shuffled_named"}

Tables = Mapping[str, pd.DataFrame]


def run_facts(tables: Tables, *, failed: int) -> dict[str, object]:
    """List in a few words what was run; `failed` jobs are told apart."""
    facts, units = [], tables.get("concepts")
    if units is not None:
        layers = len(units.drop_duplicates(["model", "layer"]))
        facts.append(f"{text.counted(len(units), 'unit')} in {text.counted(layers, 'layer')}")
    if "images" in tables:
        for name, row in tables["images"].groupby("set", sort=False).first().iterrows():
            of = f" of {row.source_images:,} sources" if row.source_images < row["images"] else ""
            facts.append(f"{row['images']:,} {'explained' if name == 'explain' else name} images{of}")
    if units is not None:
        encoder = units["encoder"].iloc[0]
        facts.append("labels by annotations" if encoder == unit_labels.ANNOTATIONS else f"encoder: {encoder}")
    return {"facts": facts, "failed": f"{text.counted(failed, 'job')} failed" if failed else ""}


def sentences(tables: Tables) -> list[str]:
    """Say how many units are named or selective, how stable their words are, and what to do about it."""
    said, named = [], 0
    if "netdissect" in tables:
        masks = tables["netdissect"]
        counts = masks["status"].value_counts()
        named = int(counts.get("named", 0))
        control = masks.drop_duplicates(["model", "layer"])
        said += say(
            "summary.masks",
            **_claims(counts),
            **{name: int(control[column].sum()) for name, column in _SHUFFLED.items() if column in control},
            source_images=int(masks["annotated_source_images"].max()),
            what="Masks" if masks["masks"].iloc[0] == "masks" else "Boxes",
        )
    if "concepts" not in tables:
        return said
    units = tables["concepts"]
    counts = units["status"].value_counts()
    if by(units) == "by annotations":
        known = int(units["source_images"].max())
        return (
            said + say("summary.masks", **_claims(counts), source_images=known, what="Annotations") + _controls(tables)
        )
    active = units[units["status"].isin(unit_labels.STATUSES)]
    if len(active):
        selective = active[active["status"].isin(unit_labels.CLAIMS)]
        claims = {name: int(counts.get(name, 0)) for name in ("named", "theme")}
        bar = units["alpha"].iloc[0]
        said += say("summary.selective", selective=len(selective), living=len(active), bar=bar, **claims)
        said += _stability(active, selective)
    said += _controls(tables)
    return said + say("summary.what_to_do", source_images=int(units["source_images"].max()), named=named)


def _controls(tables: Tables) -> list[str]:
    """Say how often names are right where they are known."""
    if "controls" not in tables:
        return []
    table = tables["controls"]
    rows = table[table["control"] == word_controls.CLASSES].to_dict("records")
    return say("summary.word_controls", rows=rows, sought=word_controls.SOUGHT)


def _claims(counts: pd.Series) -> dict[str, int]:
    """Of counts by status, those of labels by annotations, themes among the units that have no name."""
    named, theme, selective, others = (int(counts.get(name, 0)) for name in unit_labels.STATUSES)
    return {"named": named, "selective": theme + selective, "units": named + theme + selective + others}


def _stability(active: pd.DataFrame, selective: pd.DataFrame) -> list[str]:
    """Say how often two halves give a unit the same word, of selective units or, where there are few, of all."""
    if active["kept"].isna().all():
        return []
    enough = len(selective) >= FEW
    asked, kind, again = selective if enough else active, "selective" if enough else "active", None
    if {"first_half", "second_half"} <= set(asked):
        given = asked[asked["first_half"].fillna("").ne("") & asked["second_half"].fillna("").ne("")]
        again = (given["first_half"] == given["second_half"]).mean() if len(given) else None
        asked = given
    return say("summary.words_kept", again=again, units=len(asked), kind=kind, kept=active["kept"].median())


def by(units: pd.DataFrame) -> str:
    """Say what gave the labels of a table."""
    return "by annotations" if units["encoder"].iloc[0] == unit_labels.ANNOTATIONS else "by the encoder"

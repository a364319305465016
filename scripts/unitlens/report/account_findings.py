"""Find what is to say of what accounts cover, of units that were switched off, and of classes that are audited.

docs/outputs.md has the columns of the tables. The words stand in templates/findings/why.j2.
"""

import pandas as pd

from unitlens.report.pages import say
from unitlens.report.text import SIGNIFICANT
from unitlens.tables import audit
from unitlens.tables.interventions import NAME_DRAWS
from unitlens.tables.resampling import FEWEST_GROUPS

_NAMED = 5  # names in a sentence


def coverage_findings(coverage: pd.DataFrame) -> list[str]:
    """Say which share of the accounts named and selective units carry, beside their share, by `accounts.coverage`."""
    sentences = []
    for (model, layer), own in coverage.groupby(["model", "layer"], sort=False):
        kinds = {
            kind: {row["part"]: row for row in rows.to_dict("records")}
            for kind, rows in own.groupby("account", sort=False)
        }
        sentences += say("why.coverage", model=model, layer=layer, own=kinds["class"], lead=kinds["runner-up"])
    return sentences


def intervention_findings(
    layers: pd.DataFrame, summary: pd.DataFrame, tests: pd.DataFrame, names: pd.DataFrame
) -> list[str]:
    """Say what the largest sets of units cost their class, other classes, and beside other units; then of names.

    `layers` has the facts of `interventions.choose`, a row a model; the tables are `interventions.summarize`, `compare`
    and `by_name`.
    """
    sentences = []
    for about in layers.to_dict("records"):
        model, layer = about["model"], about["layer"]
        own, tested, named = (
            table[(table["model"] == model) & (table["layer"] == layer)] for table in (summary, tests, names)
        )
        k = own["k"].max()
        lost: dict = {}
        for row in own[own["k"] == k].to_dict("records"):
            lost.setdefault(row["chosen"], {}).setdefault(row["of"], {})[row["measure"]] = row
        told = tested[(tested["k"] == k) & (tested["measure"] == "fall") & tested["p_adjusted"].notna()]
        values = {"lost": lost, "tests": told.to_dict("records"), "fewest": 2 * FEWEST_GROUPS}
        sentences += say("why.interventions", model=model, layer=layer, k=k, about=about, **values)
        if len(named):
            found = named[named["p_adjusted"] < SIGNIFICANT].sort_values("fall", ascending=False, kind="stable")
            sentences += say(
                "why.names",
                model=model,
                layer=layer,
                names=len(named),
                found=found["name"].to_list()[:_NAMED],
                more=max(0, len(found) - _NAMED),
                draws=NAME_DRAWS,
            )
    return sentences


def audit_findings(table: pd.DataFrame) -> list[str]:
    """Say which share of a class's accounts expected and unexpected concepts carry, by `audit.with_verdicts`."""
    sentences, tests = [], table["p_value"].notna().sum()
    for (model, name), own in table.groupby(["model", "class_name"], sort=False):
        for _, each in own.groupby("class", sort=False):
            lists = each[each["part"].isin(audit.LISTS)]
            whole = lists[lists["concept"] == ""].to_dict("records")
            found = {
                part: _by_verdict(lists[(lists["part"] == part) & (lists["concept"] != "")]) for part in audit.LISTS
            }
            sentences += say("why.audit", model=model, name=name, whole=whole, found=found, tests=tests)
    return sentences


def _by_verdict(rows: pd.DataFrame) -> dict[str, list[str]]:
    return {verdict: own["concept"].to_list() for verdict, own in rows.groupby("verdict", sort=False)}

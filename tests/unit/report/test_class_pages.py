"""What is said of classes, and which pages of them are linked; tests/browser/test_class_pages.py opens them."""

import numpy as np
import pandas as pd
import pytest
from unitlens.report import class_pages
from unitlens.report.pages import marked


def findings(classes):
    return class_pages.class_findings(classes, seed=0)


def table(accounts, *, halves=None, others=None):
    """Classes of one model; those of ten images have a page."""
    known = np.array(accounts) >= 10
    told = {"model": "net", "layer": "4", "class": range(len(accounts)), "accounts": accounts, "images": accounts}
    told |= {"class_name": [f"name {number}" for number in range(len(accounts))]}
    told |= {"source_images": np.where(known, accounts, np.nan)}
    return pd.DataFrame(told).assign(
        halves=np.where(known, 0.9 if halves is None else halves, np.nan),
        other_classes=np.where(known, 0.2 if others is None else others, np.nan),
    )


@pytest.mark.parametrize(
    ("accounts", "said"), [([1] * 10, "no class has more than 1."), ([3, 9], "more than 9."), ([], "more than 0.")]
)
def test_without_ten_images_of_a_class_one_sentence_says_so(accounts, said):
    (sentence,) = findings(table(accounts))
    assert sentence.startswith("No class has a page of what speaks for it and against it: that takes 10 explained")
    assert sentence.endswith(said)
    assert class_pages.nothing(table(accounts)) == sentence


def test_halves_of_a_class_are_compared_with_other_classes():
    rng = np.random.default_rng(0)
    (said,) = marked(findings(table([12] * 20 + [3], halves=rng.uniform(0.8, 1, 21))))
    assert said.startswith(
        "**net: the pages of classes are their own.** net: 20 of 21 explained classes have 10 images"
    )
    assert "the same mean contributions to r = 0.9" in said and "different classes to r = 0.20" in said
    assert "p < 0.001" in said and "n = 20" in said
    (said,) = marked(findings(table([12] * 20, halves=0.2, others=rng.uniform(0.1, 0.3, 20))))
    assert said.startswith("**net: no page is shown to be its class's own.**")
    (said,) = marked(findings(table([12] * 20, halves=0.2, others=0.9)))
    assert said.startswith("**net: two halves of a class differ more than classes do.**")


def test_one_class_alone_has_nothing_to_be_compared_with():
    (said,) = marked(findings(table([12, 2], others=np.nan)))
    assert said.startswith("**net: whether pages of classes are their own cannot be told.**")
    assert "1 of 2 explained classes has 10 images" in said and "different classes" not in said
    assert "0.90 (n = 1 is too small for an interval)" in said
    (said,) = marked(findings(table([12], halves=np.nan, others=np.nan)))
    assert "Two halves" not in said


def test_pages_are_linked_where_there_are_any_and_they_lie_beside():
    names = ["overview", "classes/index"]
    assert class_pages.beside(names, table([12])) == names
    assert class_pages.beside(names, table([9])) == class_pages.beside(names, None) == ["overview"]
    assert class_pages.links(names, table([9, 1200])) == {
        ("net", 1): ("classes/net-1.html", "name 1 in all 1,200 explained images")
    }
    assert class_pages.links(["overview"], table([12])) == class_pages.links(names, None) == {}

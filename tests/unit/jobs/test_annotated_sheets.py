"""What a config says of annotations, beside what the sheet of their set shows."""

from unitlens.jobs import sheets


def config_of(path, **netdissect):
    images = {"probe": {}, "annotated": {"sheet": str(path)}}
    return {"images": images, "netdissect": netdissect, "dissect": {"method": "encoder"}}


def test_the_names_that_boxes_and_labels_number_are_listed_once():
    def classes(boxes, dissect, *sets, of="probe"):
        config = {"images": dict.fromkeys(("probe", *sets)), "netdissect": {"boxes": boxes}, "dissect": dissect}
        return sheets.annotated_classes(config, of)

    labels = {"annotations": {"labels": "b.txt"}}
    assert classes("a.txt", labels) == ["a.txt", "b.txt"]
    assert classes("b.txt", labels) == ["b.txt"]
    assert classes("a.txt", labels, "annotated") == ["b.txt"]
    assert classes("a.txt", labels, "annotated", of="annotated") == ["a.txt"]
    assert classes("folders", {}) == classes("a.txt", labels, of="explain") == []


def test_a_concept_is_shown_by_five_source_images(tmp_path):
    def told(labels):
        rows = [f"{number},{number}.png,{label}" for number, label in enumerate(labels)]
        (tmp_path / "sheet.csv").write_text("\n".join(["image_id,path,label", *rows]) + "\n")
        return sheets.check_shown(config_of(tmp_path / "sheet.csv", labels="names.txt"))

    assert told([3] * 5) == []
    for labels, most in (([3] * 4 + [4], 4), (["", ""], 0)):
        assert told(labels) == [
            "images.annotated.sheet: no concept of netdissect is shown by 5 source images or more, so it can name "
            f"nothing; most are shown by {most}"
        ]

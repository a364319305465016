"""Weights are retrieved and kept by their content: a run's own link leads to a file that is named after its sha256."""

import hashlib
import sys

import pytest
from unitlens.networks import pretrained


def test_link_leads_to_the_content_of_today_and_what_was_kept_stays(tmp_path, capsys):
    weights, store, link = tmp_path / "mine.pt", tmp_path / "resources/weights", tmp_path / "run/weights/net.bin"
    kept = []
    for content in (b"first", b"second", b"first"):
        weights.write_bytes(content)
        pretrained.retrieve_and_keep({"path": str(weights)}, store, link, progress=sys.stderr)
        digest = hashlib.sha256(content).hexdigest()
        assert link.read_bytes() == content and link.resolve().name == f"{digest}.bin"
        assert f"has sha256 {digest}" in capsys.readouterr().out
        kept.append(link.resolve())
    assert kept[0] == kept[2] and sorted(store.iterdir()) == sorted(set(kept))


def test_a_file_that_is_not_there_keeps_nothing(tmp_path):
    store, link = tmp_path / "resources/weights", tmp_path / "run/net.bin"
    with pytest.raises(FileNotFoundError, match=r"missing\.pt"):
        pretrained.retrieve_and_keep({"path": str(tmp_path / "missing.pt")}, store, link, progress=sys.stderr)
    assert not link.exists() and not list(store.glob("*"))

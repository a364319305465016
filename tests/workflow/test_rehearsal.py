"""The full-scale experiment in miniature: `config/config.yaml`, every address of it served from this machine.

Random weights under the true names and layouts of their files stand in for the published ones, a few source images with
label maps for Broden, the smallest of open_clip's architectures for ViT-B/16. Nothing else on the way in differs.
"""

import functools
import hashlib
import http.server
import json
import shutil
import threading
from collections import OrderedDict
from pathlib import Path

import open_clip
import pandas as pd
import pytest
import torch
import torchvision
import toy
import yaml
from skimage import data
from skimage.io import imsave

ROOT = Path(__file__).parents[2]
PROBE = 120  # source images; soft-WPMI needs a hundred
CLIP = "ViT-S-32-alt"

pytestmark = pytest.mark.e2e


@pytest.fixture
def address(tmp_path):
    """Serve the files that the config asks for; give the address of the server."""
    folder = tmp_path / "server"
    folder.mkdir()
    torch.manual_seed(0)
    for name, file in (("resnet18", "resnet18-f37072fd.pth"), ("resnet50", "resnet50-11ad3fa6.pth")):
        torch.save(torchvision.models.get_model(name).state_dict(), folder / file)
    state = torchvision.models.resnet18(num_classes=365).state_dict()
    places = {"epoch": 90, "arch": "resnet18", "state_dict": OrderedDict((f"module.{k}", v) for k, v in state.items())}
    torch.save(places, folder / "resnet18_places365.pth.tar", _use_new_zipfile_serialization=False)
    torch.save(open_clip.create_model(CLIP, load_weights=False).state_dict(), folder / "ViT-B-16.pt")
    toy.write_broden(tmp_path / "broden", PROBE)
    shutil.make_archive(folder / "broden1_224", "zip", tmp_path / "broden")
    for name, image in (("West_Highland_white_terrier", data.chelsea), ("American_coot", data.coffee)):
        (row,) = [row for row in sheet_rows() if row.startswith(name)]
        imsave(folder / row.split(",")[1], image())
    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def sheet_rows():
    return (ROOT / "config/images/ten_imagenet.csv").read_text().splitlines()


def rehearsal(address):
    """Change in the full-scale config what a laptop without a network has to do without; every key stays."""
    config = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    config |= {"device": "cpu", "precision": "float32", "threads": 1, "batch_size": 16}
    files = [model["weights"] for model in config["models"].values()] + [config["encoder"]["files"]["weights"]]
    files += [source for images in config["images"].values() for source in images["sources"]]
    for file in files:
        if "torchvision" in file:
            file["url"] = torchvision.models.get_weight(file.pop("torchvision")).url
        file["url"] = f"{address}/{file['url'].rpartition('/')[2]}"
        file.pop("sha256", None)
    config["encoder"]["architecture"] = CLIP
    config["images"]["probe"] |= {"size": PROBE, "shard_size": 60}
    explained = config["images"]["explain"]
    explained |= {"sheet": "config/two.csv", "sources": explained["sources"][:2]}
    config["concepts"] |= {"list": "config/words.csv", "common_words": 20}
    config["dissect"] |= {"probe_sizes": [100], "evidence": {"resamples": 10, "null_draws": 50, "alpha": 1}}
    config["explain"]["cams"] = ["gradcam"]
    config["explain"]["lime"] |= {"n_samples": 30, "superpixels": {"method": "grid", "size": 56}}
    config["faithfulness"] = {"steps": 3, "baselines": ["mean"], "percentiles": [50]}
    config["verify"] = {"samples": 20}
    config["sanity"] = {"n_images": 1, "cams": ["gradcam"], "stages": 1, "seeds": 2, "samples": [20, 30]}
    grid = {"superpixels": [config["explain"]["lime"]["superpixels"]], "n_samples": [20, 30]}
    config["tune"] |= {"n_images": 1, "settings": 2, "grid": grid, "presets": {}}
    return config


def test_full_scale_experiment_from_the_first_download_to_the_overview(
    address, workflow_copy, tmp_path, snakemake, monkeypatch
):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    project = Path(shutil.copytree(workflow_copy, tmp_path / "project"))
    for name in ("downloads", "images", "weights", "encoders"):  # as a small home folder asks for
        (tmp_path / "scratch" / name).mkdir(parents=True)
        (project / "resources").mkdir(exist_ok=True)
        (project / "resources" / name).symlink_to(tmp_path / "scratch" / name)
    (project / "config/two.csv").write_text("\n".join(sheet_rows()[:3]) + "\n")
    toy.write_concepts(project / "config/words.csv")
    config = rehearsal(address)
    (project / "config/rehearsal.yaml").write_text(json.dumps(config))
    run = ["--configfile", "config/rehearsal.yaml", "--cores", "2", "--keep-going"]
    result = snakemake(project, *run)
    assert result.returncode == 0, result.stdout

    lock = json.loads((project / "resources/lock.json").read_text())
    served = sorted((tmp_path / "server").iterdir())
    assert lock == {f"{address}/{file.name}": hashlib.sha256(file.read_bytes()).hexdigest() for file in served}
    log = (project / "results/logs/retrieve_weights/resnet18_places365.log").read_text()
    assert "trusted on first use" in log and lock[f"{address}/resnet18_places365.pth.tar"] in log
    concepts = pd.read_csv(project / "results/concepts.csv")
    assert concepts.groupby(["model", "layer"]).size().to_dict() == {
        (model, layer): units
        for model in ("resnet18", "resnet18_places365")
        for layer, units in (("layer2", 128), ("layer3", 256), ("layer4", 512))
    }
    sizes = pd.read_csv(project / "results/rarefaction/resnet18/layer4.csv").source_images
    assert {100, PROBE} <= set(sizes)
    assert set(pd.read_csv(project / "results/agreement.csv").model) == {"resnet18", "resnet50"}
    assert json.loads((project / "results/models/resnet18_places365.json").read_text())["classes"] == 365
    dissected = pd.read_csv(project / "results/netdissect.csv", keep_default_na=False)
    assert set(dissected.mask_concept) <= {"red", "blue", "side street", "dotted", "woven", "car", "wheel", "door", ""}
    assert set(dissected.masks) == {"masks"} and len(set(dissected.mask_concept)) > 1
    assert (project / "results/overview.html").is_file()

    config["offline"] = True
    (project / "config/rehearsal.yaml").write_text(json.dumps(config))
    result = snakemake(project, *run)
    assert result.returncode == 0 and "Nothing to be done" in result.stdout, result.stdout
    shutil.rmtree(tmp_path / "scratch/weights")
    (tmp_path / "scratch/weights").mkdir()
    (project / "resources/downloads/resnet50/resnet50-11ad3fa6.pth").unlink()
    result = snakemake(project, *run)
    assert "offline: put resnet50-11ad3fa6.pth from" in result.stdout
    assert "into resources/downloads/resnet50/" in result.stdout and "resnet18" not in result.stdout

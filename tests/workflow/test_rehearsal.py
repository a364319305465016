"""The full-scale experiment in miniature, and that of a laptop: every address of their configs is served from here.

Random weights under the true names and layouts of their files stand in for the published ones, a few source images for
Broden, with label maps, and for GitHub's archive, the smallest of open_clip's architectures for ViT-B/16. Nothing else
on the way in differs.
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
from PIL import Image
from skimage import data
from skimage.io import imsave

ROOT = Path(__file__).parents[2]
PROBE = 120  # source images; soft-WPMI needs a hundred
CLIP = "ViT-S-32-alt"
COMMIT = "bc69043e2862758a1906c6a24a792bb28c6bb2ff"

pytestmark = [pytest.mark.e2e, pytest.mark.many]


@pytest.fixture
def address(tmp_path):
    """Serve the files that the configs ask for; give the address of the server."""
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
    write_archive_of_commit(folder, tmp_path / "github")
    for name, image in (("West_Highland_white_terrier", data.chelsea), ("American_coot", data.coffee)):
        (row,) = [row for row in sheet_rows() if row.startswith(name)]
        imsave(folder / row.split(",")[1], image())
    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def write_archive_of_commit(folder, scratch):
    """Write what GitHub packs of a commit: one folder, named after the repository and the commit."""
    root = scratch / f"imagenet-sample-images-{COMMIT}"
    for number, row in enumerate(toy.write_source_images(scratch / "png", PROBE)):
        root.mkdir(exist_ok=True)
        Image.open(scratch / "png" / row["path"]).save(root / f"n{number:08d}_toy.JPEG")
    for name in ("README.md", "gallery.md"):
        (root / name).write_text("1000 images\n")
    shutil.make_archive(folder / COMMIT, "zip", scratch, root.name)


class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        """Answer as GitHub does where an archive is asked for: elsewhere, and without its length."""
        if self.path.startswith("/archive/"):
            self.send_response(302)
            self.send_header("Location", self.path.replace("archive", "codeload"))
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif self.path.startswith("/codeload/"):
            content = Path(self.directory, Path(self.path).name).read_bytes()
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for start in range(0, len(content), 1000):
                part = content[start : start + 1000]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            self.wfile.write(b"0\r\n\r\n")
        else:
            super().do_GET()

    def log_message(self, *_):
        pass


def sheet_rows():
    return (ROOT / "config/images/ten_imagenet.csv").read_text().splitlines()


def files_of(config):
    """Every file that a config retrieves."""
    files = [model["weights"] for model in config["models"].values()] + [config["encoder"]["files"]["weights"]]
    return files + [source for images in config["images"].values() for source in images["sources"]]


def rehearsal(name, address):
    """Change in a config what a machine without a network has to do without; every key stays."""
    config = yaml.safe_load((ROOT / f"config/{name}.yaml").read_text())
    config |= {"device": "cpu", "precision": "float32", "threads": 1, "batch_size": 16}
    config["images"]["explain"]["sources"] = config["images"]["explain"]["sources"][:2]
    for file in files_of(config):
        if "torchvision" in file:
            file["url"] = torchvision.models.get_weight(file.pop("torchvision")).url
        folder = "archive/" if "/archive/" in file["url"] else ""
        file["url"] = f"{address}/{folder}{file['url'].rpartition('/')[2]}"
        file.pop("sha256", None)
    config["encoder"]["architecture"] = CLIP
    config["images"]["probe"] |= {"size": PROBE, "shard_size": 60}
    config["images"]["explain"]["sheet"] = "config/two.csv"
    config["concepts"] |= {"list": "config/words.csv", "common_words": 20}
    config["dissect"] = {"probe_sizes": [100], "evidence": {"resamples": 10, "null_draws": 50, "alpha": 1}}
    superpixels = {"method": "grid", "size": 56}
    config["explain"] = {"cams": ["gradcam"], "lime": {"n_samples": 30, "superpixels": superpixels}}
    config["faithfulness"] = {"steps": 3, "baselines": ["mean"], "percentiles": [50]}
    config["verify"] = {"samples": 20}
    config["sanity"] = {"n_images": 1, "cams": ["gradcam"], "stages": 1, "seeds": 2, "samples": [20, 30]}
    if "tune" in config:
        grid = {"superpixels": [superpixels], "n_samples": [20, 30]}
        config["tune"] |= {"n_images": 1, "settings": 2, "grid": grid, "presets": {}}
    return config


@pytest.mark.parametrize(("name", "explained"), [("config", {"resnet18", "resnet50"}), ("laptop", {"resnet50"})])
def test_experiment_from_the_first_download_to_the_overview(
    name, explained, address, workflow_copy, tmp_path, snakemake, monkeypatch
):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    project = Path(shutil.copytree(workflow_copy, tmp_path / "project"))
    for folder in ("downloads", "images", "weights", "encoders"):  # as a small home folder asks for
        (tmp_path / "scratch" / folder).mkdir(parents=True)
        (project / "resources").mkdir(exist_ok=True)
        (project / "resources" / folder).symlink_to(tmp_path / "scratch" / folder)
    (project / "config/two.csv").write_text("\n".join(sheet_rows()[:3]) + "\n")
    toy.write_concepts(project / "config/words.csv")
    config = rehearsal(name, address)
    (project / "config/rehearsal.yaml").write_text(json.dumps(config))
    run = ["--configfile", "config/rehearsal.yaml", "--cores", "2", "--keep-going"]
    result = snakemake(project, *run)
    assert result.returncode == 0, result.stdout

    lock = json.loads((project / "resources/lock.json").read_text())
    served = {url: tmp_path / "server" / Path(url).name for url in (file["url"] for file in files_of(config))}
    assert lock == {url: hashlib.sha256(file.read_bytes()).hexdigest() for url, file in served.items()}
    log = (project / "results/logs/retrieve_weights/resnet18_places365.log").read_text()
    assert "trusted on first use" in log and lock[f"{address}/resnet18_places365.pth.tar"] in log
    concepts = pd.read_csv(project / "results/concepts.csv")
    assert concepts.groupby(["model", "layer"]).size().to_dict() == {
        (model, layer): units
        for model in ("resnet18", "resnet18_places365")
        for layer, units in (("layer2", 128), ("layer3", 256), ("layer4", 512))
    }
    sizes = pd.read_csv(project / "results/rarefaction/resnet18.csv").query("layer == 'layer4'").source_images
    assert {100, PROBE} <= set(sizes)
    assert set(pd.read_csv(project / "results/agreement.csv").model) == explained
    assert json.loads((project / "results/models/resnet18_places365.json").read_text())["classes"] == 365
    if name == "config":
        dissected = pd.read_csv(project / "results/netdissect.csv", keep_default_na=False)
        words = {"red", "blue", "side street", "dotted", "woven", "car", "wheel", "door", ""}
        assert set(dissected.mask_concept) <= words and len(set(dissected.mask_concept)) > 1
        assert set(dissected.masks) == {"masks"}
    assert (project / "results/overview.html").is_file()

    config["offline"] = True
    (project / "config/rehearsal.yaml").write_text(json.dumps(config))
    result = snakemake(project, *run)
    assert result.returncode == 0 and "Nothing to be done" in result.stdout, result.stdout
    shutil.rmtree(tmp_path / "scratch/weights")
    (tmp_path / "scratch/weights").mkdir()
    (download,) = (project / "resources/downloads").glob("*/resnet50-11ad3fa6.pth")
    download.unlink()
    result = snakemake(project, *run)
    assert "offline: put resnet50-11ad3fa6.pth from" in result.stdout
    assert f"into resources/downloads/{download.parent.name}/" in result.stdout and "resnet18" not in result.stdout

"""Networks of transformers and tokenizers, from a server that has the layout of huggingface.co, with random weights."""

import functools
import http.server
import json
import re
import threading
import zipfile
from pathlib import Path

import pytest
import torch
import transformers
import yaml
from transformers import (
    ConvNextConfig,
    ConvNextForImageClassification,
    ConvNextImageProcessor,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
    ViTModel,
)
from unitlens.jobs import schema
from unitlens.networks import build, encoders, hub, pretrained
from unitlens.networks.describe import describe
from unitlens.networks.network import class_names, load_classifier, load_configured, normalizer, predictor

NAMES = list("abcde")
ROOT = Path(__file__).parents[3]


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A folder that is served as huggingface.co would: <org>/<name>/resolve/<revision>/<file>."""
    folder = tmp_path / "served"
    folder.mkdir()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}/")
    yield folder
    server.shutdown()


def vit():
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    return ViTForImageClassification(ViTConfig(**sizes, image_size=32, patch_size=8, num_labels=5)).eval()


def publish(model, folder, name, processor=None, revision="main"):
    target = folder / name / "resolve" / revision
    model.save_pretrained(target)
    if processor:
        processor.save_pretrained(target)
    return target


def retrieve(source, tmp_path):
    return pretrained.retrieve(source, tmp_path / "downloads", lock=tmp_path / "lock.json", progress=None)


def test_a_classifier_of_transformers_is_retrieved_and_gives_its_own_logits(served, tmp_path):
    model = vit()
    publish(model, served, "org/tiny-vit", ViTImageProcessor(size={"height": 32, "width": 32}), revision="v1")
    source = {"huggingface": "org/tiny-vit", "revision": "v1"}
    archive = retrieve(source, tmp_path)
    assert {address.rpartition("/")[2] for address in json.loads((tmp_path / "lock.json").read_text())} == set(
        hub.CLASSIFIER_FILES
    )
    before = archive.read_bytes()
    assert retrieve(source, tmp_path).read_bytes() == before
    loaded = load_classifier("transformers:org/tiny-vit", archive, classes=5)
    images = torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(loaded(images), model(images).logits)
    facts = describe(loaded, ["vit.layers.0"], crop=32, classes=NAMES, name="vit")
    assert facts["output"] == {"returns": "ImageClassifierOutput", "read": "logits", "shape": [5], "head": "softmax"}
    assert facts["units"]["vit.layers.0"]["pooling"] == "cls"
    published = pretrained.published_input("transformers:org/tiny-vit", source, archive)
    assert published == {
        **{"fit": "squash", "resize": 32, "crop": 32, "interpolation": "bilinear"},
        **{"mean": [0.5] * 3, "std": [0.5] * 3},
    }


def test_the_published_input_is_what_the_processor_makes(served, tmp_path):
    """A center crop, after a resize so that the short side fits."""
    config = ConvNextConfig(hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1], num_labels=5)
    processor = ConvNextImageProcessor(size={"shortest_edge": 224}, crop_pct=0.875)
    publish(ConvNextForImageClassification(config), served, "org/tiny-convnext", processor)
    archive = retrieve({"huggingface": "org/tiny-convnext"}, tmp_path)
    published = pretrained.published_input("transformers:org/tiny-convnext", {}, archive)
    kept = {key: published[key] for key in ("fit", "resize", "crop")}
    assert kept == {"fit": "short", "resize": 256, "crop": 224}
    square = torch.randint(0, 256, (256, 256, 3), dtype=torch.uint8)
    expected = torch.as_tensor(processor(square.numpy(), return_tensors="pt")["pixel_values"])
    ours = normalizer(published["mean"], published["std"], device="cpu")(square[None, 16:-16, 16:-16])
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)


SQUARE = {"size": {"height": 32, "width": 32}, "resample": 2, "image_mean": [0.1] * 3, "image_std": [0.2] * 3}
SHORT = SQUARE | {"size": {"shortest_edge": 256}, "crop_size": 224, "do_center_crop": True}
CROPPED = {"fit": "short", "resize": 256, "crop": 224, "interpolation": "bilinear", "mean": [0.1] * 3, "std": [0.2] * 3}
SQUASHED = CROPPED | {"fit": "squash", "resize": 32, "crop": 32}


@pytest.mark.parametrize(
    ("settings", "published"),
    [
        (SQUARE, SQUASHED),
        (SQUARE | {"size": 32}, SQUASHED),
        (SQUARE | {"resample": 3}, SQUASHED | {"interpolation": "bicubic"}),
        (SQUARE | {"do_normalize": False}, SQUASHED | {"mean": [0.0] * 3, "std": [1.0] * 3}),
        (SQUARE | {"crop_size": 24, "do_center_crop": True}, SQUASHED | {"crop": 24}),
        (SQUARE | {"crop_size": {"height": 24, "width": 24}}, SQUASHED),
        (SHORT, CROPPED),
        (SHORT | {"crop_pct": 0.5, "do_center_crop": False, "size": {"shortest_edge": 383}},
         CROPPED | {"resize": 766, "crop": 383}),
        (SHORT | {"crop_pct": 0.5}, CROPPED),
    ],
)  # fmt: skip
def test_how_a_publisher_prepares_images_in_the_words_of_the_config(settings, published, tmp_path):
    assert hub.published_input(processor_archive(tmp_path, settings)) == published


@pytest.mark.parametrize(
    "settings",
    [
        SQUARE | {"do_resize": False},
        SQUARE | {"do_rescale": False},
        SQUARE | {"resample": 0},
        SQUARE | {"size": {"height": 32, "width": 31}},
        SQUARE | {"size": None},
        SQUARE | {"image_mean": None},
        SQUARE | {"image_std": None},
        SHORT | {"do_center_crop": False},
        SHORT | {"crop_size": {"height": 24, "width": 23}},
        SHORT | {"crop_size": None},
        SHORT | {"crop_pct": 0.5, "do_center_crop": False, "size": {"shortest_edge": 384}},
    ],
)
def test_what_the_config_cannot_say_of_images_is_not_known(settings, tmp_path):
    assert hub.published_input(processor_archive(tmp_path, settings)) is None


def processor_archive(folder, settings):
    with zipfile.ZipFile(folder / "archive.bin", "w") as file:
        file.writestr("preprocessor_config.json", json.dumps(settings))
    return folder / "archive.bin"


def test_a_repository_without_its_preparation_of_images_is_taken(served, tmp_path, capsys):
    publish(vit(), served, "org/tiny-vit")
    archive = retrieve({"huggingface": "org/tiny-vit"}, tmp_path)
    assert "publishes no preprocessor_config.json" in capsys.readouterr().out
    assert pretrained.published_input("transformers:org/tiny-vit", {}, archive) is None


def test_one_logit_of_transformers(served, tmp_path):
    torch.manual_seed(0)
    config = ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=32, num_labels=1)
    model = ViTForImageClassification(config).eval()
    publish(model, served, "org/one")
    archive = retrieve({"huggingface": "org/one"}, tmp_path)
    loaded = load_classifier("transformers:org/one", archive, classes=2, head="binary")
    pixels = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    normalize = normalizer([0.5] * 3, [0.5] * 3, device="cpu")
    with torch.no_grad():
        expected = model(normalize(pixels)).logits[:, 0].sigmoid()
    torch.testing.assert_close(predictor(loaded, normalize)(pixels)[:, 1], expected)


def test_what_is_no_classifier_is_refused(served, tmp_path):
    backbone = ViTModel(ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=32))
    publish(backbone, served, "org/backbone")
    archive = retrieve({"huggingface": "org/backbone"}, tmp_path)
    with pytest.raises(
        ValueError, match=r"lacks 2 tensors of ViTForImageClassification, classifier\.bias first; a rep"
    ):
        load_classifier("transformers:org/backbone", archive, classes=5)
    torch.save(vit().state_dict(), tmp_path / "weights.pth")
    with pytest.raises(
        ValueError, match=r"weights.pth holds no config.json: `architecture: transformers:\.\.\.` needs"
    ):
        load_classifier("transformers:org/tiny", tmp_path / "weights.pth", classes=5)
    with pytest.raises(OSError, match="404"):
        retrieve({"huggingface": "org/missing"}, tmp_path)
    remote = publish(vit(), served, "org/remote")
    settings = json.loads((remote / "config.json").read_text())
    (remote / "config.json").write_text(json.dumps(settings | {"auto_map": {"AutoConfig": "x.y"}}))
    with pytest.raises(ValueError, match=r"config.json is refused: 'auto_map' asks for code from elsewhere"):
        load_classifier("transformers:org/remote", retrieve({"huggingface": "org/remote"}, tmp_path / "b"), classes=5)


def test_another_file_under_the_same_address_is_noticed(served, tmp_path):
    folder = publish(vit(), served, "org/tiny-vit")
    retrieve({"huggingface": "org/tiny-vit"}, tmp_path)
    (folder / "config.json").write_text((folder / "config.json").read_text() + "\n")
    (tmp_path / "downloads" / "org--tiny-vit" / "main" / "config.json").unlink()
    with pytest.raises(ValueError, match=r"config.json has sha256 .*, but .* is expected|sha256"):
        retrieve({"huggingface": "org/tiny-vit"}, tmp_path)


def test_a_tokenizer_of_the_hub_is_retrieved_with_the_weights(served, tmp_path, monkeypatch):
    open_clip, tokenizers = pytest.importorskip("open_clip"), pytest.importorskip("tokenizers")
    words = {"[UNK]": 0, "[PAD]": 1, "[CLS]": 2, "[SEP]": 3, "red": 4, "green": 5, "wall": 6}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    target = served / "org" / "tokenizer" / "resolve" / "main"
    special = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
    fast.save_pretrained(target)
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
        "text_cfg": {"context_length": 8, "vocab_size": 7, "hf_tokenizer_name": "org/tokenizer"}
        | {"width": 32, "heads": 2, "layers": 1},
    }
    (tmp_path / "tiny-hub.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "tiny-hub.json")
    torch.manual_seed(0)
    model = open_clip.create_model("tiny-hub", load_weights=False).eval()
    weights = tmp_path / "published.bin"
    torch.save(model.state_dict(), weights)
    monkeypatch.setattr(pretrained, "weights_source", lambda _: {"path": str(weights)})
    (tmp_path / "downloads").mkdir()
    archive = retrieve({"open_clip": "tiny-hub:webli"}, tmp_path)
    options = {"mean": [0.5] * 3, "std": [0.5] * 3, "device": "cpu"}
    encoder = encoders.clip({"weights": archive}, architecture="tiny-hub", **options)
    ids = open_clip.tokenizer.HFTokenizer(str(target), context_length=8)(["red wall", "green"])
    with torch.no_grad():
        torch.testing.assert_close(encoder.text(["red wall", "green"]), model.encode_text(ids))
    with pytest.raises(ValueError, match=r"tiny-hub needs the tokenizer org/tokenizer of huggingface.co, which is ret"):
        encoders.clip({"weights": weights}, architecture="tiny-hub", **options)


# ---- the two examples of docs/your-own.md


def example(name):
    """The settings of a model as the page has them, with the schema's defaults."""
    page = (ROOT / "docs/your-own.md").read_text()
    blocks = map(yaml.safe_load, re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL))
    (settings,) = (block["models"][name] for block in blocks if name in block.get("models", {}))
    rules = schema.read_schema(ROOT / "config/schema.yaml")
    config = yaml.safe_load((ROOT / "config/demo.yaml").read_text()) | {"models": {name: settings}}
    assert schema.violations(config, rules) == []
    schema.fill_in_defaults(config, rules)
    return config["models"][name]


def described(settings, model, name):
    options = {"crop": settings["preprocessing"]["crop"], "classes": class_names(settings["classes"]), "name": name}
    return describe(model, settings["layers"], pooling=settings["pooling"], **options)


def test_the_classifier_of_the_page_is_retrieved_and_explained(served, tmp_path):
    settings = example("vit")
    sizes = {"hidden_size": 12, "num_hidden_layers": 12, "num_attention_heads": 2, "intermediate_size": 16}
    torch.manual_seed(0)
    network = ViTForImageClassification(ViTConfig(**sizes, num_labels=1000)).eval()
    publish(network, served, "google/vit-base-patch16-224", ViTImageProcessor())
    archive = retrieve(settings["weights"], tmp_path)
    model = load_configured(settings, archive)
    facts = described(settings, model, "vit")
    assert facts["units"]["vit.layers.10"]["pooling"] == "cls"
    published = pretrained.published_input(settings["architecture"], settings["weights"], archive)
    assert pretrained.departures(settings["preprocessing"], published) == []
    images = torch.randint(0, 256, (2, 224, 224, 3), dtype=torch.uint8)
    normalize = normalizer(settings["preprocessing"]["mean"], settings["preprocessing"]["std"], device="cpu")
    with torch.no_grad():
        expected = network((images.permute(0, 3, 1, 2) / 255 - 0.5) / 0.5).logits.softmax(1)
    torch.testing.assert_close(predictor(model, normalize)(images), expected, rtol=0, atol=1e-5)


def test_the_one_logit_of_the_page_is_explained(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs/your-own.md").read_text()
    (code,) = re.findall(r"^```python\n(import torchvision\n.*?)^```$", page, re.MULTILINE | re.DOTALL)
    Path("my_defects.py").write_text(code)
    Path("my_defects.txt").write_text("fine\ndefect\n")
    settings = example("defects")
    network = build.build(settings["architecture"]).eval()
    torch.save(network.state_dict(), settings["weights"]["path"])
    model = load_configured(settings, settings["weights"]["path"])
    assert described(settings, model, "defects")["output"]["head"] == "binary"
    images = torch.randint(0, 256, (2, 224, 224, 3), dtype=torch.uint8)
    normalize = normalizer(settings["preprocessing"]["mean"], settings["preprocessing"]["std"], device="cpu")
    with torch.no_grad():
        expected = network(normalize(images)).sigmoid()[:, 0]
    torch.testing.assert_close(predictor(model, normalize)(images)[:, 1], expected, rtol=0, atol=1e-5)


def test_what_is_no_archive_and_settings_without_names_are_refused(tmp_path):
    (tmp_path / "no.zip").write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"no\.zip holds no config\.json: `architecture: transformers"):
        hub.load_classifier(tmp_path / "no.zip")
    (tmp_path / "config.json").write_text('{"_attn_implementation_autoset": false, "attn_implementation": "sdpa"}')
    hub.check_settings(tmp_path / "config.json", Path("a.zip"))
    (tmp_path / "config.json").write_text("[1, 2]")
    with pytest.raises(ValueError, match=r"a\.zip: config\.json must hold the settings of a network, by name"):
        hub.check_settings(tmp_path / "config.json", Path("a.zip"))

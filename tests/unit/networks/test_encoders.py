"""CLIP from local checkpoints: a miniature, as a state dict and as a program like those that OpenAI publishes."""

import json
import zipfile

import pytest
import safetensors.torch
import torch
import torchvision
import toy
from unitlens.networks import encoders, hub, network, pretrained
from unitlens.storage.files import sha256

open_clip = pytest.importorskip("open_clip")

TINY = {
    "embed_dim": 16,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
OPTIONS = {"mean": [0.5] * 3, "std": [0.25] * 3, "device": "cpu"}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    for name in ("tiny-quickgelu", "tiny"):
        (folder / f"{name}.json").write_text(json.dumps(TINY))
        open_clip.add_model_config(folder / f"{name}.json")
    torch.manual_seed(0)
    return open_clip.create_model("tiny-quickgelu", load_weights=False).eval()


class Archive(torch.nn.Module):
    """Parameters under CLIP's names, with the facts that OpenAI's archives keep among them."""

    def __init__(self, state):
        super().__init__()
        for name, value in state.items():
            owner = self
            *path, last = name.split(".")
            for part in path:
                if not hasattr(owner, part):
                    owner.add_module(part, torch.nn.Module())
                owner = getattr(owner, part)
            owner.register_buffer(last, value)
        self.register_buffer("input_resolution", torch.tensor(32))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def program(module, path, monkeypatch=None):
    """Save a TorchScript archive; with `monkeypatch`, as if its hash were one of those that OpenAI has published."""
    torch.jit.script(module).save(path)
    if monkeypatch:
        monkeypatch.setattr(encoders, "_published_programs", lambda: {sha256(path)})
    return path


@pytest.mark.parametrize("form", ["state dict", "training", "archive"])
def test_clip_gives_the_features_of_the_network_it_was_saved_from(form, tiny, tmp_path, monkeypatch):
    weights = tmp_path / "weights.bin"
    state = tiny.state_dict()
    if form == "archive":
        program(Archive(state), weights, monkeypatch)
    elif form == "training":
        torch.save({"epoch": 3, "state_dict": {f"module.{key}": value.half() for key, value in state.items()}}, weights)
        tiny = open_clip.create_model("tiny-quickgelu", load_weights=False).eval()
        tiny.load_state_dict({key: value.half() for key, value in state.items()})
    else:
        torch.save(state, weights)
    encoder = encoders.clip({"weights": weights}, architecture="tiny-quickgelu", **OPTIONS)
    images = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    pixels = ((images / 255 - 0.5) / 0.25).permute(0, 3, 1, 2)
    with torch.inference_mode():
        torch.testing.assert_close(encoder.image(images), tiny.encode_image(pixels), rtol=1e-4, atol=1e-5)
        tokens = open_clip.tokenize(["dog", "striped"])
        torch.testing.assert_close(encoder.text(["dog", "striped"]), tiny.encode_text(tokens), rtol=1e-4, atol=1e-5)
    assert encoder.title == "CLIP tiny-quickgelu"


def test_openai_weights_need_quickgelu(tiny, tmp_path, monkeypatch):
    weights = program(Archive(tiny.state_dict()), tmp_path / "weights.bin", monkeypatch)
    with pytest.raises(ValueError, match="need QuickGELU: architecture tiny-quickgelu"):
        encoders.clip({"weights": weights}, architecture="tiny", **OPTIONS)


class Overwriting(torch.nn.Module):
    """A program that overwrites a file of the user when it is loaded."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    @torch.jit.export
    def __getstate__(self):
        return self.path, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]):
        self.path = state[0]
        self.training = state[1]
        torch.from_file(self.path, True, 4, dtype=torch.uint8).fill_(0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


@pytest.mark.parametrize("name", ["tiny-quickgelu", "tiny"])
def test_a_program_that_openai_has_not_published_is_never_run(name, tiny, tmp_path):
    (tmp_path / "mine").write_bytes(b"mine")
    weights = program(Overwriting(str(tmp_path / "mine")), tmp_path / "weights.bin")
    (tmp_path / "mine").write_bytes(b"mine")
    message = f"weights.bin is a TorchScript archive, which is a program, with sha256 {sha256(weights)}; only"
    with pytest.raises(ValueError, match=message):
        encoders.clip({"weights": weights}, architecture=name, **OPTIONS)
    assert (tmp_path / "mine").read_bytes() == b"mine"


def test_the_programs_that_run_are_those_of_openais_addresses():
    programs = encoders._published_programs()
    assert len(programs) == 9 and all(len(digest) == 64 for digest in programs)
    assert pretrained.weights_source({"open_clip": "ViT-B-16-quickgelu:openai"})["sha256"] in programs


def test_clip_weights_that_do_not_fit_are_named(tiny, tmp_path):
    state = tiny.state_dict() | {"logit_scale": torch.tensor(1), "extra": torch.zeros(3)}
    torch.save(state, tmp_path / "weights.bin")
    message = (
        r"weights.bin does not fit the architecture: 1 not in the architecture \(extra: \(3,\)\); "
        r"1 of another kind of number \(logit_scale: int64 instead of float32\)"
    )
    with pytest.raises(ValueError, match=message):
        encoders.clip({"weights": tmp_path / "weights.bin"}, architecture="tiny-quickgelu", **OPTIONS)


def test_weights_by_name_become_their_addresses_and_hashes():
    openai = pretrained.weights_source({"open_clip": "ViT-B-16-quickgelu:openai"})
    assert openai["url"].endswith(f"/clip/models/{openai['sha256']}/ViT-B-16.pt") and len(openai["sha256"]) == 64
    prefix = pretrained.weights_source({"open_clip": "ViT-B-32-quickgelu:laion400m_e32"})
    assert prefix["sha256"] == "46683a32" and prefix["url"].startswith("https://github.com/mlfoundations/")
    repository = "https://huggingface.co/laion/CLIP-ViT-B-32-laion2B-s34B-b79K/resolve/main"
    pinned = {"open_clip": "ViT-B-32:laion2b_s34b_b79k", "sha256": "0" * 64}
    assert pretrained.weights_source(pinned) == {
        "url": f"{repository}/open_clip_model.safetensors",
        "sha256": "0" * 64,
    }
    with pytest.raises(ValueError, match="open_clip has no weights 'ViT-B-16:opnai'; nearest: ViT-B-16:openai"):
        pretrained.weights_source({"open_clip": "ViT-B-16:opnai"})
    classifier = {"torchvision": "ResNet18_Weights.IMAGENET1K_V1"}  # of the surrogate
    assert pretrained.weights_source(classifier)["sha256"] == "f37072fd"


def test_an_unknown_architecture_shows_the_nearest():
    with pytest.raises(ValueError, match=r"open_clip has no model 'ViT-B-17'; nearest: .*ViT-B-16"):
        encoders.clip({"weights": "none"}, architecture="ViT-B-17", **OPTIONS)


# the text encoder's archive


@pytest.fixture(scope="module")
def text_archive(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "text.zip"
    toy.write_sentence_encoder(path)
    return path


def rewrite(archive, path, **contents):
    """Copy an archive, with other contents of some members (None: without it)."""
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            content = contents.get(name.partition(".")[0], old.read(name))
            if content is not None:
                new.writestr(name, content)
    return path


def settings_of(archive, **changes):
    with zipfile.ZipFile(archive) as file:
        return json.dumps(json.loads(file.read("config.json")) | changes)


def test_a_sentence_encoder_gives_unit_vectors(text_archive):
    embed = encoders._sentence_encoder(text_archive, torch.device("cpu"))
    torch.testing.assert_close(embed(["dog", "a cat"]).norm(dim=1), torch.ones(2))


def test_a_text_does_not_depend_on_those_beside_it(text_archive):
    embed = encoders._sentence_encoder(text_archive, torch.device("cpu"))
    texts = ["a photo of a red dog and a cat", "dog", "a cat"]  # batches are made of texts by their length
    together = embed(texts)
    torch.testing.assert_close(together, torch.cat([embed([text]) for text in texts]), rtol=0, atol=1e-5)
    assert not torch.allclose(together[0], together[1], atol=1e-2)


def test_an_image_of_a_class_is_where_the_surrogate_puts_the_words_for_it(text_archive, tmp_path, monkeypatch):
    """The classifier is certain of class 7 of every image, and of the 990 without a name that they are not there."""
    names = ["dog", "cat", "red", "sky", "a blue bird", "fish", "tree", "striped cat", "sea", "car"]
    monkeypatch.setattr(network, "class_names", lambda kind: names)
    classifier = torchvision.models.squeezenet1_1()
    with torch.no_grad():
        classifier.classifier[1].weight.zero_()
        classifier.classifier[1].bias.zero_()[:10] = 100 + 100 * (torch.arange(10) == 7)
    torch.save(classifier.state_dict(), tmp_path / "weights.pt")
    files = {"image": tmp_path / "weights.pt", "text": text_archive}
    encoder = encoders.conse(files, architecture="torchvision:squeezenet1_1", layout="named", **OPTIONS)
    (tmp_path / "weights.pt").rename(tmp_path / "away.pt")
    words = encoder.text(["a photo of a striped cat"])  # needs no classifier
    (tmp_path / "away.pt").rename(tmp_path / "weights.pt")
    images = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    torch.testing.assert_close(encoder.image(images), words.expand(2, -1), rtol=0, atol=1e-4)
    assert encoder.title == "ConSE surrogate (squeezenet1_1 + MiniLM)"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"auto_map": {"AutoModel": "modeling.Evil"}}, "'auto_map' asks for code from elsewhere, and none is run"),
        ({"text_config": {"auto_map": {}}}, "'auto_map' asks for code"),
        ({"_attn_implementation": "someone/kernel"}, "'_attn_implementation' asks for code"),
        ({"attn_implementation": "someone/kernel"}, "'attn_implementation' asks for code"),
        ({"quantization_config": {"quant_method": "x"}}, "'quantization_config' asks for code"),
        ({"num_hidden_layers": 1001}, "num_hidden_layers is 1001, and 1,000 is the most"),
        ({"hidden_size": 1 << 21}, "hidden_size is 2097152, and 1,048,576 is the most"),
        ({"hidden_size": -(1 << 21)}, "hidden_size is -2097152, and 1,048,576 is the most"),
        ({"layer_norm_eps": float("nan")}, "layer_norm_eps is nan, and 1,048,576 is the most"),
    ],
)
def test_settings_that_lead_elsewhere_are_refused(text_archive, tmp_path, changes, message):
    archive = rewrite(text_archive, tmp_path / "text.zip", config=settings_of(text_archive, **changes))
    with pytest.raises(ValueError, match=f"text.zip: config.json is refused: {message}"):
        encoders._sentence_encoder(archive, torch.device("cpu"))


def test_settings_may_be_as_large_as_the_most(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"num_hidden_layers": 1000, "hidden_size": 1 << 20}))
    hub.check_settings(tmp_path / "config.json", tmp_path / "text.zip")


def test_an_unknown_type_of_network_prompts_for_nothing(text_archive, tmp_path, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked whether to run code"))
    archive = rewrite(text_archive, tmp_path / "text.zip", config=settings_of(text_archive, model_type="evil"))
    with pytest.raises(ValueError, match=r"text\.zip holds no sentence encoder: .*`evil`"):
        encoders._sentence_encoder(archive, torch.device("cpu"))


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ({"config": "{"}, r"text\.zip: config\.json is refused: Expecting"),
        ({"config": "[]"}, r"text\.zip: config\.json must hold the settings of a network, by name"),
        ({"config": "[" * 100_000}, r"text\.zip: config\.json is refused: "),
        ({"tokenizer": "{"}, r"text\.zip holds no sentence encoder: EOF while parsing"),
        ({"model": bytes(100)}, r"text\.zip holds no sentence encoder: "),
        ({"tokenizer": None}, r"text\.zip has no member 'tokenizer\.json'; it has, for example, config\.json, model"),
        ({"tokenizer": bytes(65 << 20)}, r"text\.zip unpacks to an absurd size"),
    ],
)
def test_an_archive_without_a_sentence_encoder_is_named(text_archive, tmp_path, contents, message):
    with pytest.raises(ValueError, match=message):
        encoders._sentence_encoder(rewrite(text_archive, tmp_path / "text.zip", **contents), torch.device("cpu"))


def test_a_sentence_encoder_lies_at_the_top_of_its_archive(text_archive, tmp_path):
    with zipfile.ZipFile(text_archive) as old, zipfile.ZipFile(tmp_path / "text.zip", "w") as new:
        for name in old.namelist():
            new.writestr(f"folder/{name}", old.read(name))
    with pytest.raises(ValueError, match=r"text\.zip holds config\.json in a folder only"):
        encoders._sentence_encoder(tmp_path / "text.zip", torch.device("cpu"))


def test_weights_that_a_sentence_encoder_lacks_are_not_made_up(text_archive, tmp_path):
    with zipfile.ZipFile(text_archive) as file:
        state = safetensors.torch.load(file.read("model.safetensors"))
    state.pop("embeddings.LayerNorm.weight")
    archive = rewrite(text_archive, tmp_path / "text.zip", model=safetensors.torch.save(state, {"format": "pt"}))
    message = r"text\.zip: model\.safetensors lacks 1 tensors of the network, embeddings\.LayerNorm\.weight first"
    with pytest.raises(ValueError, match=message):
        encoders._sentence_encoder(archive, torch.device("cpu"))


def test_annotations_stand_for_words_that_are_all_unlike_and_for_no_images():
    encoder = encoders.load({"kind": "annotations", "options": {}}, {}, device="cpu")
    assert encoder.image(torch.zeros(3, 4, 4, 3)).shape == (3, 0)
    assert encoder.text(["red", "blue"]).tolist() == [[1, 0], [0, 1]] and encoder.title == ""

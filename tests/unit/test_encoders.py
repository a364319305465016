"""CLIP from local checkpoints: a miniature, as a state dict and as an archive like those that OpenAI publishes."""

import json

import pytest
import torch
from unitlens import encoders

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


@pytest.mark.parametrize("form", ["state dict", "archive"])
def test_clip_gives_the_features_of_the_network_it_was_saved_from(form, tiny, tmp_path):
    weights = tmp_path / "weights.bin"
    if form == "archive":
        torch.jit.script(Archive(tiny.state_dict())).save(weights)
    else:
        torch.save(tiny.state_dict(), weights)
    encoder = encoders.clip({"weights": weights}, architecture="tiny-quickgelu", **OPTIONS)
    images = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    pixels = ((images / 255 - 0.5) / 0.25).permute(0, 3, 1, 2)
    with torch.inference_mode():
        torch.testing.assert_close(encoder.image(images), tiny.encode_image(pixels), rtol=1e-4, atol=1e-5)
        tokens = open_clip.tokenize(["dog", "striped"])
        torch.testing.assert_close(encoder.text(["dog", "striped"]), tiny.encode_text(tokens), rtol=1e-4, atol=1e-5)
    assert encoder.title == "CLIP tiny-quickgelu"


def test_openai_weights_need_quickgelu(tiny, tmp_path):
    torch.jit.script(Archive(tiny.state_dict())).save(tmp_path / "weights.bin")
    with pytest.raises(ValueError, match="need QuickGELU: architecture tiny-quickgelu"):
        encoders.clip({"weights": tmp_path / "weights.bin"}, architecture="tiny", **OPTIONS)


def test_weights_by_name_become_their_addresses_and_hashes():
    openai = encoders.weights_source({"open_clip": "ViT-B-16-quickgelu:openai"})
    assert openai["url"].endswith(f"/clip/models/{openai['sha256']}/ViT-B-16.pt") and len(openai["sha256"]) == 64
    prefix = encoders.weights_source({"open_clip": "ViT-B-32-quickgelu:laion400m_e32"})
    assert prefix["sha256"] == "46683a32" and prefix["url"].startswith("https://github.com/mlfoundations/")
    repository = "https://huggingface.co/laion/CLIP-ViT-B-32-laion2B-s34B-b79K/resolve/main"
    pinned = {"open_clip": "ViT-B-32:laion2b_s34b_b79k", "sha256": "0" * 64}
    assert encoders.weights_source(pinned) == {
        "url": f"{repository}/open_clip_model.safetensors",
        "sha256": "0" * 64,
    }
    with pytest.raises(ValueError, match="open_clip has no weights 'ViT-B-16:opnai'; nearest: ViT-B-16:openai"):
        encoders.weights_source({"open_clip": "ViT-B-16:opnai"})
    classifier = {"torchvision": "ResNet18_Weights.IMAGENET1K_V1"}  # of the surrogate
    assert encoders.weights_source(classifier)["sha256"] == "f37072fd"


def test_an_unknown_architecture_shows_the_nearest():
    with pytest.raises(ValueError, match=r"open_clip has no model 'ViT-B-17'; nearest: .*ViT-B-16"):
        encoders.clip({"weights": "none"}, architecture="ViT-B-17", **OPTIONS)

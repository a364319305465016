"""Decoded images, normalized, against the PIL transform that each publisher ships with its weights.

The eight bits after resizing and cropping are the same; the normalized values differ by float32 rounding alone, for
``x * (1 / (255 std)) - mean / std`` stands for ``(x / 255 - mean) / std``: at most 1e-6 of values up to 3.
"""

from pathlib import Path

import numpy as np
import open_clip
import pytest
import timm
import torch
import torchvision
import yaml
from PIL import Image
from torchvision import transforms
from unitlens.images import decode
from unitlens.networks import network, pretrained

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
GEOMETRY = ("fit", "resize", "crop", "interpolation")
CONFIG = yaml.safe_load((Path(__file__).parents[2] / "config/config.yaml").read_text())
PLACES365_TRANSFORM = transforms.Compose(
    [transforms.Resize((256, 256)), transforms.CenterCrop(224), transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
)


def torchvision_pair(name):
    published = pretrained.published_input("torchvision:any", {"torchvision": name})
    return published, torchvision.models.get_weight(name).transforms()


def timm_pair(name):
    settings = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    return pretrained.published_input(f"timm:{name}", {}), timm.data.create_transform(**settings)


def clip_pair():
    """What the full-scale config says of CLIP's image tower, and open_clip's own transform for the weights it names."""
    encoder = CONFIG["encoder"]
    settings = open_clip.get_pretrained_cfg(encoder["architecture"], "openai")
    assert settings["url"] == encoder["files"]["weights"]["url"]
    kwargs = {key: settings[key] for key in ("mean", "std", "interpolation", "resize_mode")}
    side = open_clip.get_model_config(encoder["architecture"])["vision_cfg"]["image_size"]
    return encoder["preprocessing"], open_clip.image_transform(side, is_train=False, **kwargs)


PAIRS = {
    **{
        name: torchvision_pair(name)
        for name in (
            "ResNet18_Weights.IMAGENET1K_V1",
            "ResNet50_Weights.IMAGENET1K_V2",
            "SqueezeNet1_1_Weights.IMAGENET1K_V1",
            "ViT_B_16_Weights.IMAGENET1K_V1",
            "EfficientNet_B0_Weights.IMAGENET1K_V1",
        )
    },
    **{
        name: timm_pair(name)
        for name in ("tf_efficientnet_lite0", "tf_efficientnet_lite2", "resnet18", "vit_base_patch16_224")
    },
    "Places365": (CONFIG["models"]["resnet18_places365"]["preprocessing"], PLACES365_TRANSFORM),
    "CLIP": clip_pair(),
}


@pytest.mark.parametrize("size", [(500, 375), (333, 407), (90, 120)])
@pytest.mark.parametrize("source", PAIRS)
def test_input_is_that_of_the_publisher(tmp_path, source, size):
    published, transform = PAIRS[source]
    noise = np.random.default_rng(sum(size)).integers(0, 256, (size[1] // 8 + 1, size[0] // 8 + 1, 3), np.uint8)
    image = Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)
    image.save(tmp_path / "source image.jpg", quality=95)
    rows, geometry = [{"image_id": "a", "path": "source image.jpg"}], {key: published[key] for key in GEOMETRY}
    pixels, _, _, _ = decode.decode_images(rows, tmp_path, geometry)
    ours = network.normalizer(published["mean"], published["std"], device="cpu")(pixels)[0]
    theirs = transform(Image.open(tmp_path / "source image.jpg").convert("RGB"))
    mean, std = (torch.tensor(published[key]).view(3, 1, 1) for key in ("mean", "std"))
    eight_bits = ((theirs * std + mean) * 255).round().byte()
    assert torch.equal(eight_bits.permute(1, 2, 0), torch.from_numpy(pixels[0]))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", CONFIG["models"])
def test_full_scale_experiment_departs_in_nothing_from_what_is_published(name):
    model = CONFIG["models"][name]
    published = pretrained.published_input(model["architecture"], model["weights"])
    assert published == model["preprocessing"]
    assert pretrained.departures(model["preprocessing"], published) == []

"""Every family of torchvision's classifiers and the most downloaded of timm's: right, or refused in one line.

Random weights, the smallest network of each family. Run this file to write the table of docs/models.md anew.
"""

import sys
import time
from pathlib import Path

import pytest
import torch
from unitlens.explainers import cam, lime, segment
from unitlens.networks import build, heads
from unitlens.networks.describe import describe
from unitlens.networks.hooks import run_to
from unitlens.networks.layer_outputs import pool
from unitlens.networks.network import normalizer, predictor

PAGE = Path(__file__).parents[3] / "docs" / "models.md"
MARK = "<!-- made by tests/unit/networks/test_families.py -->\n"
# family, network, layer, side of the input; one is refused where its layer says why
FAMILIES = [
    ("AlexNet", "torchvision:alexnet", "features.11", 96),
    ("ConvNeXt", "torchvision:convnext_tiny", "features.7", 64),
    ("DenseNet", "torchvision:densenet121", "features.denseblock4", 64),
    ("EfficientNet", "torchvision:efficientnet_b0", "features.7", 64),
    ("GoogLeNet", "torchvision:googlenet", "inception5b", 64),
    ("Inception v3", "torchvision:inception_v3", "Mixed_7c", 96),
    ("MaxViT", "torchvision:maxvit_t", "blocks.3", 224),
    ("MNASNet", "torchvision:mnasnet0_5", "layers.14", 64),
    ("MobileNet v2", "torchvision:mobilenet_v2", "features.17", 64),
    ("MobileNet v3", "torchvision:mobilenet_v3_small", "features.12", 64),
    ("RegNet", "torchvision:regnet_y_400mf", "trunk_output.block4", 64),
    ("ResNet", "torchvision:resnet18", "layer4", 64),
    ("ResNet, a ReLU that runs twice", "torchvision:resnet18", "layer4.1.relu", 64),
    ("ShuffleNet v2", "torchvision:shufflenet_v2_x0_5", "conv5", 64),
    ("SqueezeNet", "torchvision:squeezenet1_1", "features.12", 64),
    ("Swin", "torchvision:swin_t", "features.7", 64),
    ("VGG", "torchvision:vgg11", "features.19", 64),
    ("ViT", "torchvision:vit_b_32", "encoder.layers.encoder_layer_10", 224),
    ("BEiT", "timm:beit_base_patch16_224", "blocks.10", 224),
    ("BiT", "timm:resnetv2_50", "stages.3", 64),
    ("CaiT", "timm:cait_xxs24_224", "blocks.23", 224),
    ("CoAtNet", "timm:coatnet_nano_rw_224", "stages.3", 224),
    ("ConvMixer", "timm:convmixer_768_32", "blocks.31", 64),
    ("ConvNeXt v2", "timm:convnextv2_atto", "stages.3", 64),
    ("CSPNet", "timm:cspdarknet53", "stages.4", 64),
    ("DeiT", "timm:deit_tiny_patch16_224", "blocks.10", 224),
    ("DeiT, distilled", "timm:deit_tiny_distilled_patch16_224", "blocks.10", 224),
    ("DLA", "timm:dla34", "level5", 64),
    ("DPN", "timm:dpn48b", "features", 64),
    ("EdgeNeXt", "timm:edgenext_xx_small", "stages.3", 64),
    ("EfficientFormer", "timm:efficientformer_l1", "stages.2", 224),
    ("EfficientNet v2", "timm:tf_efficientnetv2_b0", "blocks.5", 64),
    ("EfficientViT", "timm:efficientvit_b0", "stages.3", 64),
    ("EVA", "timm:eva02_tiny_patch14_336", "blocks.10", 336),
    ("FastViT", "timm:fastvit_t8", "stages.3", 64),
    ("GCViT", "timm:gcvit_xxtiny", "stages.3", 224),
    ("GhostNet", "timm:ghostnet_050", "blocks.9", 64),
    ("HRNet", "timm:hrnet_w18_small", "final_layer", 64),
    ("Hiera", "timm:hiera_tiny_224", "blocks.11", 224),
    ("LeViT", "timm:levit_128s", "stages.2", 224),
    ("LCNet", "timm:lcnet_050", "blocks.5", 64),
    ("MLP-Mixer", "timm:mixer_s32_224", "blocks.7", 224),
    ("MobileNet v4", "timm:mobilenetv4_conv_small", "blocks.4", 64),
    ("MobileOne", "timm:mobileone_s0", "stages.3", 64),
    ("MobileViT", "timm:mobilevit_xxs", "stages.4", 64),
    ("MViT v2", "timm:mvitv2_tiny", "stages.3", 224),
    ("NesT", "timm:nest_tiny_jx", "levels.2", 224),
    ("NesT, inside a level", "timm:nest_tiny_jx", "levels.2.transformer_encoder.7", 224),
    ("NFNet", "timm:dm_nfnet_f0", "stages.3", 64),
    ("PiT", "timm:pit_ti_224", "transformers.1", 224),
    ("PoolFormer", "timm:poolformer_s12", "stages.3", 64),
    ("PVT v2", "timm:pvt_v2_b0", "stages.3", 64),
    ("RepVGG", "timm:repvgg_a0", "stages.3", 64),
    ("Res2Net", "timm:res2net50_14w_8s", "layer4", 64),
    ("ResMLP", "timm:resmlp_12_224", "blocks.10", 224),
    ("ResNeSt", "timm:resnest14d", "layer4", 64),
    ("SENet", "timm:legacy_seresnet18", "layer4", 64),
    ("SigLIP's image tower", "timm:vit_base_patch32_siglip_256", "blocks.10", 256),
    ("Swin of timm", "timm:swin_tiny_patch4_window7_224", "layers.3.blocks.1", 224),
    ("Swin of timm, attention", "timm:swin_tiny_patch4_window7_224", "layers.2.blocks.1.attn", 224),
    ("Twins", "timm:twins_svt_small", "blocks.3.3", 224),
    ("ViT with registers", "timm:vit_medium_patch16_reg4_gap_256", "blocks.10", 256),
    ("VOLO", "timm:volo_d1_224", "network.4", 224),
    ("Xception", "timm:legacy_xception", "block12", 96),
    ("XCiT", "timm:xcit_nano_12_p16_224", "blocks.11", 224),
]


def row_of(family, architecture, layer, side):
    """Check, extraction, one CAM and LIME of one network: its row of the table, with the reason where it is refused."""
    torch.manual_seed(0)
    model = build.build(architecture).eval().requires_grad_(False)
    classes = getattr(model, "num_classes", 1000)
    if not classes:  # a backbone
        model, classes = build.build(architecture, classes=10).eval().requires_grad_(False), 10
    heads.attach(model, classes=classes)
    start = [f"{family} (`{architecture}`)", f"`{layer}`"]
    try:
        facts = describe(model, [layer], crop=side, classes=["a"] * classes, name=architecture)["units"][layer]
    except ValueError as error:
        return [*start, "refused", str(error).partition(": ")[2]]
    pixels = torch.randint(0, 256, (2, side, side, 3), dtype=torch.uint8)
    normalize = normalizer([0.5] * 3, [0.25] * 3, device="cpu")
    pooling = {"cls": "cls"}.get(facts["pooling"], "avg")
    with torch.inference_mode():
        activations = pool(run_to(model, layer, normalize(pixels)), pooling, images=pixels.shape[:3])
    assert activations.shape == (2, facts["units"])
    targets = torch.tensor([0, 0])
    maps = cam.explain(model, layer, normalize(pixels), targets, method="gradcam")
    assert maps.shape == (2, side, side) and maps.isfinite().all()
    labels = segment.grid(pixels[:1], size=side // 2)
    found = lime.explain(predictor(model, normalize), pixels[:1], labels, targets[:1], n_samples=8, seeds=[0])
    assert found.coefficients.shape == (1, 4)
    words = {"cls": "class token", "positions": "positions", "none": "none"}[facts["pooling"]]
    grid = "×".join(map(str, facts["grid"])) or "no positions"
    prefix = f"; {facts['prefix_tokens']} before the patches" if facts["prefix_tokens"] else ""
    calls = f"; the last of {len(facts['calls'])} calls" if "calls" in facts else ""
    return [*start, words, f"{facts['units']} units, {grid}{prefix}{calls}"]


@pytest.mark.slow
@pytest.mark.many
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family[0])
def test_a_family_is_right_or_refused_as_the_page_says(family):
    assert "| " + " | ".join(row_of(*family)) + " |" in PAGE.read_text().splitlines()


if __name__ == "__main__":
    lines = ["| family | layer | pooled by | what it gives, on images of a small size |", "| --- | --- | --- | --- |"]
    for family in FAMILIES:
        started = time.monotonic()
        try:
            lines.append("| " + " | ".join(row_of(*family)) + " |")
        except Exception as error:
            print("FAULT", family, type(error).__name__, str(error)[:300], file=sys.stderr, flush=True)
            continue
        print(f"{time.monotonic() - started:.1f} s", lines[-1], flush=True)
    PAGE.write_text(PAGE.read_text().partition(MARK)[0] + MARK + "\n".join(lines) + "\n")

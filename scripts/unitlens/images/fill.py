"""What stands where pixels are taken away: mean color, gray, blur."""

import torch

HIDE = {"mean": None, "gray": 128, "black": 0, "white": 255, "blur": "blur", "noise": "noise"}
COLORS = {name: value for name, value in HIDE.items() if not isinstance(value, str)}  # what `lime` knows too

# Standard deviation in pixels of the blur that hides superpixels: Fong and Vedaldi, "Interpretable Explanations of
# Black Boxes by Meaningful Perturbation" (ICCV 2017).
_BLUR_SIGMA = 10


def hidden_fill(
    images: torch.Tensor,
    segments: torch.Tensor,
    n_segments: list[int],
    hide: float | str | None,
    generators: list[torch.Generator],
) -> torch.Tensor:
    """Give what stands where superpixels are hidden in `images` (n, h, w, 3), uint8, or a broadcast of it.

    `segments` are (n, h, w). A ValueError if `hide` is not allowed.
    """
    if hide is None:
        return torch.stack([_mean_colors(*pair) for pair in zip(images, segments, n_segments, strict=True)])
    if hide == "blur":
        return blurred(images)
    if hide == "noise":
        noise = [torch.randint(0, 256, images.shape[1:], generator=g, dtype=torch.uint8) for g in generators]
        return torch.stack(noise).to(images.device)
    if not is_gray(hide):
        raise ValueError(f'`hide` is {hide!r}; allowed: None (mean color), a whole number 0-255, "blur" or "noise"')
    return torch.full_like(images, int(hide))


def is_gray(hide: float | str) -> bool:
    """Tell whether superpixels are hidden by one gray value."""
    return not isinstance(hide, str) and 0 <= hide <= 255 and hide == int(hide)


def _mean_colors(image: torch.Tensor, labels: torch.Tensor, n_segments: int) -> torch.Tensor:  # (h, w, 3) uint8
    colors, labels_flat = image.reshape(-1, 3).long(), labels.flatten()
    sums = colors.new_zeros(n_segments, 3).index_add(0, labels_flat, colors)
    return (sums // torch.bincount(labels_flat)[:, None]).to(torch.uint8)[labels]


def blurred(images: torch.Tensor) -> torch.Tensor:
    """Blur images (n, h, w, 3), uint8, with a Gaussian of 10 pixels, their borders repeated."""
    radius = 3 * _BLUR_SIGMA
    offset = torch.arange(-radius, radius + 1, dtype=torch.float64, device=images.device)
    kernel = torch.softmax(-offset.square() / (2 * _BLUR_SIGMA**2), 0).expand(3, 1, 1, -1)
    pixels = images.permute(0, 3, 1, 2).double()  # (n, 3, h, w)
    for _ in range(2):  # along the width, then, transposed, along the height
        padded = torch.nn.functional.pad(pixels, (radius, radius, 0, 0), mode="replicate")
        pixels = torch.nn.functional.conv2d(padded, kernel, groups=3).mT
    return pixels.permute(0, 2, 3, 1).round().to(torch.uint8).contiguous()

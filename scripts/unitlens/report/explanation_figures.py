"""Draw saliency maps on their source images."""

from collections.abc import Mapping, Sequence

import numpy as np
import skimage
from matplotlib.figure import Figure

from unitlens.explainers.items import Explanation
from unitlens.report import charts
from unitlens.report.text import explainer_title
from unitlens.tables.explanations import prediction_table


def scale(saliency: np.ndarray) -> np.ndarray:
    """Divide every map (n, h, w) by its own maximum; a map of zeros stays as it is."""
    peak = saliency.max((1, 2), keepdims=True)
    return saliency / np.where(peak > 0, peak, 1)


def blend(image: np.ndarray, saliency: np.ndarray, segments: np.ndarray | None = None, *, scale: int = 1) -> np.ndarray:
    """Color a source image in gray by saliency, and draw the borders of its superpixels.

    Parameters
    ----------
    image : array, uint8, shape (h, w, 3)
        Source image in the model's geometry.
    saliency : array, shape (h, w)
        In [0, 1].
    segments : array of int, shape (h, w), optional
        Superpixels.
    scale : int
        Side of the square that a pixel becomes.

    Returns
    -------
    array, shape (h * scale, w * scale, 3)
        Colors in [0, 1].

    Raises
    ------
    ValueError
        If the shapes do not fit each other, or a saliency lies outside [0, 1].
    """
    for name, array in {"saliency": saliency, "segments": segments}.items():
        if array is not None and array.shape != image.shape[:2]:
            raise ValueError(f"`{name}` has shape {array.shape}, the source image has {image.shape[:2]}")
    if not (saliency.min() >= 0 and saliency.max() <= 1):
        raise ValueError(f"`saliency` must lie in [0, 1], got {saliency.min()} to {saliency.max()}")
    gray = np.repeat(image @ [0.299, 0.587, 0.114] / 255, 3).reshape(image.shape)  # (h, w, 3)
    alpha = 0.8 * np.sqrt(saliency)[..., None]
    blended = (1 - alpha) * gray + alpha * charts.SALIENCY_MAP(saliency)[..., :3]
    blended = _enlarge(blended, scale)
    if segments is not None:
        contours = skimage.segmentation.find_boundaries(_enlarge(segments, scale), mode="inner", background=-1)
        blended[contours] = 0.45 * blended[contours] + 0.55
    return blended


@charts.drawing
def overlay(image: np.ndarray, saliency: np.ndarray, *, segments: np.ndarray | None = None, title: str) -> Figure:
    """Draw one saliency map over its source image, about 3 inches wide, every pixel as a square of equal pixels.

    Arguments are as in `blend`, which checks them, and the title above the image.
    """
    scale = max(1, round(3 * charts.DPI / image.shape[1]))
    pixels = blend(image, saliency, segments, scale=scale)
    height, width = (side / charts.DPI for side in pixels.shape[:2])
    lines = charts.wrap(title, int(width / 0.08)).split("\n")
    above = 0.08 + 0.17 * len(lines)
    figure = Figure((width, height + above))
    _show_image(figure, pixels, left=0, top=above, width=width, height=height)
    figure.text(0, 1, "\n".join(lines), va="top", fontsize=9)
    return figure


@charts.drawing
def explanation_grid(
    images: np.ndarray,
    saliencies: Mapping[str, np.ndarray],
    *,
    captions: Sequence[str],
    segments: Mapping[str, np.ndarray] | None = None,
    model: str,
) -> Figure:
    """Draw source images (rows) against explainers (columns), every saliency map over its source image.

    Parameters
    ----------
    images : array, uint8, shape (n, h, w, 3)
        Source images in the model's geometry.
    saliencies : mapping from explainer to array, shape (n, h, w)
        Saliency in [0, 1].
    captions : sequence of str
        Text above each row: the class explained and its probability.
    segments : mapping from explainer to array of int, shape (n, h, w), optional
        Superpixels of the explainers that have some, drawn as contours in their columns.

    Raises
    ------
    ValueError
        If numbers or shapes do not fit each other, or as in `blend`.
    Nothing
        If there is no source image.
    """
    (n, pixels_high, pixels_wide), segments = images.shape[:3], segments or {}
    for name, given in {"captions": captions, **saliencies}.items():
        if len(given) != n:
            raise ValueError(f"`{name}` has {len(given)} entries for {n} `images`")
    if not n:
        raise charts.Nothing("No source image was explained.")
    columns, gap, strip, head = 1 + len(saliencies), 0.06, 0.3, 0.95
    cell = min(max(1, round(224 / pixels_wide)) * pixels_wide / charts.DPI, (charts.WIDEST - gap) / columns - gap)
    cell_height = cell * pixels_high / pixels_wide
    width = columns * (cell + gap) + gap
    figure = Figure((width, head + n * (cell_height + strip)))
    _text(figure, f"Explanations of {model}", left=gap, top=0.06, va="top", fontsize=11)
    _saliency_bar(figure, left=gap, top=0.34, width=min(2.5, width / 2))
    for column, title in enumerate(["Source image", *map(explainer_title, saliencies)]):
        left = gap + column * (cell + gap)
        _text(figure, title, left=left, top=head - 0.02, va="bottom", fontweight="bold", fontsize=9)
    for row in range(n):
        top = head + row * (cell_height + strip) + strip - 0.05
        caption = charts.shorten(captions[row], int(width / 0.08))
        _text(figure, caption, left=gap, top=top - 0.05, va="bottom", fontsize=9)
        blended = [
            blend(images[row], maps[row], segments[name][row] if name in segments else None)
            for name, maps in saliencies.items()
        ]
        for column, image in enumerate([images[row], *blended]):
            _show_image(figure, image, left=gap + column * (cell + gap), top=top, width=cell, height=cell_height)
    return figure


def _enlarge(array: np.ndarray, scale: int) -> np.ndarray:
    return array.repeat(scale, axis=0).repeat(scale, axis=1)


def _show_image(figure: Figure, image: np.ndarray, *, left: float, top: float, width: float, height: float) -> None:
    """Put an image at a place in inches from the top left corner."""
    across, down = figure.get_size_inches()
    axes = figure.add_axes((left / across, 1 - (top + height) / down, width / across, height / down))
    axes.imshow(image, aspect="auto")
    axes.set_axis_off()


def _text(figure: Figure, text: str, *, left: float, top: float, **look: object) -> None:
    """Write a text at a place in inches from the top left corner."""
    across, down = figure.get_size_inches()
    figure.text(left / across, 1 - top / down, text, **look)


def _saliency_bar(figure: Figure, *, left: float, top: float, width: float) -> None:
    """Draw the key to the colors of `blend`, on the gray of a medium source image."""
    bar = blend(np.full((1, 256, 3), 150, np.uint8), np.linspace(0, 1, 256)[None])
    _show_image(figure, bar, left=left, top=top, width=width, height=0.12)
    words = "saliency, from 0 to 1 within each map"
    _text(figure, words, left=left + width + 0.1, top=top + 0.06, va="center", fontsize=8)


def captions(explanations: Sequence[Explanation], classes: Mapping[str, str]) -> list[str]:
    """Name every image's explained class with its probability, and what is wrong with its maps, if anything.

    `explanations` are of the same images by one or several explainers; an explainer is named where not all maps have
    the same fault. `classes` is as in `prediction_table`.
    """
    table = prediction_table(*explanations[0], classes)
    names = [explainer_title(facts["explainer"]) for _, facts in explanations]
    warnings = zip(*(arrays["warning"] for arrays, _ in explanations), strict=True)
    written = []
    for name, probability, own in zip(table.target_name, table.target_probability, warnings, strict=True):
        told = (
            own[:1]
            if len(set(own)) == 1
            else [f"{title}: {each}" for title, each in zip(names, own, strict=True) if each]
        )
        written.append(", ".join(filter(None, [explained_class(name, probability), *told])))
    return written


def explained_class(name: str, probability: float) -> str:
    """Name a class with its probability, for a caption."""
    return f"{name}, p = {probability:.2f}" if name else "no class"

"""Kinds of units that ignore what images show: activations made of noise by source image, `own`, and by image."""

import numpy as np


def by_image(_, image):
    return image


def by_source_image(own, image):
    return own + 0.3 * image


def alike_in_crops(own, image):
    return own + 0.01 * image


def alike_in_copies(own, _):
    return own


def dense(own, _):
    return np.abs(own) + 1


def rectified(own, _):
    return np.maximum(own, 0)


def sparse(own, _):
    return np.maximum(own - 1.8, 0)


OF_TOP_IMAGES, OF_ALL_IMAGES = (by_image, by_source_image, alike_in_crops), (dense, rectified, sparse)

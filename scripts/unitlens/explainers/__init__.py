"""A prediction to a saliency map."""

"""Saliency maps judged: tensors in, tensors out."""

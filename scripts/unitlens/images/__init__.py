"""Source images to arrays."""

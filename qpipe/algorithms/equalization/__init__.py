"""Cross-layer equalization: channels of neighbouring layers are scaled to ranges of the same size."""

"""Batch-norm re-estimation: output moments of every channel are brought back to the float model's."""

"""Weight scales that minimize the error of a layer's output instead of that of its weights."""

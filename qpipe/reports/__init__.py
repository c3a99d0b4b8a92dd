"""What a person reads: the layer report, sizes and costs, and the terminal."""

"""AdaRound and its relatives: weights are rounded up or down for the least error of the layer's output."""

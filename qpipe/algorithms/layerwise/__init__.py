"""What algorithms share that go through a model layer by layer: its inputs, its matrices, its float counterpart."""

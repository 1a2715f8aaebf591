"""Training the encoder: objective, data, loop."""

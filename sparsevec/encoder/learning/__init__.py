"""What the encoder learns with: the only folder of it that imports torch. Only the encoder comes in, when it fits."""

"""What the manifest is made of."""

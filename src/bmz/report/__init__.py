"""Turn any result into text, JSON or HTML."""

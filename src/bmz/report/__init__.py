"""Any result becomes text, JSON or HTML."""

"""Turn the command line into one call of the app, and its result into text and an exit status."""

"""Words become one call of the app, and its answer becomes words and an exit status."""

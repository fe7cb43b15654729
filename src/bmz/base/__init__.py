"""The shared words: errors, axes, lengths, files, progress and declared steps."""

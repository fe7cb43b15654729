"""Arrays become arrays: declared steps and label recipes."""

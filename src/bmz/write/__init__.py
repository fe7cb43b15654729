"""Arrays become files: label mask, overlay, table, run record."""

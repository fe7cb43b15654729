"""A path becomes an ImageInfo, or pixels with named axes and lengths in um."""

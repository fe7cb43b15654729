"""One function per command; the only room that joins the others."""

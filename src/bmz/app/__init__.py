"""One function a command; the only room that joins the others."""

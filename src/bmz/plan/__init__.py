"""Turn findings and options into a frozen plan that can be printed."""

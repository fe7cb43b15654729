"""What the commands give back: values, which report turns into text and documents."""

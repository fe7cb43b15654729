"""The results of the commands, as values that `report` turns into text and documents."""

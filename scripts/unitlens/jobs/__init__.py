"""What surrounds a job: the config and the sheets, checked before it starts, and what became of it."""

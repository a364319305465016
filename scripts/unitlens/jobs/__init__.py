"""What surrounds a job: logs, progress, seeds, sheets and checks."""

"""Multirun: several jobs of one command as one MLflow run with a child for each job."""

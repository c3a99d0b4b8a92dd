"""Calibration: activation ranges from sample inputs."""

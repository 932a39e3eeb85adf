"""A slow report as a job, watched in four ways at once."""

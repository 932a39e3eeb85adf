"""The example that uploads, compresses and tells: what the demo serves at /pipeline/."""

"""The domain of Self-Developing: everything but orchestration. Imports neither Prefect, `tasks` nor `flows`."""

__version__ = "0.1.0"

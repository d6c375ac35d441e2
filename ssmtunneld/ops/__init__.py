"""Observation: logs and what else an operator looks at."""

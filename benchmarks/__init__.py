"""Measurements of ssmtunneld's cost and speed, and checks against regressions."""

"""Tests of ``ssmtunneld.doctor``."""

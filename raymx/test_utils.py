"""Helpers for tests of operators and symbols."""

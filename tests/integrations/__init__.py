"""Tests of the way from a delivery to a destination."""

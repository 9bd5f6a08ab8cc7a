"""Tests of what must never show: secrets, and imports across the borders."""

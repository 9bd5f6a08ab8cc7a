"""Tests with real processes: workers and web servers that are started, killed and started again."""

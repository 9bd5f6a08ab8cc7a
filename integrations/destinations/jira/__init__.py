"""Jira Cloud as a destination."""

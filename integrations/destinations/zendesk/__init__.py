"""Zendesk Support as a destination."""

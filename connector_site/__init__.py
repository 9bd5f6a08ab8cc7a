"""The Django project: settings, URLs, the admin site and health."""

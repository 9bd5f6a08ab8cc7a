"""The WSGI application that gunicorn serves."""

import os

from django.core.wsgi import get_wsgi_application
from django.db import connections

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "connector_site.settings")
application = get_wsgi_application()

from integrations import keys  # noqa: E402 - after the set-up

# With the wrong keys the server must not start: it could not read a secret, and must not store one.
keys.check()
connections.close_all()

"""All addresses the site answers at."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from connector_site import health

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("healthz", health.healthz),
    path("admin/", admin.site.urls),
    path("", include("integrations.urls")),
]

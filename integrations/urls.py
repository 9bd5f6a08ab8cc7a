"""The addresses of this app."""

from django.urls import path

from integrations import callback, views

urlpatterns = [
    path("webhooks/<slug:system>/<uuid:connection_id>/", views.webhook, name="webhook"),
    path("oauth/<slug:system>/callback/", callback.callback, name="oauth-callback"),
]

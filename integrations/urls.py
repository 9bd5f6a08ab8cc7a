"""The addresses of this app."""

from django.urls import path

from integrations import views

urlpatterns = [path("webhooks/<slug:system>/<uuid:connection_id>/", views.webhook, name="webhook")]

"""The admin site: Django's own, under the product's name."""

from django.contrib import admin
from django.contrib.admin.apps import AdminConfig


class ConnectorAdminSite(admin.AdminSite):
    """The product's browser admin."""

    site_header = "ml-connector"
    site_title = "ml-connector"
    index_title = "Wave to Zendesk and Jira"


class ConnectorAdminConfig(AdminConfig):
    """Make ours the default admin site."""

    default_site = "connector_site.admin_site.ConnectorAdminSite"

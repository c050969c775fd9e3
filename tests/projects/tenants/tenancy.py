"""The tenant of a request, and of a body: for `tenant_resolver` and `around_task`."""

from django_tenants.utils import (
    get_public_schema_name,
    get_tenant_domain_model,
    remove_www,
    schema_context,
)


def in_schema(attempt):
    """Each body runs in the schema of the tenant that started it."""
    return schema_context(attempt.tenant_id or get_public_schema_name())


def tenant_of(request):
    """The tenant of a request, or of a WebSocket by its host: no middleware runs there."""
    if hasattr(request, "tenant"):
        return request.tenant.schema_name
    host = remove_www(request.get_host().split(":")[0])
    with schema_context(get_public_schema_name()):
        domain = get_tenant_domain_model().objects.select_related("tenant").get(domain=host)
    return domain.tenant.schema_name

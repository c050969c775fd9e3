"""The whole schema under a name, for tools that ask for one: `manage.py export_schema`."""

from rail_async_tasks.graphql.schema import get_schema

schema = get_schema()

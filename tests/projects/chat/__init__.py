"""A project as there are many: a schema, a view with a context, the optimizer, a chat. No tasks.

Tests copy it, see that it works, and add tasks as docs/own-schema.md says. It is started in its own
folder, so that its packages are `root` and `shop`.
"""

"""The dashboard: pages for operators at `tasks/`, rendered here, kept live by htmx and one script.

It holds no rules: who may see and change a task `access` decides, what a change does `service`.
"""

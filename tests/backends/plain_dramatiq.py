"""A project's Dramatiq with no `django-dramatiq`, as the documentation has one write it:
`dramatiq tests.backends.plain_dramatiq`. The settings have set the broker.
"""

from __future__ import annotations

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.backends.plain_broker")
django.setup()

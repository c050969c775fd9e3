"""Django without GDAL, as on a machine that has none.

`strawberry_django` asks for GeoDjango twice as it is imported. Without GDAL each time is a search
for a dozen names, by the linker and, where there is one, by the C compiler: in all a second of CPU
for each process that a test starts.
"""

from __future__ import annotations

import sys

from django.core.exceptions import ImproperlyConfigured

GEOS = "django.contrib.gis.geos"


class _NoGdal:
    """An import finder: what the search would come to."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        if name == GEOS:
            raise ImproperlyConfigured("The tests use no GDAL.")


def spare_the_search() -> None:
    """Call it before Django's apps are loaded."""
    if GEOS not in sys.modules and not any(it is _NoGdal for it in sys.meta_path):
        sys.meta_path.insert(0, _NoGdal)

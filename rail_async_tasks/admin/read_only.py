"""Base of the package's pages in the admin: read only, by the one rule of access, without a count.

Superusers, and staff with `view_taskexecution`, see all of them. Nothing is added, changed or
deleted here: only the ledger writes its rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

from django.contrib import admin
from django.contrib.admin.utils import flatten_fieldsets
from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Paginator
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.functional import cached_property

from rail_async_tasks.access import Viewer

M = TypeVar("M", bound=Model)

# A list has so many rows, the newest that fit; what is older is found by search and filters.
MOST_ROWS: Final = 1000
# Filters and searches without an index compare so many of the newest rows.
MOST_COMPARED: Final = 50_000

# What an address may compare by: a regular expression that is none would be a database's error.
_COMPARISONS: Final = {
    "", "exact", "in", "isnull", "startswith", "istartswith", "contains", "icontains",
    "gt", "gte", "lt", "lte", "year", "month", "day",
}  # fmt: skip

if TYPE_CHECKING:

    class _ModelAdmin(admin.ModelAdmin[M]):
        """Django's class, which takes no type argument when it runs."""

    _Paginator = Paginator[Any]
else:

    class _ModelAdmin(admin.ModelAdmin):
        """Django's class, as a generic one."""

        def __class_getitem__(cls, kind):
            return cls

    _Paginator = Paginator


class FewPages(_Paginator):
    """Pages of the first rows of a query: it reads their ids instead of counting all rows."""

    @cached_property
    def count(self) -> int:
        """Returns the number of rows, at most `MOST_ROWS`."""
        rows: Any = self.object_list
        return len(rows.values_list("pk", flat=True)[:MOST_ROWS])


class InTheirOrder(ChangeList):
    """A list in the order of an index, whatever its address asks for."""

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> Any:
        return [*self.model_admin.get_ordering(request)]


class ReadOnlyAdmin(_ModelAdmin[M]):
    """See the module."""

    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER  # a count for each value of each filter
    paginator = FewPages
    list_per_page = 50
    list_max_show_all = 0
    # An index has the rows in their own order, and in no other.
    sortable_by = ()
    ordering = ("-pk",)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        bounds = {"subtitle": f"The first {MOST_ROWS:,} that fit"}
        return super().changelist_view(request, {**bounds, **(extra_context or {})})

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        """Returns whether an address may compare this: a column of the list, or a filter's.

        Django lets any column be compared. That would tell of masked arguments, letter by letter.
        """
        column, _, comparison = lookup.partition("__")
        filters = self.list_filter if request is None else self.get_list_filter(request)
        names = {"pk", self.date_hierarchy, *self.list_display, *map(_filter_name, filters)}
        return column in names and comparison in _COMPARISONS

    def get_queryset(self, request: HttpRequest) -> QuerySet[M]:
        rows = super().get_queryset(request)
        # Some pages of Django's look for a row before they ask for the right to see it.
        return rows if self.has_view_permission(request) else rows.none()

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return InTheirOrder

    def get_readonly_fields(self, request: HttpRequest, obj: M | None = None) -> Any:
        return flatten_fieldsets(self.fieldsets) if self.fieldsets else self.fields

    # --- who may ---------------------------------------------------------------------------------

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: M | None = None) -> bool:
        return Viewer.for_user(request.user).sees_all

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: M | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: M | None = None) -> bool:
        return False


def _filter_name(declared: Any) -> str:
    """Returns what an address calls a filter: one of ours, or as Django's `list_filter` has it."""
    if isinstance(declared, tuple):
        declared = declared[0]
    return declared if isinstance(declared, str) else getattr(declared, "parameter_name", "")


def newest(rows: QuerySet[M]) -> QuerySet[M]:
    """Returns those of the rows that are among the newest of their table."""
    table: QuerySet[M] = QuerySet(rows.model, using=rows.db).order_by("-pk")
    end = table.values_list("pk", flat=True)[MOST_COMPARED : MOST_COMPARED + 1].first()
    return rows if end is None else rows.filter(pk__gt=end)

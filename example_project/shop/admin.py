"""The shop's tables in the admin."""

from __future__ import annotations

from django.contrib import admin

from example_project.shop.models import Airport, Car, Process


@admin.register(Airport)
class AirportAdmin(admin.ModelAdmin):
    list_display = ("iata", "name", "city", "state", "country")
    list_filter = ("state",)
    search_fields = ("iata", "name", "city")


@admin.register(Car)
class CarAdmin(admin.ModelAdmin):
    list_display = ("lot", "name", "year", "origin", "horsepower", "price")
    list_filter = ("origin", "year")
    search_fields = ("name",)


@admin.register(Process)
class ProcessAdmin(admin.ModelAdmin):
    list_display = ("name", "place", "started_at")

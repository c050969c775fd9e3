"""The shop's tables: airports it delivers to, and cars it sells; and the demo's processes."""

from __future__ import annotations

from django.db import models


class Airport(models.Model):
    """A place of delivery. `iata` is the short code printed on luggage tags."""

    iata = models.CharField(max_length=8, primary_key=True)
    name = models.CharField(max_length=80)
    city = models.CharField(max_length=80)
    state = models.CharField(max_length=2, db_index=True)
    country = models.CharField(max_length=60)
    latitude = models.FloatField()
    longitude = models.FloatField()

    class Meta:
        ordering = ("iata",)

    def __str__(self) -> str:
        return f"{self.iata} {self.name}"


class Car(models.Model):
    """A car in stock, known by its lot number."""

    lot = models.PositiveIntegerField(primary_key=True)
    name = models.CharField(max_length=80)
    year = models.PositiveSmallIntegerField()
    origin = models.CharField(max_length=20)
    cylinders = models.PositiveSmallIntegerField()
    horsepower = models.PositiveSmallIntegerField(null=True)
    weight_lbs = models.PositiveIntegerField()
    miles_per_gallon = models.FloatField(null=True)
    price = models.DecimalField(max_digits=10, decimal_places=2, null=True)

    class Meta:
        ordering = ("lot",)

    def __str__(self) -> str:
        return f"{self.name} ({self.year})"


class Process(models.Model):
    """A process of the distributed demo, as its supervisor has started it."""

    name = models.CharField(max_length=40)
    place = models.CharField(max_length=255, help_text="Host and process id.")
    started_at = models.DateTimeField()

    class Meta:
        ordering = ("-started_at",)
        verbose_name_plural = "processes"

    def __str__(self) -> str:
        return f"{self.name} ({self.place})"

"""One user model per kind of primary key, and a model that refers to tasks."""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.db import models


class NamedUser(AbstractBaseUser):
    """The fields that all have: a key, a name, and an unused password."""

    username = models.CharField(max_length=50)
    objects: Any = BaseUserManager()
    USERNAME_FIELD = "username"

    class Meta:
        abstract = True


class SmallUser(NamedUser):
    id = models.SmallIntegerField(primary_key=True)


class UuidUser(NamedUser):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)


class SlugUser(NamedUser):
    slug = models.SlugField(primary_key=True)


class AddressUser(NamedUser):
    """Its column has a type of its own on PostgreSQL, which refuses other texts by itself."""

    address = models.GenericIPAddressField(primary_key=True)


class StaffManager(BaseUserManager["KnownUser"]):
    def get_queryset(self) -> Any:
        return super().get_queryset().filter(left=False)


class KnownUser(NamedUser):
    """The default manager knows only those who have not left."""

    code = models.CharField(max_length=8, primary_key=True)
    left = models.BooleanField(default=False)
    objects: Any = StaffManager()
    everybody: Any = models.Manager()


class Receipt(models.Model):
    """A row of the project's that keeps its task from being deleted."""

    execution = models.ForeignKey("rail_async_tasks.TaskExecution", on_delete=models.PROTECT)

"""The same tools in Django's test case: `python -m example_project.manage test`."""

from __future__ import annotations

from django.test import TestCase

from example_project.shop.models import Car
from example_project.shop.tasks import always_fails, import_cars
from rail_async_tasks import TaskFailed
from rail_async_tasks.testing import TaskTestMixin


class ImportTests(TaskTestMixin, TestCase):
    def test_the_cars_come_in_once(self):
        for _ in range(2):  # a row that exists is updated
            import_cars.enqueue()
        self.assertEqual([it.status for it in self.tasks.run()], ["completed", "completed"])
        self.assertEqual(Car.objects.count(), 406)

    def test_the_card_stays_expired(self):
        handle = always_fails.enqueue()
        self.tasks.run()
        self.tasks.advance(0.5)
        (ran,) = self.tasks.run()
        self.assertIsInstance(ran.__cause__, ValueError)
        with self.assertRaisesMessage(TaskFailed, "The card expired in 1982."):
            handle.result()

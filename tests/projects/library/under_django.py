"""The tools in Django's test cases. Run by `tests/testing`, under Django's runner and pytest."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

from django.contrib.auth.models import Group, User
from django.db import connection
from django.test import LiveServerTestCase, SimpleTestCase, TestCase, TransactionTestCase

from rail_async_tasks import TaskFailed, WouldWaitForever
from rail_async_tasks.models import TaskExecution
from rail_async_tasks.testing import TaskTestMixin, arun_task, run_task, subscribe
from tests.projects.library.tasks import burn, give_back, lend, remind

LEND = 'mutation { lend(title: "Emma", days: 3) { taskId status } }'
FOLLOW = "subscription($id: ID!) { taskProgress(taskId: $id) { status } }"


class _Tests(TaskTestMixin):
    """The same in a transaction and without one."""

    tests: Any

    def setUp(self) -> None:  # without `super()`, as many write it
        assert not TaskExecution.objects.exists()
        assert not Group.objects.exists()
        lend.enqueue(title="set up")
        self.tasks.assert_enqueued(lend, title="set up")

    def test_a_mutation(self: Any) -> None:
        answer = self.client.post("/graphql/", {"query": LEND}, content_type="application/json")
        self.assertEqual(answer.json()["data"]["lend"]["status"], "pending")
        handle = self.tasks.assert_enqueued(lend, title="Emma")
        with self.assertRaisesRegex(WouldWaitForever, r"self\.tasks\.run\(\)"):
            handle.result(60)
        self.assertEqual([it.status for it in self.tasks.run()], ["completed"] * 2)
        self.assertEqual(handle.result()["days"], 3)
        self.assertEqual(Group.objects.count(), 2)

    def test_a_retry(self: Any) -> None:
        remind.enqueue(title="Emma")
        for seconds in (0, 10, 20):
            self.tasks.advance(seconds)
            (ran,) = self.tasks.run(remind)
        self.assertEqual((ran.result(), ran.snapshot.attempts), (3, 3))

    def test_one_body(self: Any) -> None:
        self.assertEqual(run_task(lend, title="a").progress[-1], (100, None))
        self.assertEqual(self.tasks.run_task(give_back, title="a").result, 1)

    async def test_in_a_coroutine(self: Any) -> None:
        await Group.objects.acreate(name="before")
        await lend.aenqueue(title="Emma")
        burning = await burn.aenqueue(title="Emma")
        with self.assertRaises(WouldWaitForever):
            await burning.aresult(60)
        self.assertEqual(len(self.tasks.enqueued(lend)), 2)
        self.assertEqual([it.name for it in self.tasks.run(lend)], ["lend", "lend"])
        self.assertEqual([it.name for it in await self.tasks.arun()], ["burn"])
        with self.assertRaises(TaskFailed):
            await burning.aresult()
        names = [it.name async for it in Group.objects.order_by("name")]
        self.assertEqual(names, ["Emma", "ashes of Emma", "before", "set up"])
        self.assertEqual((await arun_task(give_back, title="before")).result, 1)
        self.assertEqual(run_task(give_back, title="Emma").result, 1)

    async def test_a_subscription(self: Any) -> None:
        ann = await User.objects.acreate(username="ann")
        handle = await lend.using(owner=ann).aenqueue(title="Emma")
        updates = subscribe(FOLLOW, {"id": str(handle.id)}, user=ann)
        seen = [await anext(updates)]
        await self.tasks.arun()
        seen += [it async for it in updates]
        self.assertEqual(seen[0]["taskProgress"]["status"], "pending")
        self.assertEqual(seen[-1]["taskProgress"]["status"], "completed")


class InATransaction(_Tests, TestCase):
    @classmethod
    def setUpTestData(cls) -> None:
        cls.ann = User.objects.create(username="ann of all")

    def test_it_is_one(self) -> None:
        self.assertTrue(connection.in_atomic_block)
        lend.using(owner=self.ann).enqueue(title="hers")
        self.tasks.run()


class WithCommits(_Tests, TransactionTestCase):
    def test_there_is_none(self) -> None:
        self.assertFalse(connection.in_atomic_block)


class AgainstALiveServer(TaskTestMixin, LiveServerTestCase):
    def test_its_tasks_are_held(self) -> None:
        request = urllib.request.Request(
            f"{self.live_server_url}/graphql/",
            json.dumps({"query": LEND}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request) as answer:
            self.assertEqual(json.load(answer)["data"]["lend"]["status"], "pending")
        self.tasks.assert_enqueued(lend, title="Emma")
        self.assertEqual([it.status for it in self.tasks.run()], ["completed"])


class WithoutTheTools(TestCase):
    def test_a_result_in_the_transaction(self) -> None:
        """It would never come."""
        handle = lend.enqueue(title="Emma")
        with self.assertRaisesRegex(WouldWaitForever, "inside the transaction"):
            handle.result(60)

    async def test_a_result_in_a_coroutine(self) -> None:
        handle = await lend.aenqueue(title="Emma")
        with self.assertRaisesRegex(WouldWaitForever, "inside the transaction"):
            await handle.aresult(60)


class TheOrderOfTheBases(SimpleTestCase):
    def test_is_checked(self) -> None:
        with self.assertRaisesRegex(TypeError, r"class Wrong\(TaskTestMixin, TestCase\)"):

            class Wrong(TestCase, TaskTestMixin):
                pass

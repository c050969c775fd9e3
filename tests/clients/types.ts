// Lines that a type checker must accept, and lines that it must not: see test_types.py.
import { TaskError, configure, request, watchTask } from "../../rail_async_tasks/static/rail_async_tasks/task.js";
import type { RailTask, Task, TaskStatus, TaskWatch } from "../../rail_async_tasks/static/rail_async_tasks/task.js";

type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
const same = <A, B>(_: Same<A, B>): void => {};

interface Report {
  pages: number;
}

export async function use(id: string): Promise<void> {
  for await (const task of watchTask<Report>(id)) {
    same<typeof task.status, TaskStatus>(true);
    same<typeof task.result, Report | null>(true);
    // @ts-expect-error: a status that there is not
    if (task.status === "done") return;
  }

  const plain: TaskWatch = watchTask(id);
  same<typeof plain.task, Task | null>(true);
  const final = await watchTask<Report, { queue: string }>(id, {
    fields: ["queue"],
    bearer: async () => "token",
    transports: ["ws", "sse"],
    signal: AbortSignal.timeout(1000),
    onUpdate: ({ progress, queue }) => same<[typeof progress, typeof queue], [number, string]>(true),
    onError: ({ code }) => same<typeof code, string>(true),
    onConnection: (transport) => same<typeof transport, "ws" | "sse" | "poll" | null>(true),
  }).ended;
  same<typeof final.queue, string>(true);
  // @ts-expect-error: no number
  watchTask(7);
  // @ts-expect-error: a transport that there is not
  watchTask(id, { transports: ["carrier pigeon"] });
  // @ts-expect-error: a misspelt option
  watchTask(id, { onUpdated: () => {} });
  // @ts-expect-error: read only
  plain.task = null;

  const { generateReport } = await request<{ generateReport: { taskId: string } }>("mutation { … }");
  same<typeof generateReport.taskId, string>(true);
  const error = new TaskError("NOT_FOUND", "Task not found.");
  same<typeof error.extensions, Record<string, unknown>>(true);

  configure({ url: "/api/graphql/", texts: { completed: "Fertig", NOT_FOUND: "Weg" } });
  // @ts-expect-error: callbacks are for one watch
  configure({ onEnd: () => {} });

  const element = document.createElement("rail-task");
  same<typeof element, RailTask>(true);
  element.addEventListener("rail-task-end", ({ detail }) => same<typeof detail, Task>(true));
  document.addEventListener("rail-task-error", ({ detail }) => same<typeof detail, TaskError>(true));
}

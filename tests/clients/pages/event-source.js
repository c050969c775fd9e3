// The browser's own EventSource: over GraphQL by GET, and over the REST stream of one task.
import { CANCEL, FINAL, HTTP_URL, WATCH, post, startOf } from "./documents.js";

/** A broken EventSource reconnects, but not after an answer that is no stream: then it calls `onerror`. */
function follow(url, { snapshots, read, ends }, sink) {
  const source = new EventSource(url);
  const end = (how) => {
    source.close();
    how();
  };
  source.addEventListener(snapshots, (event) => {
    const snapshot = read(JSON.parse(event.data));
    sink.next(snapshot);
    if (!ends && FINAL.has(snapshot.status)) end(sink.done);
  });
  if (ends) source.addEventListener(ends, () => end(sink.done));
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) sink.broken(new Error("EventSource is closed"));
  });
}

const changes = {
  resumes: false,
  start: async (task) => (await post(startOf(task))).it.taskId,
  cancel: (id) => post(CANCEL, { id }),
};

export const eventSourceOverGraphql = () => ({
  ...changes,
  watch(id, sink) {
    const query = new URLSearchParams({ query: WATCH, variables: JSON.stringify({ id }) });
    const how = { snapshots: "next", read: ({ data }) => data.taskProgress, ends: "complete" };
    follow(`${HTTP_URL}?${query}`, how, sink);
  },
});

export const eventSourceOverRest = () => ({
  ...changes,
  watch(id, sink) {
    follow(`/api/v1/tasks/${id}/events/`, { snapshots: "task", read: (task) => task }, sink);
  },
});

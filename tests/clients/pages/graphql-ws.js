// graphql-ws, which does everything over one WebSocket and reconnects by itself.
import { createClient } from "graphql-ws";
import { CANCEL, WATCH, WS_URL, pause, startOf } from "./documents.js";

/**
 * Retries while no server listens too, which the browser reports by an event without a close code.
 * The client's own list of final close codes still holds, so that a wrong code is noticed.
 */
export const webSocketClient = () =>
  createClient({ url: WS_URL, retryAttempts: 100, retryWait: pause, shouldRetry: () => true });

export function graphqlWs() {
  const client = webSocketClient();
  const once = async (query, variables) => {
    for await (const { data, errors } of client.iterate({ query, variables })) {
      if (errors) throw new Error(errors[0].message);
      return data;
    }
  };
  return {
    resumes: true,
    start: async (task) => (await once(startOf(task))).it.taskId,
    cancel: (id) => once(CANCEL, { id }),
    watch(id, sink) {
      client.subscribe(
        { query: WATCH, variables: { id } },
        {
          next: ({ data }) => sink.next(data.taskProgress),
          complete: sink.done,
          error: sink.broken,
        },
      );
    },
  };
}

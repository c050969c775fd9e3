// graphql-sse with distinct connections: every operation is a stream, queries and mutations too.
import { createClient } from "graphql-sse";
import { CANCEL, HTTP_URL, WATCH, pause, startOf } from "./documents.js";

export function graphqlSse() {
  const client = createClient({ url: HTTP_URL, retryAttempts: 100, retry: pause });
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

// A page's client over graphql-ws or graphql-sse, whose clients have one interface.
import { CANCEL, WATCH, startOf } from "./documents.js";

/** Both reconnect by themselves. */
export function over(client) {
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

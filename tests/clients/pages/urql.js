// urql: everything over HTTP, subscriptions as server-sent events; or those by graphql-ws.
import { CANCEL, HTTP_URL, WATCH, startOf } from "./documents.js";
import { webSocketClient } from "./graphql-ws.js";

function over(client, resumes) {
  const change = async (document, variables) => {
    const { data, error } = await client.mutation(document, variables).toPromise();
    if (error) throw error;
    return data;
  };
  return {
    resumes,
    start: async (task) => (await change(startOf(task), {})).it.taskId,
    cancel: (id) => change(CANCEL, { id }),
    // At the end urql repeats the last result, with `hasNext` false.
    watch(id, sink) {
      client.subscription(WATCH, { id }).subscribe(({ data, error, hasNext }) => {
        if (hasNext) sink.next(data.taskProgress);
        else if (error) sink.broken(error);
        else sink.done();
      });
    },
  };
}

/** urql of either major version that is tested, with its stock exchanges. */
export function urqlByFetch({ Client, fetchExchange }) {
  const client = new Client({
    url: HTTP_URL,
    exchanges: [fetchExchange],
    fetchSubscriptions: true,
    preferGetMethod: true,
  });
  return over(client, false);
}

export function urqlByWebSocket({ Client, fetchExchange, subscriptionExchange }) {
  const sockets = webSocketClient();
  const client = new Client({
    url: HTTP_URL,
    exchanges: [
      fetchExchange,
      subscriptionExchange({
        forwardSubscription: ({ query, variables }) => ({
          subscribe: (sink) => ({ unsubscribe: sockets.subscribe({ query, variables }, sink) }),
        }),
      }),
    ],
  });
  return over(client, true);
}

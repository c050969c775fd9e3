// Apollo Client: HTTP for queries and mutations, graphql-ws for subscriptions.
import { ApolloClient, ApolloLink, HttpLink, InMemoryCache, gql } from "@apollo/client";
import { GraphQLWsLink } from "@apollo/client/link/subscriptions";
import { OperationTypeNode } from "graphql";
import { CANCEL, HTTP_URL, WATCH, startOf } from "./documents.js";
import { webSocketClient } from "./graphql-ws.js";

export function apollo() {
  const client = new ApolloClient({
    cache: new InMemoryCache(),
    link: ApolloLink.split(
      ({ operationType }) => operationType === OperationTypeNode.SUBSCRIPTION,
      new GraphQLWsLink(webSocketClient()),
      new HttpLink({ uri: HTTP_URL }),
    ),
  });
  const change = async (document, variables) => {
    const { data } = await client.mutate({ mutation: gql(document), variables });
    return data;
  };
  return {
    resumes: true,
    start: async (task) => (await change(startOf(task), {})).it.taskId,
    cancel: (id) => change(CANCEL, { id }),
    watch(id, sink) {
      client.subscribe({ query: gql(WATCH), variables: { id } }).subscribe({
        next: ({ data, error }) => (error ? sink.broken(error) : sink.next(data.taskProgress)),
        complete: sink.done,
        error: sink.broken,
      });
    },
  };
}

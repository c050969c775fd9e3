// graphql-sse with distinct connections: every operation is a stream, queries and mutations too.
import { createClient } from "graphql-sse";
import { HTTP_URL, pause } from "./documents.js";
import { over } from "./one-client.js";

export const graphqlSse = () =>
  over(createClient({ url: HTTP_URL, retryAttempts: 100, retry: pause }));

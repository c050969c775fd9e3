import * as urql from "@urql/core";
import * as urql4 from "urql-core-4";
import { apollo } from "./apollo.js";
import { eventSourceOverGraphql, eventSourceOverRest } from "./event-source.js";
import { graphqlSse } from "./graphql-sse.js";
import { graphqlWs } from "./graphql-ws.js";
import { show } from "./shell.js";
import { urqlByFetch, urqlByWebSocket } from "./urql.js";

show({
  urql: () => urqlByFetch(urql),
  "urql-4": () => urqlByFetch(urql4),
  "urql-ws": () => urqlByWebSocket(urql),
  apollo,
  "graphql-ws": graphqlWs,
  "graphql-sse": graphqlSse,
  "event-source": eventSourceOverGraphql,
  "event-source-rest": eventSourceOverRest,
});

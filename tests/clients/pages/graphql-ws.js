// graphql-ws, which does everything over one WebSocket.
import { createClient } from "graphql-ws";
import { WS_URL, pause } from "./documents.js";
import { over } from "./one-client.js";

/**
 * Retries while no server listens too, which the browser reports by an event without a close code.
 * The client's own list of final close codes still holds, so that a wrong code is noticed.
 */
export const webSocketClient = () =>
  createClient({ url: WS_URL, retryAttempts: 100, retryWait: pause, shouldRetry: () => true });

export const graphqlWs = () => over(webSocketClient());

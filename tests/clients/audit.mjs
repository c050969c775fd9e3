// The audits of graphql-http: what GraphQL over HTTP asks of a server.
//
//   node audit.mjs '{"url": …}'   prints {"id": {"name": …, "reason": null, or why it failed}}

import { serverAudits } from "graphql-http";

import { place } from "./harness.mjs";

const found = {};
for (const { id, name, fn } of serverAudits({ url: place.url })) {
  const { status, reason, response } = await fn();
  const answer = response && `${response.status} ${response.headers.get("content-type")}`;
  found[id] = { name, reason: status === "ok" ? null : `${reason} (${answer})` };
}
process.stdout.write(`${JSON.stringify(found)}\n`);

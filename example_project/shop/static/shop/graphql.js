// GraphQL over HTTP, and the documents that the page sends beside those of its buttons.

export const ROW = `fragment Row on TaskExecution {
  id name status progress progressMessage result error errorCode
  cancelRequested attempts maxRetries parentId seq step createdAt startedAt completedAt
}`;

export const UPDATES = `subscription { myTaskUpdates { ...Row } }\n${ROW}`;
export const CANCEL = `mutation Cancel($id: ID!) {\n  cancelTask(id: $id) { ...Row }\n}`;
export const RETRY = `mutation Retry($id: ID!) {\n  retryTask(id: $id) { taskId task { ...Row } }\n}`;
export const WHERE = `query Where($ids: [UUID!]!) {
  whereItRan(ids: $ids) { taskId attempt process host pid }
}`;
export const STOCK = `{ stock { airports cars averagePrice } }`;

// The newest of each name, so that a hundred of one do not push out the others.
export function history(names) {
  const lists = names.map(
    (name, i) => `  n${i}: tasks(name: "${name}", limit: ${name === "tick" ? 100 : 5}) { ...Row }`,
  );
  return `{\n${lists.join("\n")}\n}\n${ROW}`;
}

// Gives back {data, errors}; an answer that is no GraphQL becomes an error too.
export async function send(query, variables) {
  try {
    const response = await fetch("/graphql/", {
      method: "POST",
      headers: { "Content-Type": "application/json", Accept: "application/json" },
      body: JSON.stringify({ query, variables }),
    });
    const text = await response.text();
    try {
      return JSON.parse(text);
    } catch {
      return { errors: [{ message: `The server answered ${response.status}.` }] };
    }
  } catch {
    return { errors: [{ message: "The server cannot be reached." }] };
  }
}

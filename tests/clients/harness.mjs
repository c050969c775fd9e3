// Runs a file's cases against the server that Python has started, and prints what became of each.
//
//   node FILE.mjs '{"url": …, "ws": …, "token": …}'
//
// One JSON object on the last line of stdout: {"case": null, or why it failed}.

export const place = JSON.parse(process.argv[2]);

const LIMIT_MS = 120_000;

export async function run(cases, { atOnce = true } = {}) {
  const outcomes = [];
  // All at once: most of a case is waiting.
  const running = Object.entries(cases).map(([name, run], place) => async () => {
    outcomes[place] = [name, await outcome(run)];
  });
  if (atOnce) await Promise.all(running.map((it) => it()));
  else for (const it of running) await it();
  process.stdout.write(`${JSON.stringify(Object.fromEntries(outcomes))}\n`, () => process.exit(0));
}

async function outcome(run) {
  let timer;
  const late = new Promise((_, fail) => {
    timer = setTimeout(() => fail(new Error(`not over after ${LIMIT_MS} ms`)), LIMIT_MS);
  });
  try {
    await Promise.race([run(), late]);
    return null;
  } catch (error) {
    return described(error);
  } finally {
    clearTimeout(timer);
  }
}

export function described(error) {
  if (error instanceof Error) return error.stack;
  if (error?.code) return `closed: ${error.code} ${error.reason}`;
  return JSON.stringify(error);
}

// The operations of the server's schema: tests/projects/shop.py.
export const SHELVES = { query: "{ shelves }" };
export const MISSING = {
  query: 'subscription { taskProgress(taskId: "0193b1a4-7c1e-7000-8000-000000000001") { id } }',
};
export const WHOAMI = { query: "mutation { whoami { task { ownerId } } }" };

export const climb = (steps, pause) => ({
  query: "mutation($steps: Int!, $pause: Float!) { climb(steps: $steps, pause: $pause) { taskId status } }",
  variables: { steps, pause },
});
export const follow = (taskId) => ({
  query: "subscription($id: ID!) { taskProgress(taskId: $id) { status progress seq step } }",
  variables: { id: taskId },
});

// Starts a task over plain HTTP, and gives its id.
export async function started(steps, pause) {
  const response = await fetch(place.url, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(climb(steps, pause)),
  });
  return (await response.json()).data.climb.taskId;
}

// Everything that an operation yields, once it is over; rejects with what ended it otherwise.
// `onNext` may call `stop()`.
export function results(client, operation, onNext = () => {}) {
  return new Promise((resolve, reject) => {
    const yielded = [];
    const stop = client.subscribe(operation, {
      next: (result) => {
        yielded.push(result);
        onNext(result, () => stop());
      },
      error: reject,
      complete: () => resolve(yielded),
    });
  });
}

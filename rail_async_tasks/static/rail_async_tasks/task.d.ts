// The types of task.js. The other modules of this folder are its parts, not for pages.

export type TaskStatus = "pending" | "running" | "completed" | "failed" | "cancelled" | "retrying";

/** The fields of `TaskExecution` that are always asked for. */
export interface Task<Result = unknown> {
  id: string;
  name: string;
  status: TaskStatus;
  /** 0 to 100. It may fall: a retry starts at 0 again. */
  progress: number;
  progressMessage: string | null;
  /** What the task returned; null unless it is completed. */
  result: Result | null;
  error: string | null;
  errorCode: string | null;
  cancelRequested: boolean;
  attempts: number;
  maxRetries: number;
  /** `(seq, step)` only grows; older states than the known one are ignored. */
  seq: number;
  step: number;
}

export type Transport = "ws" | "sse" | "poll";

export interface RequestOptions {
  /** The GraphQL endpoint, absolute or relative to the page. Default: "/graphql/". */
  url?: string;
  /** A bearer token, or a function that returns one. Watches with the same one share a socket. */
  bearer?: string | null | (() => string | null | undefined | Promise<string | null | undefined>);
  /** Further headers of HTTP requests. A socket has none: use `bearer`. */
  headers?: HeadersInit | (() => HeadersInit | Promise<HeadersInit>);
  /** Of `fetch`. Default: "same-origin"; "include" sends the cookies of another site. */
  credentials?: RequestCredentials;
  /** Ends the watch or the request. */
  signal?: AbortSignal;
}

export interface WatchOptions<Result = unknown, Fields = object> extends RequestOptions {
  /** Where a WebSocket is opened. Default: `url` with ws: for http:, wss: for https:. */
  wsUrl?: string;
  /** What may be used, whatever the order. Default: ["ws", "sse", "poll"]. */
  transports?: readonly Transport[];
  /** Milliseconds before the next try after so many failures in a row. */
  retryDelay?: (failures: number) => number;
  /** Further fields of `TaskExecution`, such as "queue". */
  fields?: readonly (keyof Fields & string)[];
  /** The setting `rename` of the server, as far as it names these two. */
  rename?: { task?: string; taskProgress?: string };
  /** The task as it stands, then each newer state, the final one too. */
  onUpdate?: (task: Task<Result> & Fields) => void;
  /** Once, after the final state. */
  onEnd?: (task: Task<Result> & Fields) => void;
  /** Once, in place of `onEnd`: the server refuses for good. Not after `stop()` or an abort. */
  onError?: (error: TaskError) => void;
  /** The transport that now delivers; null while there is none. */
  onConnection?: (transport: Transport | null) => void;
}

/**
 * A watch of one task. `for await` yields the task as it stands and then its newer states; a slow
 * loop may miss one in between, never the final one. Leaving the loop stops the watch.
 */
export interface TaskWatch<T = Task> extends AsyncIterable<T> {
  /** The newest state; null before the first. */
  readonly task: T | null;
  readonly isOver: boolean;
  /** The final state. Rejects with the TaskError of a refusal, or with the reason of a stop. */
  readonly ended: Promise<T>;
  stop(reason?: unknown): void;
}

/** Follows a task to its end: by WebSocket, else server-sent events, else by asking again. */
export function watchTask<Result = unknown, Fields = object>(
  id: string,
  options?: WatchOptions<Result, Fields>,
): TaskWatch<Task<Result> & Fields>;

/** Sends a query or a mutation; returns its data. Throws a TaskError for its first error. */
export function request<Data = Record<string, any>>(
  document: string,
  variables?: Record<string, unknown>,
  options?: RequestOptions,
): Promise<Data>;

export interface PageOptions extends Omit<WatchOptions, "signal" | `on${string}`> {
  /** Words by status, by state of the connection and by error code, for pages in other languages. */
  texts?: Partial<Record<TaskStatus | "connecting" | "cancelling" | "lost", string>> & Record<string, string>;
}

/** Sets options for every element, and for watches and requests that begin later. */
export function configure(options: PageOptions): void;

/**
 * A refusal, or a failed request. `code` is the server's `extensions.code`, or one of
 * UNREACHABLE, UNAUTHENTICATED, PROTOCOL, UNSUPPORTED, GRAPHQL_ERROR and HTTP_<status>.
 */
export class TaskError extends Error {
  constructor(code: string, message: string, extensions?: Record<string, unknown>);
  readonly code: string;
  readonly extensions: Record<string, unknown>;
  /** Whether a later try may succeed. */
  readonly temporary: boolean;
}

/** `<rail-task id="…">`: a bar that follows a task. */
export class RailTask extends HTMLElement {
  readonly task: Task | null;
  readonly error: TaskError | null;
  /** Follows the task anew. */
  restart(): void;
}

declare global {
  interface HTMLElementTagNameMap {
    "rail-task": RailTask;
  }
  interface GlobalEventHandlersEventMap {
    "rail-task-update": CustomEvent<Task>;
    "rail-task-end": CustomEvent<Task>;
    "rail-task-error": CustomEvent<TaskError>;
  }
}

/** Fairlead topics in a browser. Served beside `$client.js`; the rules are at the top of that file. */

/** One event. `data` is the JSON value, the text, or the bytes, by the topic's content type. `at` is in seconds since 1970. */
export interface TopicEvent<T = unknown> {
  readonly offset: string;
  readonly type: string;
  readonly key: string;
  readonly at: number;
  readonly data: T;
}

/** Events are missing: the server keeps none before `earliest` any more, or left out `dropped` of them because we were slow. */
export interface Gap {
  readonly topic: string;
  readonly earliest: string | null;
  readonly next: string;
  readonly dropped: number;
}

export type State = "connecting" | "open" | "over";

export interface Handlers<T = unknown> {
  /** Where to begin: an offset, "-1" for all that is kept, "now" (the default) for what comes. */
  after?: string;
  event?(event: TopicEvent<T>, from: Following): void;
  gap?(gap: Gap, from: Following): void;
  /** The topic has ended, or was deleted. */
  end?(reason: "closed" | "gone", from: Following): void;
  state?(state: State, from: Following): void;
  /** It cannot be followed, and trying again would not help: no such topic, not allowed. */
  error?(error: TopicError, from: Following): void;
}

export interface Options {
  /** "auto": an EventSource for one topic, a WebSocket for more. */
  via?: "auto" | "eventsource" | "websocket";
  /** Milliseconds of the first pause before a reconnect, and of the longest. */
  least?: number;
  most?: number;
  /** Milliseconds for a publish or a read, repetitions included. */
  timeout?: number;
  /** The one topic of a route that names it: the base is its URL then. */
  name?: string;
  withCredentials?: boolean;
}

export interface Following {
  readonly topic: string;
  /** Go on after this. null while "now" is being asked for. */
  readonly offset: string | null;
  readonly state: State;
  readonly via: "eventsource" | "websocket";
  stop(): void;
}

export interface PublishOptions {
  type?: string;
  key?: string;
  /** The same text again appends nothing; a random one by default. */
  dedupe?: string;
  contentType?: string;
  timeout?: number;
}

export interface Page<T = unknown> {
  readonly events: TopicEvent<T>[];
  readonly next: string;
  readonly upToDate: boolean;
  readonly closed: boolean;
}

/** `status` is the server's, 0 when it was not reached. */
export class TopicError extends Error {
  constructor(message: string, status?: number);
  readonly status: number;
}

export class Topics {
  /** `base`: the topic route's URL without the topic's name. */
  constructor(base: string | URL, options?: Options);
  follow<T = unknown>(topic?: string, handlers?: Handlers<T>): Following;
  publish(topic: string, data: unknown, options?: PublishOptions): Promise<{ offset: string; duplicate: boolean }>;
  read<T = unknown>(topic?: string, after?: string, timeout?: number): Promise<Page<T>>;
  close(): void;
}

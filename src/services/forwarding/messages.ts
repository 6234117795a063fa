/**
 * The messages about forwarded calls between a read worker and the main thread. A message consists of three lists, for numbers, texts and bytes, as
 * in the feed of a copy, because such lists are the cheapest to move to another thread.
 */
import { type ChangeMessage, MessageBuffer } from "../../catalog/copy/change-codec.ts";
import { assert, type SentError } from "../../lib/errors.ts";
import type { Caller } from "../../policy/identity/caller.ts";
import type { RouteAnswer, RouteParameters } from "../service.ts";

/**
 * Codes of messages from the worker. Each code is followed by the id of a call. The sender writes the fields in the listed order, and the receiver
 * reads them in the same order.
 */
export const ASKED = {
  /**
   * Starts a call with one answer. Fields: the index of its caller in `callers`, the path of its rpc or route, its request id, and the bytes of its
   * request.
   */
  CALL: 1,
  /** Starts a call that is answered with a stream. The fields are the same. The call permits the main thread to send one message. */
  OPEN: 2,
  /** Permits one more message on the stream. */
  MORE: 3,
  /** Reports that the client is no longer waiting for the answer, or is no longer reading the stream. */
  CLOSE: 4,
} as const;

export interface CallRequests {
  readonly said: ChangeMessage;
  readonly callers: readonly Caller[];
}

/** Codes of messages from the main thread. Each code is followed by the id of a call. */
export const ANSWERED = {
  /** Ends the call. Field: the bytes of its answer. */
  ANSWER: 1,
  /** Ends the call or the stream with an error. Field: the index of the error in `errors`. */
  FAILED: 2,
  /** Reports that the stream is open. */
  OPENED: 3,
  /** Carries one message on the stream. */
  MESSAGE: 4,
  /** Ends the stream. */
  ENDED: 5,
} as const;

export interface CallAnswers {
  readonly said: ChangeMessage;
  readonly errors: readonly SentError[];
}

/** Encodes the parameters of a request to a route. */
export function encodeParameters(parameters: RouteParameters): Uint8Array {
  return Buffer.from(JSON.stringify(parameters));
}

export function decodeParameters(bytes: Uint8Array): RouteParameters {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the bytes come from `encodeParameters`
  return JSON.parse(textOf(bytes)) as RouteParameters;
}

/** Encodes the page that a route returned. */
export function encodeRouteAnswer(answer: RouteAnswer): Uint8Array {
  assert(answer.kind !== "pieces", "a forwarded route has a streamed answer");
  const sent: RouteAnswer = answer.kind === "page" ? answer : { kind: "page", page: answer.page(), steady: answer.mark };
  return Buffer.from(JSON.stringify(sent));
}

export function decodeRouteAnswer(bytes: Uint8Array): RouteAnswer {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the bytes come from `encodeRouteAnswer`
  return JSON.parse(textOf(bytes)) as RouteAnswer;
}

function textOf({ buffer, byteOffset, length }: Uint8Array): string {
  return Buffer.from(buffer, byteOffset, length).toString();
}

/** Collects messages, and the objects of one type to which they refer, until `take` is called. */
export class ObjectBuffer<T> {
  readonly out = new MessageBuffer();
  readonly #wake: () => void;
  #objects: T[] = [];
  #places = new Map<T, number>();
  #isAwake = false;

  /** `wake` is called when messages are pending, and at most once before each `take`. */
  constructor(wake: () => void) {
    this.#wake = wake;
  }

  /** Reports that a message was written to `out`. */
  touch(): void {
    if (this.#isAwake) return;
    this.#isAwake = true;
    this.#wake();
  }

  /**
   * Returns the index of an object. The object is sent only once even if several messages refer to it. All calls on a stream have the same caller.
   */
  place(object: T): number {
    const known = this.#places.get(object);
    if (known !== undefined) return known;
    this.#places.set(object, this.#objects.length);
    return this.#objects.push(object) - 1;
  }

  /** Returns and removes all messages since the last call. Undefined if there are none. */
  take(): { readonly said: ChangeMessage; readonly objects: readonly T[] } | undefined {
    this.#isAwake = false;
    if (this.out.isEmpty) return undefined;
    const taken = { said: this.out.take(), objects: this.#objects };
    this.#objects = [];
    this.#places = new Map();
    return taken;
  }
}

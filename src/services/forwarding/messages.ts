/**
 * What a read worker and the main thread say to each other about calls that the worker forwards. The numbers, texts and bytes of what is said lie
 * in three lists, as in the feed of a copy, because a message to another thread moves such lists at the least cost.
 */
import { type ChangeMessage, MessageBuffer } from "../../catalog/copy/change-codec.ts";
import { assert, type SentError } from "../../lib/errors.ts";
import type { Caller } from "../../policy/identity/caller.ts";
import type { RouteAnswer, RouteParameters } from "../service.ts";

/** What the worker says, with the id of a call. The fields of each are in the order in which one end writes and the other reads them. */
export const ASKED = {
  /** A call that is answered once: the place of its caller in `callers`, the path of its rpc or route, its request id, the bytes of its request. */
  CALL: 1,
  /** A call that is answered with a stream, in the same form. One message may be sent. */
  OPEN: 2,
  /** One more message may be sent. */
  MORE: 3,
  /** The client no longer waits for the answer, or no longer reads the stream. */
  CLOSE: 4,
} as const;

export interface CallRequests {
  readonly said: ChangeMessage;
  readonly callers: readonly Caller[];
}

/** What the main thread says, with the id of a call. */
export const ANSWERED = {
  /** The call is over: the bytes of its answer. */
  ANSWER: 1,
  /** The call is over, or the stream: the place of its error in `errors`. */
  FAILED: 2,
  /** The request of the stream was taken. */
  OPENED: 3,
  /** One message of the stream. */
  MESSAGE: 4,
  /** The stream is over. */
  ENDED: 5,
} as const;

export interface CallAnswers {
  readonly said: ChangeMessage;
  readonly errors: readonly SentError[];
}

/** The parameters of a request to a route, as bytes. */
export function encodeParameters(parameters: RouteParameters): Uint8Array {
  return Buffer.from(JSON.stringify(parameters));
}

export function decodeParameters(bytes: Uint8Array): RouteParameters {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- only `encodeParameters` writes them
  return JSON.parse(textOf(bytes)) as RouteParameters;
}

/** A page, as bytes. */
export function encodeRouteAnswer(answer: RouteAnswer): Uint8Array {
  assert(answer.kind === "page", "a route with an answer in pieces is not forwarded");
  return Buffer.from(JSON.stringify(answer));
}

export function decodeRouteAnswer(bytes: Uint8Array): RouteAnswer {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- only `encodeRouteAnswer` writes it
  return JSON.parse(textOf(bytes)) as RouteAnswer;
}

function textOf({ buffer, byteOffset, length }: Uint8Array): string {
  return Buffer.from(buffer, byteOffset, length).toString();
}

/** Gathers what is said with objects of one kind, until it is taken. */
export class ObjectBuffer<T> {
  readonly out = new MessageBuffer();
  readonly #wake: () => void;
  #objects: T[] = [];
  #places = new Map<T, number>();
  #isAwake = false;

  /** `wake` is called when there is something to take, once until it is taken. */
  constructor(wake: () => void) {
    this.#wake = wake;
  }

  /** Notes that something is said. */
  touch(): void {
    if (this.#isAwake) return;
    this.#isAwake = true;
    this.#wake();
  }

  /** The place of an object. It goes once, however often it is said: all calls of a stream have the same caller. */
  place(object: T): number {
    const known = this.#places.get(object);
    if (known !== undefined) return known;
    this.#places.set(object, this.#objects.length);
    return this.#objects.push(object) - 1;
  }

  /** All that was said since the last call; undefined if nothing was. */
  take(): { readonly said: ChangeMessage; readonly objects: readonly T[] } | undefined {
    this.#isAwake = false;
    if (this.out.isEmpty) return undefined;
    const taken = { said: this.out.take(), objects: this.#objects };
    this.#objects = [];
    this.#places = new Map();
    return taken;
  }
}

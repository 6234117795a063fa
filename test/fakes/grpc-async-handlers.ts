/** Methods from asynchronous functions, for services of which few calls are made: requests and answers as async iterables, with back pressure. */
import type { MethodCall, RequestReceiver, RequestStreamMethod, SingleRequestMethod } from "../../src/grpc/server/method.ts";

/** A method that answers a stream of requests with one message. What is thrown ends the call. */
export function clientStreamMethod(
  path: string,
  handle: (requests: AsyncIterable<Uint8Array>, call: MethodCall) => Promise<Uint8Array>,
): RequestStreamMethod {
  return {
    path,
    kind: "client_streaming",
    open: (call) => {
      const requests = new RequestQueue(call);
      void handle(requests, call)
        .then((response) => call.respond(response))
        .catch((thrown: unknown) => call.fail(thrown));
      return requests;
    },
  };
}

/** A method that answers a stream of requests with a stream of messages. */
export function bidiMethod(
  path: string,
  handle: (requests: AsyncIterable<Uint8Array>, call: MethodCall) => AsyncIterable<Uint8Array>,
): RequestStreamMethod {
  return {
    path,
    kind: "bidi_streaming",
    open: (call) => {
      const requests = new RequestQueue(call);
      void sendAll(call, handle(requests, call));
      return requests;
    },
  };
}

/** A method that answers one request with a stream of messages. */
export function serverStreamOf(
  path: string,
  handle: (request: Uint8Array, call: MethodCall) => AsyncIterable<Uint8Array>,
): SingleRequestMethod {
  return { path, kind: "server_streaming", handle: (request, call) => void sendAll(call, handle(request, call)) };
}

/** Sends each message when the one before was taken, and ends the call as the iteration ends. Stops iterating when the call is over. */
async function sendAll(call: MethodCall, messages: AsyncIterable<Uint8Array>): Promise<void> {
  try {
    for await (const message of messages) {
      if (call.isOver) return;
      await taken(call, message);
    }
    call.end();
  } catch (thrown) {
    call.fail(thrown);
  }
}

function taken(call: MethodCall, message: Uint8Array): Promise<void> {
  // A stream that goes away calls back with an error, which the next look at `isOver` sees too.
  return new Promise((resolve) => void call.write(message, () => resolve()));
}

/** Requests as they are asked for: one may wait here, the others wait in the stream's window. Ends early when the call is over. */
class RequestQueue implements RequestReceiver, AsyncIterable<Uint8Array> {
  readonly #call: MethodCall;
  readonly #waiting: Uint8Array[] = [];
  #wanted: ((next: IteratorResult<Uint8Array, undefined>) => void) | undefined;
  #isEnded = false;

  constructor(call: MethodCall) {
    this.#call = call;
    call.onCancelled(() => this.halfClosed());
  }

  message(request: Uint8Array): void {
    const wanted = this.#wanted;
    this.#wanted = undefined;
    if (wanted === undefined) {
      this.#waiting.push(request);
      this.#call.pause();
    } else wanted({ done: false, value: request });
  }

  halfClosed(): void {
    this.#isEnded = true;
    this.#wanted?.({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): AsyncIterator<Uint8Array, undefined> {
    return { next: () => this.#next() };
  }

  #next(): Promise<IteratorResult<Uint8Array, undefined>> {
    const value = this.#waiting.shift();
    if (value !== undefined) {
      this.#call.resume();
      return Promise.resolve({ done: false, value });
    }
    if (this.#isEnded) return Promise.resolve({ done: true, value: undefined });
    return new Promise((resolve) => {
      this.#wanted = resolve;
    });
  }
}

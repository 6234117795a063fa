/** Methods from plain functions: one that answers a request, and one that opens a source which is pulled as the client reads. */
import type { MethodCall, SingleRequestMethod } from "../../src/grpc/server/method.ts";

/** A unary method. A value is sent in the same turn of the event loop, a promise when it settles; what is thrown ends the call. */
export function unaryMethod(
  path: string,
  handle: (request: Uint8Array, call: MethodCall) => Uint8Array | Promise<Uint8Array>,
): SingleRequestMethod {
  return {
    path,
    kind: "unary",
    handle: (request, call) => {
      const answer = handle(request, call);
      if (answer instanceof Promise) {
        answer.then((response) => call.respond(response)).catch((thrown: unknown) => call.fail(thrown)); // Also of an answer that is too large to be sent.
      } else call.respond(answer);
    },
  };
}

/** The messages of one server stream. A source that has nothing to say keeps a cursor, not a queue. */
export interface MessageSource {
  /** Called once, before the first pull. `wake` says that `pull` may have something; `end` ends the stream, with an error unless it is undefined. */
  attach(wake: () => void, end: (error: unknown) => void): void;
  /** The next message; undefined when there is none now. */
  pull(): Uint8Array | undefined;
  /** The stream is over, for whatever reason; called once. */
  close(): void;
}

/** A server-streaming method: one message in flight, and the next is pulled when HTTP/2 took it. */
export function serverStreamMethod(path: string, open: (request: Uint8Array, call: MethodCall) => MessageSource): SingleRequestMethod {
  return {
    path,
    kind: "server_streaming",
    handle: (request, call) => new SourcePump(open(request, call), call).start(),
  };
}

/** Sends what a source has, one message at a time. */
class SourcePump {
  readonly #source: MessageSource;
  readonly #call: MethodCall;
  #state: "idle" | "pulling" | "writing" | "closed" = "idle";
  #isWoken = false;
  #ending: { readonly error: unknown } | undefined;

  constructor(source: MessageSource, call: MethodCall) {
    this.#source = source;
    this.#call = call;
  }

  start(): void {
    this.#call.onCancelled(() => this.#close());
    this.#call.sendMetadata();
    this.#source.attach(
      () => this.#pull(),
      (error) => this.#end(error),
    );
    this.#pull();
  }

  #end(error: unknown): void {
    this.#ending ??= { error };
    if (this.#state === "idle") this.#finish();
  }

  /** A source may wake the pump from inside its own pull: the loop takes that, not recursion. */
  #pull(): void {
    this.#isWoken = true;
    if (this.#state !== "idle") return;
    this.#state = "pulling";
    let message: Uint8Array | undefined;
    try {
      while (message === undefined && this.#isWoken && this.#ending === undefined) {
        this.#isWoken = false;
        message = this.#source.pull();
      }
      if (message !== undefined) this.#write(message);
    } catch (thrown) {
      this.#ending = { error: thrown };
    }
    if (this.#state === "pulling") this.#state = "idle";
    if (this.#state === "idle" && this.#ending !== undefined) this.#finish();
  }

  #write(message: Uint8Array): void {
    if (this.#call.isOver) return;
    this.#call.write(message, (error) => {
      // Node's callbacks say null for none. With an error the stream is gone, and `onCancelled` follows.
      if (this.#state !== "writing" || (error !== undefined && error !== null)) return;
      this.#state = "idle";
      if (this.#ending === undefined) this.#pull();
      else this.#finish();
    });
    this.#state = "writing";
  }

  #finish(): void {
    if (this.#ending === undefined || this.#state === "closed") return;
    this.#close();
    if (this.#ending.error === undefined) this.#call.end();
    else this.#call.fail(this.#ending.error);
  }

  #close(): void {
    if (this.#state === "closed") return;
    this.#state = "closed";
    this.#source.close();
  }
}

/** The main thread's side of forwarding: runs the calls of one read worker and sends their answers. */
import { type DescMethod, fromBinary, type Message, toBinary } from "@bufbuild/protobuf";
import { MessageBufferReader } from "../../catalog/copy/change-codec.ts";
import { assert, failedInside, type SentError, sentError, WaymarkError } from "../../lib/errors.ts";
import type { Time } from "../../lib/machine.ts";
import { isForwarded, rpcName } from "../contract.ts";
import type { CallContext, HttpRoute, MethodHandler, ServiceDefinition, StreamSource } from "../service.ts";
import { ANSWERED, ASKED, type CallAnswers, type CallRequests, decodeParameters, encodeRouteAnswer, ObjectBuffer } from "./messages.ts";

/** The parts of a service that forwarding uses. */
type ForwardedService = Pick<ServiceDefinition, "desc" | "handlers" | "routes">;

/** Identifies a call in logs. */
export interface ForwardedCall {
  readonly requestId: string;
  readonly service: string;
  readonly method: string;
}

export interface ForwardedCallsOptions {
  /** The services that workers may call. The worker has already applied the limits and the rules for requests. */
  readonly services: readonly ForwardedService[];
  readonly now: () => Time;
  /** Called when a handler throws an error that is not a WaymarkError. The caller receives only an error without details. */
  readonly onBug: (fault: unknown, call: ForwardedCall) => void;
  /** Called when messages are pending, and at most once before each `take`. */
  readonly wake: () => void;
  /** Limits the time for calls in one turn of the event loop, so that a message with large calls does not delay other work. */
  readonly turn: { mayAct(): boolean; wait(act: () => void): void };
}

/** A method or route that a worker may call. */
type ForwardableMethod = {
  /** The service name that appears in logs. */
  readonly service: string;
  readonly name: string;
} & (
  | { readonly kind: "once"; readonly answer: (request: Uint8Array, context: CallContext) => Uint8Array | Promise<Uint8Array> }
  | { readonly kind: "stream"; readonly open: (request: Uint8Array, context: CallContext) => StreamSource }
);

interface WorkerCall {
  readonly id: number;
  readonly method: ForwardableMethod;
  readonly requestId: string;
}

export class ForwardedCalls {
  readonly #options: ForwardedCallsOptions;
  readonly #outbox: ObjectBuffer<SentError>;
  readonly #methods: ReadonlyMap<string, ForwardableMethod>;
  readonly #streams = new Map<number, SentStream>();
  /** The `onOver` callbacks of unanswered calls, by id. */
  readonly #waiting = new Map<number, () => void>();
  /** Messages that are not completely processed, oldest first. */
  readonly #heard: { readonly reader: MessageBufferReader; readonly callers: CallRequests["callers"] }[] = [];
  #isWaiting = false;
  #isClosed = false;

  constructor(options: ForwardedCallsOptions) {
    this.#options = options;
    this.#outbox = new ObjectBuffer(options.wake);
    this.#methods = new Map(options.services.flatMap(methodsOf));
  }

  /** Returns and removes the messages to send, in the order of the answers. Undefined if there are none. */
  take(): CallAnswers | undefined {
    const taken = this.#outbox.take();
    return taken && { said: taken.said, errors: taken.objects };
  }

  /** Runs the calls, some of them in later turns. Calls with synchronous handlers are answered in order. */
  hear({ said, callers }: CallRequests): void {
    this.#heard.push({ reader: new MessageBufferReader(said), callers });
    if (this.#isWaiting) return;
    if (this.#options.turn.mayAct()) this.#runCalls();
    else this.#wait();
  }

  /** Ends the streams that do not end by themselves when the server stops. */
  drain(error: WaymarkError): void {
    for (const stream of this.#streams.values()) stream.drain(error);
  }

  /** Called when the worker has exited. Closes its streams, and discards later answers. */
  close(): void {
    this.#isClosed = true;
    for (const leave of this.#waiting.values()) leave();
    for (const stream of this.#streams.values()) stream.close();
    this.#streams.clear();
    this.#heard.length = 0;
  }

  /** Runs at least one call, so that there is always progress. */
  #runCalls(): void {
    do {
      const [oldest] = this.#heard;
      if (oldest === undefined) return;
      this.#hear(oldest.reader, oldest.callers);
      if (oldest.reader.isDone) this.#heard.shift();
    } while (this.#options.turn.mayAct());
    if (this.#heard.length > 0) this.#wait();
  }

  #wait(): void {
    this.#isWaiting = true;
    this.#options.turn.wait(() => {
      this.#isWaiting = false;
      this.#runCalls();
    });
  }

  #hear(reader: MessageBufferReader, callers: CallRequests["callers"]): void {
    const what = reader.number();
    const id = reader.number();
    switch (what) {
      case ASKED.CALL:
      case ASKED.OPEN: {
        const caller = callers[reader.number()];
        const path = reader.text();
        const requestId = reader.text();
        const bytes = reader.bytes();
        const method = this.#methods.get(path);
        assert(method !== undefined && caller !== undefined, "a forwarded call has no handler or no caller", { path });
        this.#begin({ id, method, requestId }, bytes, { caller, time: this.#options.now(), requestId });
        return;
      }
      case ASKED.MORE:
        this.#streams.get(id)?.more();
        return;
      case ASKED.CLOSE:
        this.#waiting.get(id)?.();
        this.#streams.get(id)?.close();
        this.#streams.delete(id);
        return;
      default:
        assert(false, "a worker sent an unknown message code", { what });
    }
  }

  // HOT: runs once per registration and once per renewal.
  #begin(call: WorkerCall, request: Uint8Array, context: CallContext): void {
    const { method } = call;
    try {
      if (method.kind === "stream") {
        this.#open(call, method.open(request, context));
        return;
      }
      const answer = method.answer(request, context);
      if (context.onOver !== undefined) this.#waiting.set(call.id, context.onOver);
      if (answer instanceof Promise) answer.then((bytes) => this.#answer(call, bytes)).catch((thrown: unknown) => this.#fail(call, thrown));
      else this.#answer(call, answer);
    } catch (thrown) {
      this.#fail(call, thrown);
    }
  }

  #answer({ id }: WorkerCall, bytes: Uint8Array): void {
    this.#waiting.delete(id);
    if (this.#isClosed) return;
    this.#outbox.out.numbers(ANSWERED.ANSWER, id);
    this.#outbox.out.bytes(bytes);
    this.#outbox.touch();
  }

  #fail({ id, method, requestId }: WorkerCall, thrown: unknown): void {
    this.#waiting.delete(id);
    const isRefusal = thrown instanceof WaymarkError;
    if (!isRefusal) this.#options.onBug(thrown, { requestId, service: method.service, method: method.name });
    if (this.#isClosed) return;
    this.#outbox.out.numbers(ANSWERED.FAILED, id, this.#outbox.place(sentError(isRefusal ? thrown : failedInside())));
    this.#outbox.touch();
  }

  #open(call: WorkerCall, source: StreamSource): void {
    const { id } = call;
    const { out } = this.#outbox;
    const stream = new SentStream(source, {
      now: this.#options.now,
      message: (bytes) => {
        out.numbers(ANSWERED.MESSAGE, id);
        out.bytes(bytes);
        this.#outbox.touch();
      },
      end: (thrown) => {
        this.#streams.delete(id);
        if (thrown !== undefined) this.#fail(call, thrown);
        else {
          out.numbers(ANSWERED.ENDED, id);
          this.#outbox.touch();
        }
      },
    });
    this.#streams.set(id, stream);
    out.numbers(ANSWERED.OPENED, id);
    this.#outbox.touch();
    stream.begin();
  }
}

/** Returns the methods of a service that can be forwarded and its routes, by path. A worker answers a route without `answer` with the route's rpc. */
function methodsOf({ desc, handlers, routes = [] }: ForwardedService): readonly (readonly [string, ForwardableMethod])[] {
  const rpcs = desc.methods.flatMap((method) => {
    const handler = handlers[method.localName];
    const known = handler && methodOf(method, handler);
    assert(known !== undefined || handler === undefined || !isForwarded(method, false), "a read worker cannot forward this rpc", {
      rpc: rpcName(method),
    });
    return known === undefined ? [] : [[rpcName(method), known] as const];
  });
  return [...rpcs, ...routes.flatMap((route) => (route.answer === undefined ? [] : [[route.path, routeMethod(route)] as const]))];
}

function methodOf(desc: DescMethod, handler: MethodHandler): ForwardableMethod | undefined {
  const named = { service: desc.parent.typeName, name: desc.name };
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the descriptor of the handler decodes the message
  const read = (bytes: Uint8Array) => (handler.read?.(bytes) ?? fromBinary(desc.input, bytes)) as never;
  if (handler.kind === "server_streaming")
    return { ...named, kind: "stream", open: (bytes, context) => handler.open(read(bytes), context) };
  const handle = handler.kind === "unary" ? handler.handle : handler.answerOne;
  if (handle === undefined) return undefined;
  const encoded = (answer: Message | Uint8Array) => (answer instanceof Uint8Array ? answer : toBinary(desc.output, answer));
  return {
    ...named,
    kind: "once",
    answer: (bytes, context) => {
      const answer = handle(read(bytes), context);
      return answer instanceof Promise ? answer.then(encoded) : encoded(answer);
    },
  };
}

function routeMethod({ path, answer }: HttpRoute): ForwardableMethod {
  return {
    service: "http",
    name: path,
    kind: "once",
    answer: (bytes, context) => {
      const answered = answer(decodeParameters(bytes), context);
      return answered instanceof Promise ? answered.then(encodeRouteAnswer) : encodeRouteAnswer(answered);
    },
  };
}

interface SentStreamPorts {
  readonly now: () => Time;
  readonly message: (bytes: Uint8Array) => void;
  /** Called when the stream has ended and its source is closed. */
  readonly end: (thrown: unknown) => void;
}

/** An open stream for a worker. The source is pulled only when the worker has requested a message, so that no messages are buffered. */
class SentStream {
  readonly #source: StreamSource;
  readonly #ports: SentStreamPorts;
  #isOver = false;
  #isAsked = true;
  #isPulling = false;
  #isWoken = false;
  #ending: { readonly thrown: unknown } | undefined;

  constructor(source: StreamSource, ports: SentStreamPorts) {
    this.#source = source;
    this.#ports = ports;
  }

  begin(): void {
    this.#source.attach(
      () => this.#pull(),
      (error) => this.#endNext(error),
    );
    this.#pull();
  }

  /** Called when the worker requests another message. */
  more(): void {
    this.#isAsked = true;
    if (this.#isWoken || this.#source.isDrained !== true) this.#pull();
  }

  /** Closes the source, because the client no longer reads. */
  close(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#source.close();
  }

  drain(error: WaymarkError): void {
    if (this.#source.endsAtDrain === true) this.#endNext(error);
  }

  #endNext(error: WaymarkError | undefined): void {
    this.#ending ??= { thrown: error };
    if (!this.#isPulling) this.#finish(error);
  }

  /** Pulls the next message. A source may call `wake` while it is being pulled. The loop handles such a call without recursion. */
  #pull(): void {
    if (this.#isOver) return;
    if (this.#isPulling || !this.#isAsked) {
      this.#isWoken = true;
      return;
    }
    this.#isPulling = true;
    let bytes: Uint8Array | undefined;
    try {
      do {
        this.#isWoken = false;
        bytes = this.#source.pull(this.#ports.now());
      } while (bytes === undefined && this.#isWoken && this.#ending === undefined);
    } catch (thrown) {
      this.#ending = { thrown };
    }
    this.#isPulling = false;
    if (bytes !== undefined) {
      this.#isAsked = false;
      this.#ports.message(bytes);
    }
    if (this.#ending !== undefined) this.#finish(this.#ending.thrown);
  }

  #finish(thrown: unknown): void {
    if (this.#isOver) return;
    this.close();
    this.#ports.end(thrown);
  }
}

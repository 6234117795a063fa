/** The end of forwarding in the main thread: runs the calls of one read worker and sends their answers. */
import { type DescMethod, fromBinary, type Message, toBinary } from "@bufbuild/protobuf";
import { MessageBufferReader } from "../../catalog/copy/change-codec.ts";
import { assert, failedInside, type SentError, sentError, WaymarkError } from "../../lib/errors.ts";
import type { Time } from "../../lib/machine.ts";
import { isForwarded, rpcName } from "../contract.ts";
import type { CallContext, HttpRoute, MethodHandler, ServiceDefinition, StreamSource } from "../service.ts";
import { ANSWERED, ASKED, type CallAnswers, type CallRequests, decodeParameters, encodeRouteAnswer, ObjectBuffer } from "./messages.ts";

/** What of a service may be forwarded. */
type ForwardedService = Pick<ServiceDefinition, "desc" | "handlers" | "routes">;

/** Names a call in logs. */
export interface ForwardedCall {
  readonly requestId: string;
  readonly service: string;
  readonly method: string;
}

export interface ForwardedCallsOptions {
  /** What workers may call. Their limits were applied in the worker, and so were the rules of requests. */
  readonly services: readonly ForwardedService[];
  readonly now: () => Time;
  /** A handler threw something that is not a WaymarkError. Its caller learns only that the call failed. */
  readonly onBug: (fault: unknown, call: ForwardedCall) => void;
  /** Called when there is something to take, once until it is taken. */
  readonly wake: () => void;
  /** The time of one turn of the event loop that goes to calls; without it a message of large calls would hold up everybody else. */
  readonly turn: { mayAct(): boolean; wait(act: () => void): void };
}

/** What a worker may call, by its path. */
type ForwardableMethod = {
  /** Names it in logs. */
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
  /** The `onOver` of calls that wait for their answers. */
  readonly #waiting = new Map<number, () => void>();
  /** Messages that are not done, the oldest first. */
  readonly #heard: { readonly reader: MessageBufferReader; readonly callers: CallRequests["callers"] }[] = [];
  #isWaiting = false;
  #isClosed = false;

  constructor(options: ForwardedCallsOptions) {
    this.#options = options;
    this.#outbox = new ObjectBuffer(options.wake);
    this.#methods = new Map(options.services.flatMap(methodsOf));
  }

  /** What is to be sent, in the order in which calls were answered; undefined if that is nothing. */
  take(): CallAnswers | undefined {
    const taken = this.#outbox.take();
    return taken && { said: taken.said, errors: taken.objects };
  }

  /** Runs the calls, some of them in later turns. Those whose handlers answer at once are answered in their order. */
  hear({ said, callers }: CallRequests): void {
    this.#heard.push({ reader: new MessageBufferReader(said), callers });
    if (this.#isWaiting) return;
    if (this.#options.turn.mayAct()) this.#runCalls();
    else this.#wait();
  }

  /** The server stops: ends the streams that nothing else ends. */
  drain(error: WaymarkError): void {
    for (const stream of this.#streams.values()) stream.drain(error);
  }

  /** The worker is gone: its streams close, and answers that come later go nowhere. */
  close(): void {
    this.#isClosed = true;
    for (const leave of this.#waiting.values()) leave();
    for (const stream of this.#streams.values()) stream.close();
    this.#streams.clear();
    this.#heard.length = 0;
  }

  /** One call at least, or else nothing would go on. */
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
        assert(method !== undefined && caller !== undefined, "a worker forwards a call that nobody takes", { path });
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
        assert(false, "a worker says what the main thread does not know", { what });
    }
  }

  // HOT: once a registration and once a renewal.
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

/** The methods of a service that can be forwarded, and its routes, by their paths. */
function methodsOf({ desc, handlers, routes = [] }: ForwardedService): readonly (readonly [string, ForwardableMethod])[] {
  const rpcs = desc.methods.flatMap((method) => {
    const handler = handlers[method.localName];
    const known = handler && methodOf(method, handler);
    assert(known !== undefined || handler === undefined || !isForwarded(method, false), "a read worker cannot forward an rpc", {
      rpc: rpcName(method),
    });
    return known === undefined ? [] : [[rpcName(method), known] as const];
  });
  return [...rpcs, ...routes.map((route) => [route.path, routeMethod(route)] as const)];
}

function methodOf(desc: DescMethod, handler: MethodHandler): ForwardableMethod | undefined {
  const named = { service: desc.parent.typeName, name: desc.name };
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the desc decodes it, so its type is the handler's.
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
  /** The stream is over, and its source closed. */
  readonly end: (thrown: unknown) => void;
}

/** An open stream of a worker. Its source is pulled only when the worker has asked for a message, so that none waits. */
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

  /** The worker takes one more message. */
  more(): void {
    this.#isAsked = true;
    if (this.#isWoken || this.#source.isDrained !== true) this.#pull();
  }

  /** Nobody reads any more. */
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

  /** A source may wake us from inside its own pull: the loop takes that, not recursion. */
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

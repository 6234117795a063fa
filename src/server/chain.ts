/**
 * What every call passes, in this order: request id → caller → limit → authorise → deadline → handler →
 * metrics. Transport-neutral: the gRPC listener and the HTTP edge both drive it. One `MethodChain` a method is built at
 * registration, so that a call allocates nothing here but its context.
 */
import type { DescMethod, Message } from "@bufbuild/protobuf";
import { WaymarkError } from "../lib/errors.ts";
import type { Time } from "../lib/machine.ts";
import { type Caller, hasRole } from "../policy/identity/caller.ts";
import type { Peer } from "../policy/identity/tenants.ts";
import type { Cost } from "../policy/limits/rate-limits.ts";
import { changesNothing, costOf } from "../services/cost.ts";
import type { CallContext, Handler, StreamSource } from "../services/service.ts";
import { authorise, type RequiredAccess, requiredAccessOf } from "./authorise.ts";
import { anonymousRefused, draining, expired, outlived, unimplemented } from "./call-end.ts";
import { CODE_NAMES, type RpcStatus, statusFrom } from "./status.ts";

/** One finished call. `code` is the name of a gRPC code; `latencyMs` of a stream is its whole life. */
export interface Observation {
  readonly service: string;
  readonly method: string;
  readonly code: string;
  readonly transport: string;
  readonly encoding: string;
  readonly latencyMs: number;
}

/** What the chain needs of the world; all synchronous, none may throw. */
export interface ChainPorts {
  now(): Time;
  /** Who calls; a promise only where finding out takes waiting. Throws or rejects with WaymarkError `unauthenticated`. */
  identify(header: HeaderReader, peer: Peer): Caller | Promise<Caller>;
  /** What callers without a credential may do; all when absent. */
  readonly anonymous?: "none" | "read" | "all";
  /** A fresh request id; called for each call that brings none, so it must be cheap (a counter behind a random prefix). */
  newRequestId(): string;
  observe(observation: Observation): void;
  /** A handler threw something that is not a WaymarkError: log it with its stack. */
  onBug(fault: unknown, call: { readonly requestId: string; readonly service: string; readonly method: string }): void;
  /** Takes a token of the caller or throws `discovery_rate_limited`; absent where no limit is set. */
  limit?: ((caller: Caller, cost: Cost, monoMs: number) => void) | undefined;
  /** A caller was not known, or may not make this call: for the audit. */
  onRefused?: ((refusal: RefusedCall) => void) | undefined;
  /** Present only when calls are to be logged at debug. */
  onCall?:
    | ((call: { readonly requestId: string; readonly service: string; readonly method: string; readonly address: string }) => void)
    | undefined;
}

/** A call that was refused for who made it. */
export interface RefusedCall {
  readonly service: string;
  readonly method: string;
  readonly requestId: string;
  readonly address: string;
  /** Undefined when nobody knows who. */
  readonly caller: Caller | undefined;
  readonly error: WaymarkError;
}

/** The first value of a request header by lower-case name. */
export type HeaderReader = (name: string) => string | undefined;

/** A call as it arrived, told by the transport. */
export interface Arrival extends Peer {
  readonly transport: string;
  readonly encoding: string;
  /** Milliseconds the client gives us, ≤ 0 when already over, undefined when it set no bound. */
  readonly timeoutMs: number | undefined;
  readonly header: HeaderReader;
}

/** A unary call: exactly one of the two is called, once. */
export interface UnaryExchange extends Arrival {
  succeed(response: Message | Uint8Array, context: CallContext): void;
  fail(status: RpcStatus, requestId: string): void;
  /** Runs `expire` after so many ms unless cancelled; only asked for when the handler's answer is a promise. */
  later(expire: () => void, delayMs: number): () => void;
}

const REQUEST_ID = /^[\x21-\x7e]{1,128}$/;

/** The sent id when it is 1–128 printable ASCII characters, else undefined. */
export function sentRequestId(header: HeaderReader): string | undefined {
  const sent = header("x-request-id");
  return sent !== undefined && REQUEST_ID.test(sent) ? sent : undefined;
}

/** Longest deadline taken as meant; beyond it the call has none. Ten years, as no timer reaches it. */
const MAX_TIMEOUT_MS = 10 * 365 * 86_400_000;

const TIMEOUT = /^(\d{1,8})([HMSmun])$/;
const TIMEOUT_UNIT_MS: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1_000, m: 1, u: 1e-3, n: 1e-6 };

/**
 * `grpc-timeout` in ms; undefined without one or beyond ten years. Throws `invalid_argument` on anything the gRPC
 * grammar (1–8 digits and a unit) does not allow, such as a negative one.
 */
export function parseGrpcTimeout(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const match = TIMEOUT.exec(text);
  const unitMs = TIMEOUT_UNIT_MS[match?.[2] ?? ""];
  if (match === null || unitMs === undefined) {
    throw new WaymarkError("invalid_argument", `grpc-timeout: want 1 to 8 digits and one of H M S m u n, got "${text.slice(0, 32)}"`, {
      violations: [{ field: "grpc-timeout", description: "not a timeout of the gRPC grammar" }],
    });
  }
  const timeoutMs = Number(match[1]) * unitMs;
  return timeoutMs > MAX_TIMEOUT_MS ? undefined : timeoutMs;
}

/** The part of the chain all methods share: the ports, and whether the server drains. */
export class Chain {
  readonly ports: ChainPorts;
  readonly #leavers = new Set<(error: WaymarkError) => void>();
  #isDraining = false;

  constructor(ports: ChainPorts) {
    this.ports = ports;
  }

  get isDraining(): boolean {
    return this.#isDraining;
  }

  /** From now on new calls are refused with `draining`; open ones go on, and who asked by `onDrain` is told to leave. */
  drain(): void {
    this.#isDraining = true;
    const leavers = [...this.#leavers];
    this.#leavers.clear();
    for (const leave of leavers) leave(draining());
  }

  /** `leave` is called once when the server drains, for streams that only their client would end. Returns what forgets it. */
  onDrain(leave: (error: WaymarkError) => void): () => void {
    this.#leavers.add(leave);
    return () => this.#leavers.delete(leave);
  }

  /** Who calls; a refusal is told to the ports. Throws or rejects with WaymarkError `unauthenticated`. */
  // HOT: one a request; a caller who is known at once makes no promise.
  identify(
    from: Pick<Arrival, "header" | "address" | "certificate">,
    call: { readonly requestId: string; readonly service: string; readonly method: string },
  ): Caller | Promise<Caller> {
    try {
      const caller = this.ports.identify(from.header, from);
      if (!(caller instanceof Promise)) return this.#admitted(caller);
      return caller
        .then((known) => this.#admitted(known))
        .catch((thrown: unknown) => this.#unknown(thrown, { ...call, address: from.address }));
    } catch (thrown) {
      return this.#unknown(thrown, { ...call, address: from.address });
    }
  }

  #admitted(caller: Caller): Caller {
    if (this.ports.anonymous === "none" && !caller.isAuthenticated) throw anonymousRefused("none", "call");
    return caller;
  }

  #unknown(thrown: unknown, call: Omit<RefusedCall, "caller" | "error">): never {
    if (thrown instanceof WaymarkError) this.ports.onRefused?.({ ...call, caller: undefined, error: thrown });
    throw thrown;
  }

  /** The chain of one method; `handler` undefined answers `unimplemented`. */
  method(desc: DescMethod, handler: Handler | undefined): MethodChain {
    return new MethodChain(this, desc, handler);
  }
}

/** A server stream that was admitted. */
export interface OpenedSource {
  readonly source: StreamSource;
  readonly context: CallContext;
}

export class MethodChain {
  readonly service: string;
  readonly name: string;
  readonly path: string;
  readonly desc: DescMethod;
  readonly handler: Handler | undefined;
  readonly #chain: Chain;
  readonly #ports: ChainPorts;
  readonly #requiredAccess: RequiredAccess;
  /** Whether a caller needs a credential, whatever its roles. */
  readonly #isForKnown: boolean;
  /** Undefined where no limit is set, or none for this method. */
  readonly #limit: ((context: CallContext) => void) | undefined;

  constructor(chain: Chain, desc: DescMethod, handler: Handler | undefined) {
    this.#chain = chain;
    this.#ports = chain.ports;
    this.desc = desc;
    this.handler = handler;
    this.#requiredAccess = requiredAccessOf(desc);
    this.#isForKnown = chain.ports.anonymous === "read" && !changesNothing(desc);
    this.#limit = limitOf(chain.ports, costOf(desc), this.#requiredAccess);
    this.service = desc.parent.typeName;
    this.name = desc.name;
    this.path = `/${desc.parent.typeName}/${desc.name}`;
  }

  /** Who calls, unless the server is going away. Throws or rejects to refuse. */
  #identify(arrival: Arrival, requestId: string): Caller | Promise<Caller> {
    if (this.#chain.isDraining) throw draining();
    return this.#chain.identify(arrival, { requestId, service: this.service, method: this.name });
  }

  /** What stands between a known caller and the handler. Throws WaymarkError to refuse; `finish` is still owed. */
  #admit(context: CallContext, arrival: Arrival, request: Message | WaymarkError | undefined): void {
    if (this.#isForKnown && !context.caller.isAuthenticated) this.#refuseAnonymous(context);
    this.#limit?.(context);
    if (this.#requiredAccess.role !== undefined) this.#authorise(context, request);
    if (arrival.timeoutMs !== undefined && arrival.timeoutMs <= 0) throw expired();
  }

  #refuseAnonymous({ caller, requestId }: CallContext): never {
    const refusal = anonymousRefused("read", "write");
    this.#tellRefused(refusal, caller, requestId);
    throw refusal;
  }

  #authorise({ caller, requestId }: CallContext, request: Message | WaymarkError | undefined): void {
    try {
      authorise(this.#requiredAccess, caller, request);
    } catch (thrown) {
      this.#tellRefused(thrown, caller, requestId);
      throw thrown;
    }
  }

  #tellRefused(thrown: unknown, caller: Caller, requestId: string): void {
    if (!(thrown instanceof WaymarkError)) return;
    this.#ports.onRefused?.({ requestId, service: this.service, method: this.name, address: caller.address, caller, error: thrown });
  }

  #requestId(arrival: Arrival): string {
    const requestId = sentRequestId(arrival.header) ?? this.#ports.newRequestId();
    this.#ports.onCall?.({ requestId, service: this.service, method: this.name, address: arrival.address });
    return requestId;
  }

  /** Runs a unary call to its end. `request` a WaymarkError means that its bytes could not be read. */
  // HOT: one a request. A synchronous answer makes no promise, timer or closure.
  unary(request: Message | WaymarkError, exchange: UnaryExchange): void {
    const time = this.#ports.now();
    const requestId = this.#requestId(exchange);
    try {
      const caller = this.#identify(exchange, requestId);
      if (caller instanceof Promise) {
        caller.then(
          (known) => this.#runLater(request, exchange, { caller: known, time: this.#ports.now(), requestId }),
          (thrown: unknown) => this.#refuse(thrown, exchange, requestId, time),
        );
        return;
      }
      this.#run(request, exchange, { caller, time, requestId });
    } catch (thrown) {
      this.#refuse(thrown, exchange, requestId, time);
    }
  }

  #runLater(request: Message | WaymarkError, exchange: UnaryExchange, context: CallContext): void {
    try {
      this.#run(request, exchange, context);
    } catch (thrown) {
      this.#refuse(thrown, exchange, context.requestId, context.time);
    }
  }

  #run(request: Message | WaymarkError, exchange: UnaryExchange, context: CallContext): void {
    this.#admit(context, exchange, request);
    if (request instanceof WaymarkError) throw request;
    const handler = this.handler;
    if (handler === undefined || handler.kind !== "unary") throw unimplemented(this.path);
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the desc decoded it, so its type is the handler's.
    const answer = handler.handle(request as never, context);
    if (answer instanceof Promise) {
      this.#await(answer, exchange, context);
      return;
    }
    exchange.succeed(answer, context);
    this.finish(exchange, context.time, 0);
  }

  #refuse(thrown: unknown, exchange: UnaryExchange, requestId: string, time: Time): void {
    const status = this.status(thrown, requestId);
    exchange.fail(status, requestId);
    this.finish(exchange, time, status.code);
  }

  /** A promise is answered when it settles or at the deadline, whichever is first. */
  #await(answer: Promise<Message | Uint8Array>, exchange: UnaryExchange, context: CallContext): void {
    let isOpen = true;
    const settle = (response: Message | Uint8Array | undefined, thrown: unknown) => {
      if (!isOpen) return;
      isOpen = false;
      cancel?.();
      if (response === undefined) {
        // Where the handler decides what the option otherwise does.
        const isDenied = thrown instanceof WaymarkError && thrown.reason === "discovery_access_denied";
        if (this.#requiredAccess.isForOwners && isDenied) this.#tellRefused(thrown, context.caller, context.requestId);
        return this.#refuse(thrown, exchange, context.requestId, context.time);
      }
      try {
        exchange.succeed(response, context);
      } catch (unsendable) {
        return this.#refuse(unsendable, exchange, context.requestId, context.time);
      }
      this.finish(exchange, context.time, 0);
    };
    const { timeoutMs } = exchange;
    const cancel = timeoutMs === undefined ? undefined : exchange.later(() => settle(undefined, expired()), timeoutMs);
    answer.then(
      (response) => settle(response, undefined),
      (thrown: unknown) => settle(undefined, thrown),
    );
  }

  /**
   * Admits a server stream and opens its source; throws or rejects to refuse (then give the error to `status`). A promise
   * only where `identify` gave one: if the stream is over by then, close the source.
   */
  openSource(request: Message | WaymarkError, arrival: Arrival): OpenedSource | Promise<OpenedSource> {
    const context = this.openStream(arrival, request);
    return context instanceof Promise ? context.then((known) => this.#source(request, known)) : this.#source(request, context);
  }

  #source(request: Message | WaymarkError, context: CallContext): OpenedSource {
    if (request instanceof WaymarkError) throw request;
    const handler = this.handler;
    if (handler === undefined || handler.kind !== "serverStream") throw unimplemented(this.path);
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- as in unary.
    return { source: handler.open(request as never, context), context };
  }

  /** Admits a stream; throws or rejects to refuse. `request` where there is one already. */
  openStream(arrival: Arrival, request?: Message | WaymarkError): CallContext | Promise<CallContext> {
    const requestId = this.#requestId(arrival);
    const admit = (caller: Caller): CallContext => {
      const context = { caller, time: this.#ports.now(), requestId };
      this.#admit(context, arrival, request);
      return context;
    };
    const caller = this.#identify(arrival, requestId);
    return caller instanceof Promise ? caller.then(admit) : admit(caller);
  }

  /** Answers one message of an open echo stream, with the time of now. May throw, or answer with a promise. */
  echo(request: Message | WaymarkError, opened: CallContext): Message | Uint8Array | Promise<Message | Uint8Array> {
    if (request instanceof WaymarkError) throw request;
    const handler = this.handler;
    if (handler === undefined || handler.kind !== "echoStream") throw unimplemented(this.path);
    const { caller, requestId } = opened;
    const context = { caller, time: this.#ports.now(), requestId };
    if (caller.untilWallMs !== undefined && context.time.wallMs > caller.untilWallMs) throw outlived();
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- as in unary.
    return handler.handle(request as never, context);
  }

  /** The status to answer a thrown value with. */
  status(thrown: unknown, requestId: string): RpcStatus {
    return statusFrom(thrown, (fault) => this.#ports.onBug(fault, { requestId, service: this.service, method: this.name }));
  }

  now(): Time {
    return this.#ports.now();
  }

  /** As `Chain.onDrain`. */
  onDrain(leave: (error: WaymarkError) => void): () => void {
    return this.#chain.onDrain(leave);
  }

  /** Counts a call that is over; `code` is the gRPC code, 0 for OK and 1 for one the client gave up. */
  finish(arrival: Arrival, began: Time, code: number): void {
    this.#ports.observe({
      service: this.service,
      method: this.name,
      code: CODE_NAMES[code] ?? "UNKNOWN",
      transport: arrival.transport,
      encoding: arrival.encoding,
      latencyMs: this.#ports.now().monoMs - began.monoMs,
    });
  }
}

/** Takes a token of a call's caller. Whoever has the role that a method asks for is let through: a flood must not lock operators out. */
function limitOf({ limit }: ChainPorts, cost: Cost | undefined, { role }: RequiredAccess): ((context: CallContext) => void) | undefined {
  if (limit === undefined || cost === undefined) return undefined;
  return ({ caller, time }) => {
    if (role === undefined || !hasRole(caller, role)) limit(caller, cost, time.monoMs);
  };
}

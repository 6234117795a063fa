/**
 * The steps of every call, in this order: request id → caller → limit → authorise → deadline → handler → metrics. The steps do not depend on the
 * transport. Both the gRPC listener and the HTTP edge use them. Each method gets one `MethodChain` when it is registered, so the chain allocates only
 * a context per call.
 */
import type { DescMessage, DescMethod, Message } from "@bufbuild/protobuf";
import { expired } from "../grpc/wire/request-head.ts";
import { assert, codeName, WaymarkError } from "../lib/errors.ts";
import type { Time } from "../lib/machine.ts";
import type { Histogram, MetricSeries, Metrics } from "../lib/metrics/metrics.ts";
import { type Caller, hasRole, isOwner } from "../policy/identity/caller.ts";
import type { ConnectionPeer } from "../policy/identity/tenants.ts";
import type { CallCost } from "../policy/limits/rate-limits.ts";
import {
  authorise,
  changesNothing,
  costOf,
  isOnlyOnNodes,
  type RequiredAccess,
  requestCheckOf,
  requiredAccessOf,
} from "../services/contract.ts";
import type { AnswerSink, CallContext, MethodHandler, RequestListener, StreamSource } from "../services/service.ts";
import { KnownStreams } from "./known-streams.ts";
import { jsonFault } from "./request-shape/json.ts";
import {
  type ListBounds,
  type MessageShapePlan,
  planner,
  protobufFault,
  type SentRequest,
  UndecodedRequest,
} from "./request-shape/plan.ts";
import { anonymousRefused, credentialWanted, draining, outlived, type RpcStatus, statusFrom, unimplemented } from "./status.ts";
import type { TurnBudget } from "./turn-budget.ts";

/** Identifies a call in logs and in the audit log. */
export interface CallName {
  readonly requestId: string;
  readonly service: string;
  readonly method: string;
}

/** The functions and settings that the chain needs. All functions are synchronous and must not throw unless their comment allows it. */
export interface ChainPorts {
  now(): Time;
  /** Calls `act` after `delayMs`. The returned function cancels the timer. Has no effect if the delay exceeds the maximum timer delay. */
  readonly later: (act: () => void, delayMs: number) => () => void;
  /** The time budget that all streams share in one turn of the event loop. */
  readonly turn: TurnBudget;
  /** Identifies the caller. Returns a promise only if identification requires waiting. Throws or rejects with the WaymarkError `unauthenticated`. */
  identify(header: HeaderReader, peer: ConnectionPeer): Caller | Promise<Caller>;
  /** Maximum lengths of lists in requests, from the node's settings. */
  readonly listBounds: ListBounds;
  /** Limits on registered names. Defaults to the largest values that can be configured. */
  readonly bounds?: Parameters<typeof requestCheckOf>[1];
  /** The operations that callers without a credential may perform. Defaults to all operations. */
  readonly anonymous?: "none" | "read" | "all";
  /** Services that always require a credential, regardless of `anonymous`. */
  readonly knownOnly?: ReadonlySet<string> | undefined;
  /** Prefix of the ids generated for calls without a request id. The prefix is unique to this process. */
  readonly idPrefix: string;
  /** Counters and latencies of completed calls. */
  readonly metrics: Pick<Metrics, "counter" | "histogram">;
  /** Called when a handler threw an error other than a WaymarkError. It must log the error with its stack. */
  onBug(fault: unknown, call: CallName): void;
  /** Consumes the caller's rate limit tokens, or throws `discovery_rate_limited`. Absent when no limit is configured. */
  limit?: ((caller: Caller, cost: CallCost, monoMs: number) => void) | undefined;
  /** Called for the audit log when a caller could not be identified or was not permitted to make the call. */
  onRefused?: ((refusal: RefusedCall) => void) | undefined;
  /** Present only when calls must be logged at debug level. */
  onCall?: ((call: CallName & { readonly address: string }) => void) | undefined;
}

/** A call that was rejected because of its caller. */
export interface RefusedCall extends CallName {
  readonly address: string;
  /** Undefined when the caller could not be identified. */
  readonly caller: Caller | undefined;
  readonly error: WaymarkError;
}

/** Returns the value of a request header by lower-case name. */
export type HeaderReader = (name: string) => string | undefined;

/** The transport's information about a call when it arrives. */
export interface CallArrival extends ConnectionPeer {
  readonly transport: string;
  readonly encoding: string;
  /** Milliseconds until the client's deadline, or ≤ 0 when the deadline has passed. Undefined when the client set no deadline. */
  readonly timeoutMs: number | undefined;
  readonly header: HeaderReader;
  /**
   * Whether the call has already used its rate limit token. A transport that decodes requests itself sets this to false. `judgeHeaders` then uses the
   * token, so that requests from callers over their limit are not decoded. If absent, the token is used when the complete request has arrived.
   */
  isLimited?: boolean;
  /**
   * The error with which `judgeHeaders` rejected the caller because it exceeded its limit. The call is answered with this error even if there is
   * another error.
   */
  overLimit?: WaymarkError;
  /**
   * Calls `expire` when the deadline passes before the call has ended. The returned function cancels the timer. It is undefined when the transport
   * cancels the timer itself. Used only when a response requires waiting.
   */
  onDeadline(expire: () => void): (() => void) | undefined;
  /** Calls `gone` when the client cancels the call or its connection closes. `gone` may also be called after the response. */
  onGone?(gone: () => void): void;
}

/** A unary call. Exactly one of `succeed` and `fail` is called, once. */
export interface UnaryExchange {
  readonly arrival: CallArrival;
  succeed(response: Message | Uint8Array, context: CallContext): void;
  fail(status: RpcStatus, requestId: string): void;
}

/** An admitted stream, including its request if there is exactly one. */
export interface AdmittedStream {
  readonly context: CallContext;
  readonly request: Message | undefined;
}

const REQUEST_ID = /^[\x21-\x7e]{1,128}$/;

/** Returns the client's request id if it consists of 1–128 printable ASCII characters without spaces. Otherwise undefined. */
export function sentRequestId(header: HeaderReader): string | undefined {
  const sent = header("x-request-id");
  return sent !== undefined && REQUEST_ID.test(sent) ? sent : undefined;
}

/** The part of the chain that all methods share: the ports, and whether the server is draining. */
export class CallChain {
  readonly ports: ChainPorts;
  /** Returns the content limits for a request type. */
  readonly planOf: (desc: DescMessage) => MessageShapePlan;
  /** Open streams whose callers were authenticated with a credential. `check` must be called when credentials have changed. */
  readonly knownStreams: KnownStreams;
  readonly #leavers = new Set<(error: WaymarkError) => void>();
  #isDraining = false;
  #idCount = 0;

  constructor(ports: ChainPorts) {
    this.ports = ports;
    this.planOf = planner(ports.listBounds);
    this.knownStreams = new KnownStreams((act) => void ports.later(act, 0));
  }

  get isDraining(): boolean {
    return this.#isDraining;
  }

  /** Returns the id of a call: the id that the client sent, or a new id. */
  requestId(header: HeaderReader): string {
    return sentRequestId(header) ?? `${this.ports.idPrefix}-${(++this.#idCount).toString(36)}`;
  }

  /** Returns the status for a thrown value. */
  status(thrown: unknown, call: CallName): RpcStatus {
    return statusFrom(thrown, (fault) => this.ports.onBug(fault, call));
  }

  /** Rejects new calls with `draining` from now on. Open calls continue. Functions registered with `onDrain` are called. */
  drain(): void {
    this.#isDraining = true;
    const leavers = [...this.#leavers];
    this.#leavers.clear();
    for (const leave of leavers) leave(draining());
  }

  /**
   * Registers `leave`, which is called once when the server drains. It is for streams that would otherwise be ended only by their client. Returns a
   * function that removes `leave`.
   */
  onDrain(leave: (error: WaymarkError) => void): () => void {
    this.#leavers.add(leave);
    return () => this.#leavers.delete(leave);
  }

  /**
   * Identifies the caller and reports a rejection to the ports. Throws or rejects with the WaymarkError `unauthenticated`. This includes callers
   * without a credential if the settings require one and the call is not open to all callers.
   */
  // HOT: runs once per request. A caller that is identified synchronously does not need a promise.
  identify(
    from: Pick<CallArrival, "header" | "address" | "certificate">,
    call: CallName,
    isForEverybody = false,
  ): Caller | Promise<Caller> {
    try {
      const caller = this.ports.identify(from.header, from);
      if (!(caller instanceof Promise)) return this.#admitted(caller, isForEverybody);
      return caller
        .then((known) => this.#admitted(known, isForEverybody))
        .catch((thrown: unknown) => this.#unknown(thrown, { ...call, address: from.address }));
    } catch (thrown) {
      return this.#unknown(thrown, { ...call, address: from.address });
    }
  }

  #admitted(caller: Caller, isForEverybody: boolean): Caller {
    if (this.ports.anonymous === "none" && !caller.isAuthenticated && !isForEverybody) throw anonymousRefused("none", "call");
    return caller;
  }

  #unknown(thrown: unknown, call: Omit<RefusedCall, "caller" | "error">): never {
    if (thrown instanceof WaymarkError) this.ports.onRefused?.({ ...call, caller: undefined, error: thrown });
    throw thrown;
  }

  /** Returns the chain of one method. Without a handler, the chain answers `unimplemented`. */
  method(desc: DescMethod, handler: MethodHandler | undefined): MethodChain {
    return new MethodChain(this, desc, handler);
  }
}

interface CallCounts {
  readonly ended: Pick<MetricSeries, "inc">;
  /** Undefined for streams, because their duration is not a latency of this node. */
  readonly latency: Pick<Histogram, "observe"> | undefined;
}

export class MethodChain {
  readonly service: string;
  readonly name: string;
  readonly path: string;
  readonly desc: DescMethod;
  readonly handler: MethodHandler | undefined;
  /** Throws `invalid_argument` when a request violates the rules of the API. */
  readonly checkRequest: (request: Message) => void;
  readonly #chain: CallChain;
  readonly #ports: ChainPorts;
  readonly #requiredAccess: RequiredAccess;
  /** Returns the error for callers without a credential, regardless of their roles. Returns undefined when no credential is required. */
  readonly #wantsCredential: (() => WaymarkError) | undefined;
  /** Undefined when no limit applies to this method. */
  readonly #limit: ((context: CallContext) => void) | undefined;
  /** Completed calls, keyed by transport, encoding and code. */
  readonly #counts = new Map<string, CallCounts>();

  constructor(chain: CallChain, desc: DescMethod, handler: MethodHandler | undefined) {
    const rpc = `${desc.parent.typeName}/${desc.name}`;
    assert(handler === undefined || handler.kind === desc.methodKind, "the handler does not match the method kind of its rpc", { rpc });
    this.#chain = chain;
    this.#ports = chain.ports;
    this.desc = desc;
    this.handler = handler;
    this.checkRequest = requestCheckOf(desc.input, chain.ports.bounds);
    this.#requiredAccess = requiredAccessOf(desc);
    if (chain.ports.knownOnly?.has(desc.parent.typeName) === true) this.#wantsCredential = () => credentialWanted(desc.parent.typeName);
    else if (chain.ports.anonymous === "read" && !changesNothing(desc)) this.#wantsCredential = () => anonymousRefused("read", "write");
    this.#limit = limitOf(chain.ports, costOf(desc), this.#requiredAccess);
    this.service = desc.parent.typeName;
    this.name = desc.name;
    this.path = `/${rpc}`;
  }

  get knownStreams(): KnownStreams {
    return this.#chain.knownStreams;
  }

  get turn(): TurnBudget {
    return this.#ports.turn;
  }

  /**
   * Returns an error if a request must not be decoded: its service currently has no room for the message, or the decoded message would be far too
   * large.
   */
  requestFault(bytes: Uint8Array, encoding: "json" | "proto"): WaymarkError | undefined {
    const crowded = this.handler?.kind === "unary" ? this.handler.refuseEarly?.(bytes.length) : undefined;
    if (crowded !== undefined) return crowded;
    const plan = this.#chain.planOf(this.desc.input);
    return encoding === "proto" ? protobufFault(plan, bytes) : jsonFault(plan, bytes);
  }

  #unimplemented(): WaymarkError {
    return unimplemented(this.path, isOnlyOnNodes(this.desc));
  }

  /** Identifies the caller, and throws `draining` while the server is draining. Throws or rejects to reject the call. */
  #identify(arrival: CallArrival, requestId: string): Caller | Promise<Caller> {
    const { isForEverybody } = this.#requiredAccess;
    if (this.#chain.isDraining && !isForEverybody) throw draining();
    return this.#chain.identify(arrival, { requestId, service: this.service, method: this.name }, isForEverybody);
  }

  /**
   * Performs the checks between identifying the caller and running the handler. Returns the request. It is decoded last, and only if the headers
   * permit the call. Throws a WaymarkError to reject the call. `finish` must still be called.
   */
  #admit<T extends object | undefined>(
    context: CallContext,
    arrival: CallArrival,
    request: T | UndecodedRequest,
  ): T | Message | WaymarkError {
    const { caller } = context;
    if (this.#wantsCredential !== undefined && !caller.isAuthenticated) this.#refuseAnonymous(this.#wantsCredential(), context);
    if (arrival.overLimit !== undefined) throw arrival.overLimit;
    if (arrival.isLimited !== true) this.#limit?.(context);
    const isOwnersCall = this.#isDecidedByRequest(caller);
    if (!isOwnersCall) this.#authorise(context, undefined);
    if (arrival.timeoutMs !== undefined && arrival.timeoutMs <= 0) throw expired();
    const read = request instanceof UndecodedRequest ? request.read() : request;
    if (isOwnersCall) this.#authorise(context, read);
    return read;
  }

  /** Returns whether access depends on the namespace in the request because the caller is an owner. */
  #isDecidedByRequest(caller: Caller): boolean {
    return this.#requiredAccess.ownerOf !== undefined && isOwner(caller);
  }

  #refuseAnonymous(refusal: WaymarkError, { caller, requestId }: CallContext): never {
    this.#reportRefused(refusal, caller, requestId);
    throw refusal;
  }

  #authorise({ caller, requestId }: CallContext, request: object | undefined): void {
    try {
      authorise(this.#requiredAccess, caller, request);
    } catch (thrown) {
      this.#reportRefused(thrown, caller, requestId);
      throw thrown;
    }
  }

  #reportRefused(thrown: unknown, caller: Caller, requestId: string): void {
    if (!(thrown instanceof WaymarkError)) return;
    this.#ports.onRefused?.({ requestId, service: this.service, method: this.name, address: caller.address, caller, error: thrown });
  }

  /**
   * Returns an error if a call would be rejected regardless of its request, or undefined if the result depends on the request. This function is
   * called when a request does not arrive in one piece or is decoded before it reaches the chain, so that data from a caller without permission is
   * neither stored nor decoded. The function does not count or record the rejection, because the rejected call itself is counted and recorded.
   */
  judgeHeaders(arrival: CallArrival): WaymarkError | undefined | Promise<WaymarkError | undefined> {
    if (this.handler === undefined) return this.#unimplemented();
    try {
      const caller = this.#ports.identify(arrival.header, arrival);
      return caller instanceof Promise
        ? caller.then((known) => this.#judge(known, arrival)).catch(asRefusal)
        : this.#judge(caller, arrival);
    } catch (thrown) {
      return asRefusal(thrown);
    }
  }

  #judge(caller: Caller, arrival: CallArrival): WaymarkError | undefined {
    const { isForEverybody } = this.#requiredAccess;
    if (this.#chain.isDraining && !isForEverybody) return draining();
    if (this.#ports.anonymous === "none" && !caller.isAuthenticated && !isForEverybody) return anonymousRefused("none", "call");
    if (this.#wantsCredential !== undefined && !caller.isAuthenticated) return this.#wantsCredential();
    if (arrival.isLimited === false) {
      arrival.isLimited = true;
      try {
        this.#limit?.({ caller, time: this.#ports.now(), requestId: "" });
      } catch (thrown) {
        if (thrown instanceof WaymarkError) arrival.overLimit = thrown;
        throw thrown;
      }
    }
    if (!this.#isDecidedByRequest(caller)) authorise(this.#requiredAccess, caller, undefined);
    return undefined;
  }

  /** Returns the id of an arriving call: the id that the client sent, or a new id. */
  requestId(arrival: CallArrival): string {
    const requestId = this.#chain.requestId(arrival.header);
    this.#ports.onCall?.({ requestId, service: this.service, method: this.name, address: arrival.address });
    return requestId;
  }

  /** Runs a unary call to its end. A `request` that is a WaymarkError means that its bytes could not be read. */
  // HOT: runs once per request. A synchronous response does not need a promise, timer or closure.
  unary(request: SentRequest, exchange: UnaryExchange): void {
    const time = this.#ports.now();
    const requestId = this.requestId(exchange.arrival);
    const { timeoutMs } = exchange.arrival;
    const deadlineMonoMs = timeoutMs === undefined ? undefined : time.monoMs + timeoutMs;
    try {
      const caller = this.#identify(exchange.arrival, requestId);
      if (caller instanceof Promise) {
        if (request instanceof UndecodedRequest) request.hold();
        caller.then(
          (known) => this.#runLater(request, exchange, { caller: known, time: this.#ports.now(), requestId, deadlineMonoMs }),
          (thrown: unknown) => this.#refuse(thrown, exchange, requestId, time),
        );
        return;
      }
      this.#run(request, exchange, { caller, time, requestId, deadlineMonoMs });
    } catch (thrown) {
      this.#refuse(thrown, exchange, requestId, time);
    }
  }

  #runLater(request: SentRequest, exchange: UnaryExchange, context: CallContext): void {
    try {
      this.#run(request, exchange, context);
    } catch (thrown) {
      this.#refuse(thrown, exchange, context.requestId, context.time);
    }
  }

  #run(sent: SentRequest, exchange: UnaryExchange, context: CallContext): void {
    const request = this.#admit(context, exchange.arrival, sent);
    if (request instanceof WaymarkError) throw request;
    const handler = this.handler;
    if (handler === undefined || handler.kind !== "unary") throw this.#unimplemented();
    this.checkRequest(request);
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- it was decoded with the method's descriptor, so it has the handler's type.
    const answer = handler.handle(request as never, context);
    if (answer instanceof Promise) {
      this.#await(answer, exchange, context);
      return;
    }
    exchange.succeed(answer, context);
    this.finish(exchange.arrival, context.time, 0);
  }

  #refuse(thrown: unknown, exchange: UnaryExchange, requestId: string, time: Time): void {
    const status = this.status(thrown, requestId);
    exchange.fail(status, requestId);
    this.finish(exchange.arrival, time, status.code);
  }

  /** Responds when the promise settles or at the deadline, whichever comes first. */
  #await(answer: Promise<Message | Uint8Array>, exchange: UnaryExchange, context: CallContext): void {
    let isOpen = true;
    const settle = (response: Message | Uint8Array | undefined, thrown: unknown) => {
      if (!isOpen) return;
      isOpen = false;
      forget?.();
      if (response === undefined) {
        // For this call, the handler checks the owner instead of the chain, so the rejection has not been recorded yet.
        const isDenied = thrown instanceof WaymarkError && thrown.reason === "discovery_access_denied";
        if (this.#requiredAccess.isForOwners && isDenied) this.#reportRefused(thrown, context.caller, context.requestId);
        return this.#refuse(thrown, exchange, context.requestId, context.time);
      }
      try {
        exchange.succeed(response, context);
      } catch (unsendable) {
        return this.#refuse(unsendable, exchange, context.requestId, context.time);
      }
      this.finish(exchange.arrival, context.time, 0);
    };
    const leave = () => {
      if (isOpen) context.onOver?.();
    };
    const forget = exchange.arrival.onDeadline(() => {
      leave();
      settle(undefined, expired());
    });
    exchange.arrival.onGone?.(leave);
    answer.then(
      (response) => settle(response, undefined),
      (thrown: unknown) => settle(undefined, thrown),
    );
  }

  /** Identifies the caller of an open stream again. Throws or rejects when the credential is no longer valid. The rejection is recorded. */
  identifyAgain(arrival: CallArrival, requestId: string): Caller | Promise<Caller> {
    const call = { requestId, service: this.service, method: this.name };
    return this.#chain.identify(arrival, call, this.#requiredAccess.isForEverybody);
  }

  /** Admits a stream. Throws or rejects to reject the stream. `sent` is the stream's request, if there is exactly one. */
  admitStream(arrival: CallArrival, requestId: string, sent?: SentRequest): AdmittedStream | Promise<AdmittedStream> {
    const admit = (caller: Caller): AdmittedStream => {
      const context = { caller, time: this.#ports.now(), requestId };
      const request = this.#admit(context, arrival, sent);
      if (request instanceof WaymarkError) throw request;
      return { context, request };
    };
    const caller = this.#identify(arrival, requestId);
    if (!(caller instanceof Promise)) return admit(caller);
    if (sent instanceof UndecodedRequest) sent.hold();
    return caller.then(admit);
  }

  /**
   * Answers an HTTP route of this method after the same checks as a call. `parameters` contains the fields that determine access. Rejects
   * if the call is rejected.
   */
  async route<T>(arrival: CallArrival, parameters: object, answer: (context: CallContext) => T | Promise<T>): Promise<T> {
    const began = this.#ports.now();
    const requestId = this.requestId(arrival);
    try {
      const caller = await this.#identify(arrival, requestId);
      const context = { caller, time: this.#ports.now(), requestId };
      this.#admit(context, arrival, parameters);
      const answered = await answer(context);
      this.finish(arrival, began, 0);
      return answered;
    } catch (thrown) {
      this.finish(arrival, began, this.status(thrown, requestId).code);
      throw thrown;
    }
  }

  /** Returns the source of responses for an admitted server stream. Throws to reject the stream. */
  openSource(request: Message, context: CallContext): StreamSource {
    const handler = this.handler;
    if (handler?.kind !== "server_streaming") throw this.#unimplemented();
    this.checkRequest(request);
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- as in unary.
    return handler.open(request as never, context);
  }

  /** Returns the listener for the requests of an admitted stream. Throws to reject the stream. */
  openRequests(answers: AnswerSink, context: CallContext): RequestListener<never> {
    const handler = this.handler;
    if (handler?.kind !== "client_streaming" && handler?.kind !== "bidi_streaming") throw this.#unimplemented();
    return handler.open(answers, context);
  }

  /**
   * Calls `expire` when the credential of the stream's caller expires. The returned function cancels the timer. Returns undefined for a credential
   * that never expires.
   */
  onCredentialEnd({ caller, time }: CallContext, expire: (error: WaymarkError) => void): (() => void) | undefined {
    const { untilWallMs } = caller;
    if (untilWallMs === undefined) return undefined;
    return this.#ports.later(() => expire(outlived()), Math.max(0, untilWallMs - time.wallMs));
  }

  /** Returns the status for a thrown value. */
  status(thrown: unknown, requestId: string): RpcStatus {
    return this.#chain.status(thrown, { requestId, service: this.service, method: this.name });
  }

  now(): Time {
    return this.#ports.now();
  }

  /** Like `CallChain.onDrain`. */
  onDrain(leave: (error: WaymarkError) => void): () => void {
    return this.#chain.onDrain(leave);
  }

  /** Counts a call that has ended. `code` is the gRPC code: 0 for OK, and 1 for a call that the client cancelled. */
  finish({ transport, encoding }: CallArrival, began: Time, code: number): void {
    const key = `${transport}/${encoding}/${code}`;
    let counts = this.#counts.get(key);
    if (counts === undefined) {
      const [{ metrics }, service, method] = [this.#ports, this.service, this.name];
      counts = {
        ended: metrics.counter("rpc_requests_total", { service, method, code: codeName(code), transport, encoding }),
        latency: this.desc.methodKind === "unary" ? metrics.histogram("rpc_latency_ms", { service, method, transport }) : undefined,
      };
      this.#counts.set(key, counts);
    }
    counts.ended.inc();
    counts.latency?.observe(this.#ports.now().monoMs - began.monoMs);
  }
}

/** Returns the error if `judgeHeaders` can report it. Other errors are bugs: they are ignored, occur again when the call runs, and are then recorded. */
function asRefusal(thrown: unknown): WaymarkError | undefined {
  return thrown instanceof WaymarkError ? thrown : undefined;
}

/**
 * Returns a function that consumes the caller's rate limit tokens. Callers with the method's role are not limited, so that a flood of calls cannot
 * lock out operators.
 */
function limitOf(
  { limit }: ChainPorts,
  cost: CallCost | undefined,
  { role }: RequiredAccess,
): ((context: CallContext) => void) | undefined {
  if (limit === undefined || cost === undefined) return undefined;
  return ({ caller, time }) => {
    if (role === undefined || !hasRole(caller, role)) limit(caller, cost, time.monoMs);
  };
}

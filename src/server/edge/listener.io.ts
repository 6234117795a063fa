/** The HTTP edge: serves the services (Connect, gRPC-Web and gRPC) and the GET routes over HTTP/1.1 and HTTP/2 on one port. */
import { once } from "node:events";
import { constants, Http2ServerRequest, type ServerHttp2Stream } from "node:http2";
import type { Registry } from "@bufbuild/protobuf";
import { base64Decode } from "@bufbuild/protobuf/wire";
import type { Compression, UniversalHandler, UniversalServerResponse } from "@connectrpc/connect/protocol";
import type { GuardedConnection, PendingRequest } from "../../grpc/server/connection-guard.io.ts";
import { type FileAcceptor, type ListenerTlsFiles, openFileAcceptor } from "../../grpc/server/tls-files.io.ts";
import { UnreadAnswers } from "../../grpc/server/unread-answers.ts";
import { SharedInflater } from "../../grpc/wire/inflater.io.ts";
import type { Inflater } from "../../grpc/wire/message-reader.ts";
import { fieldOf } from "../../grpc/wire/request-head.ts";
import { withoutMapping } from "../../lib/addresses.ts";
import { invalid, WaymarkError } from "../../lib/errors.ts";
import type { Log } from "../../lib/log.io.ts";
import type { Metrics } from "../../lib/metrics/metrics.ts";
import type { ListeningPort } from "../../lib/shared-port.io.ts";
import { stallAwareDueMs, stallAwareNowMs } from "../../lib/stall-aware-time.io.ts";
import type { ServiceDefinition } from "../../services/service.ts";
import { BrowserRules, type WebRules } from "../browser-rules.ts";
import type { CallChain, HeaderReader } from "../chain.ts";
import { errorAnswer, HttpRoutes, type HttpSources, methodNotAllowed, type RouteResponse } from "../http-routes.ts";
import { peerOf } from "../peer.io.ts";
import { refusal } from "../status.ts";
import { type BodyBudget, type EdgeArrival, EdgeCall } from "./call.ts";
import { answerDnsQuery, DNS_PATH, type DnsMessages } from "./dns-query.io.ts";
import { gzipWithin, withInflation } from "./inflate.io.ts";
import { bodyInOnePiece, type PlainAnswer, type PlainMethod, sentTimeoutMs } from "./plain-call.ts";
import { authorityOf, quoted, readAbsoluteForm, twoHostsFault, universalRequest, urlFault } from "./request.io.ts";
import { readBody } from "./request-body.io.ts";
import { type EdgeMethod, edgeMethods, prepareRequest } from "./rpc.ts";
import { type EdgeLimits, type EdgeRequest, type EdgeResponse, type EdgeSocketEvents, EdgeSockets } from "./sockets.io.ts";
import { isClosed, write, writeAnswer, writeJson } from "./writer.ts";

export interface EdgeListenerOptions extends ListeningPort {
  readonly services: readonly ServiceDefinition[];
  readonly chain: CallChain;
  readonly sources: HttpSources;
  readonly metrics: Metrics;
  readonly tls?: ListenerTlsFiles | undefined;
  readonly limits: EdgeLimits;
  readonly log: Pick<Log, "info" | "warn">;
  /** The allowed hosts and web pages. Defaults to loopback names, without pages from other origins. */
  readonly web?: Partial<WebRules> | undefined;
  /** Shared by all listeners of a node. Defaults to a new inflater. */
  readonly inflater?: Inflater | undefined;
  readonly registry?: Registry | undefined;
  /** Answers DNS over HTTP. If absent, the path does not exist. */
  readonly dnsMessages?: DnsMessages | undefined;
}

/** The options for answering requests. */
type DispatcherOptions = Pick<
  EdgeListenerOptions,
  "services" | "chain" | "sources" | "metrics" | "tls" | "web" | "inflater" | "registry" | "dnsMessages"
> &
  Pick<EdgeSocketEvents, "onCut">;

/** Binds the port and serves. If it cannot bind, rejects with a message that includes host:port. */
export async function startEdgeListener(options: EdgeListenerOptions): Promise<EdgeListener> {
  const { limits, log } = options;
  const refused = (reason: Parameters<EdgeSocketEvents["onCut"]>[0] | "limit" | "handshake") =>
    options.metrics.inc("waymark_connections_refused_total", { listener: "http", reason });
  const onCut: EdgeSocketEvents["onCut"] = (reason, address) => {
    refused(reason);
    log.warn({ listener: "http", reason, address }, "connection cut");
  };
  const dispatcher = new EdgeDispatcher({ ...options, onCut }, limits);
  const sockets: EdgeSockets = new EdgeSockets(limits, {
    onRequest: (request, response, transport) =>
      dispatcher.take(request, response, { transport, connection: sockets.connectionOf(request) }),
    onCut,
  });
  const acceptor = await openFileAcceptor({
    host: options.host,
    port: options.port,
    sharing: options.sharing,
    portFlag: "--http-port",
    tls: options.tls,
    onReload: () => log.info({ listener: "http" }, "certificates reloaded"),
    onReloadFailed: (error) => log.warn({ listener: "http", err: error }, "certificate reload failed, keeping the current certificates"),
    protocols: ["h2", "http/1.1"],
    maxConnections: limits.maxConnections,
    onConnection: (socket) => sockets.accept(socket),
    onDrop: () => refused("limit"),
    onHandshakeFailed: () => refused("handshake"),
  });
  return new EdgeListener(acceptor, sockets, dispatcher);
}

export class EdgeListener {
  /** The acceptor: the bound address, the connections and the certificates. */
  readonly acceptor: FileAcceptor;
  readonly #sockets: EdgeSockets;
  readonly #dispatcher: EdgeDispatcher;
  #stopping: Promise<void> | undefined;

  constructor(acceptor: FileAcceptor, sockets: EdgeSockets, dispatcher: EdgeDispatcher) {
    this.acceptor = acceptor;
    this.#sockets = sockets;
    this.#dispatcher = dispatcher;
  }

  /**
   * Waits up to `deadlineMs` for the currently open requests, then closes the remaining requests. New requests are still answered, so that health
   * checks succeed until the end.
   */
  async drain(deadlineMs: number): Promise<void> {
    const open = this.#dispatcher.drain();
    const signal = AbortSignal.timeout(deadlineMs);
    await Promise.all(open.map((response) => once(response, "close", { signal }).catch(() => {})));
    for (const response of open) response.destroy();
  }

  /**
   * Stops accepting, closes idle connections, waits up to `deadlineMs` for open requests, then closes the remaining connections.
   * Idempotent.
   */
  stop(deadlineMs: number): Promise<void> {
    this.#stopping ??= this.#stop(deadlineMs);
    return this.#stopping;
  }

  async #stop(deadlineMs: number): Promise<void> {
    this.#dispatcher.drain();
    this.acceptor.close();
    this.#sockets.closeIdle();
    // A connection becomes idle when its last response is sent, and Node has no event for this.
    const again = setInterval(() => this.#sockets.closeIdle(), IDLE_CHECK_MS);
    await this.acceptor.allClosed(deadlineMs);
    clearInterval(again);
    this.#dispatcher.close();
    for (const socket of this.acceptor.sockets) socket.destroy();
  }
}

const IDLE_CHECK_MS = 20;

/** Interval between checks of unread responses, in ms. */
const UNREAD_CHECK_MS = 250;

/** Minimum size for compression of a response. Connect uses the same minimum. */
const MIN_GZIP_BYTES = 1_024;

const JSON_BODY = {
  mediaType: "application/json",
  tooLarge: (size: string, maxBytes: number) => invalid("request", `message too large: it has ${size}, and the limit is ${maxBytes}`),
};

const UNREAD_CODING = "unsupported transfer-encoding: use chunked, and declare compression in content-encoding";

/** Answers every request. A request must never end the process. */
export class EdgeDispatcher {
  #isStopping = false;
  readonly #open = new Set<EdgeResponse>();
  readonly #options: DispatcherOptions;
  readonly #routes: HttpRoutes;
  readonly #methods: ReadonlyMap<string, EdgeMethod>;
  readonly #budget: BodyBudget;
  readonly #unread: UnreadAnswers;
  readonly #unreadTimer: NodeJS.Timeout;
  readonly #maxMessageBytes: number;
  readonly #browserRules: BrowserRules;
  readonly #gzip: Compression;

  constructor(options: DispatcherOptions, limits: EdgeLimits) {
    this.#options = options;
    this.#browserRules = new BrowserRules({ takesAnyHost: options.tls !== undefined, hosts: [], corsOrigins: [], ...options.web });
    this.#budget = { maxBytes: limits.maxBufferedBytes, usedBytes: 0 };
    this.#unread = new UnreadAnswers(limits, {
      nowMs: stallAwareNowMs,
      onCut: (address) => options.onCut("unread_answer", address),
    });
    this.#unreadTimer = setInterval(() => this.#unread.check(stallAwareDueMs()), UNREAD_CHECK_MS).unref();
    this.#maxMessageBytes = limits.maxMessageBytes;
    const { services, chain } = options;
    this.#routes = new HttpRoutes(options.sources, services, chain);
    this.#gzip = gzipWithin(options.inflater ?? new SharedInflater());
    this.#methods = edgeMethods({
      services,
      chain,
      maxMessageBytes: limits.maxMessageBytes,
      compression: [this.#gzip],
      registry: options.registry,
    });
  }

  /** From now on, ends HTTP/1.1 connections after their current response. Returns the open requests. */
  drain(): readonly EdgeResponse[] {
    this.#isStopping = true;
    return [...this.#open];
  }

  /** Stops the timers, when no more requests are answered. */
  close(): void {
    clearInterval(this.#unreadTimer);
  }

  take(request: EdgeRequest, response: EdgeResponse, on: { transport: "http1" | "h2"; connection: GuardedConnection | undefined }): void {
    request.on("error", () => {}); // The client disconnected. The subsequent "close" event is handled.
    response.on("error", () => {});
    readAbsoluteForm(request);
    if (request instanceof Http2ServerRequest) {
      const { stream } = request;
      stream.on("wantTrailers", () => endRequest(stream, on.connection));
    }
    this.#open.add(response);
    response.once("close", () => this.#open.delete(response));
    if (this.#isStopping && !("stream" in response)) response.setHeader("connection", "close");
    const header = headerReader(request);
    const { chain } = this.#options;
    const requestId = chain.requestId(header);
    const owner = on.connection ?? request.socket;
    const arrival: EdgeArrival = {
      transport: on.transport,
      encoding: encodingOf(request, header),
      ...peerOf(owner),
      header: (name) => (name === "x-request-id" ? requestId : header(name)),
      requestId,
      isLimited: false,
      timeoutMs: undefined,
      onDeadline: (expire) => (arrival.timeoutMs === undefined ? undefined : chain.ports.later(expire, arrival.timeoutMs)),
      onGone: (gone) => void response.once("close", gone),
      budget: this.#budget,
      meter: on.connection?.meter,
      unread: this.#unread,
      arriving: on.connection?.arriving,
      owner,
    };
    this.#answer(request, response, arrival).catch((thrown: unknown) => {
      // Usually, the client has disconnected, which is not an error. A bug is reported with its stack trace.
      if (!isClosed(response)) chain.ports.onBug(thrown, { requestId, service: "http", method: request.method ?? "" });
      response.destroy();
    });
  }

  async #answer(request: EdgeRequest, response: EdgeResponse, arrival: EdgeArrival): Promise<void> {
    const coding = arrival.header("transfer-encoding")?.toLowerCase() ?? "chunked";
    if (coding !== "chunked" && !("stream" in response)) {
      response.setHeader("connection", "close");
      return this.#write(response, errorAnswer(refusal(new WaymarkError("unimplemented", UNREAD_CODING))), arrival);
    }
    const method = this.#methods.get(pathOf(request.url ?? ""));
    const wrongHost = twoHostsFault(request) ?? (method === undefined ? undefined : urlFault(request));
    if (wrongHost !== undefined) return this.#write(response, errorAnswer(refusal(wrongHost)), arrival);
    const answered = this.#refusedByBrowserRules(request, response, { arrival, method });
    if (answered !== undefined) return answered;
    if (method === undefined) return this.#answerRoute(request, response, arrival);
    const { handler, chain, plain } = method;
    const isRead = request.method === "GET" && handler.allowedMethods.includes("GET");
    const fault = isRead ? queryFault(request.url ?? "") : undefined;
    if (fault !== undefined) return this.#write(response, errorAnswer(refusal(fault)), arrival);
    const call = new EdgeCall(arrival, chain);
    boundArrival(request, call, { arriving: arrival.arriving, isStream: handler.method.methodKind === "bidi_streaming" });
    const length = plain?.lengthOf(request.method ?? "", arrival.header);
    const piece = length === undefined ? undefined : await bodyInOnePiece(request, length);
    if (piece !== undefined && plain !== undefined) return this.#answerPlain(response, { plain, piece, arrival });
    response.once("close", () => call.release());
    request.once("error", () => call.release()); // A queued response that was never started does not emit "close".
    const isUnary = handler.method.methodKind === "unary";
    const incoming = universalRequest(request, response);
    const answer = await withInflation(call, request.method === "GET", () =>
      handler(prepareRequest(incoming, call, { isUnary, maxMessageBytes: this.#maxMessageBytes })),
    );
    const refused = plainRefusal(answer, handler, request);
    if (refused === undefined) await writeAnswer(response, answer, { ...arrival, signal: incoming.signal });
    else await this.#write(response, refused, arrival);
  }

  #answerPlain(
    response: EdgeResponse,
    call: { readonly plain: PlainMethod; readonly piece: Uint8Array; readonly arrival: EdgeArrival },
  ): Promise<void> {
    return new Promise((resolve, reject) => {
      call.plain.answer(call.piece, call.arrival, (answer) => void this.#writePlain(answer, response, call.arrival).then(resolve, reject));
    });
  }

  async #writePlain({ status, headers, text }: PlainAnswer, response: EdgeResponse, arrival: EdgeArrival): Promise<void> {
    const { header } = arrival;
    const isPacked =
      text.length >= MIN_GZIP_BYTES && (header("accept-encoding") ?? "").split(",").some((name) => name.trim() === this.#gzip.name);
    const body = isPacked ? await this.#gzip.compress(Buffer.from(text, "latin1")) : text;
    if (isClosed(response)) return;
    await writeJson(response, { status, headers, body, encoding: isPacked ? this.#gzip.name : undefined }, arrival);
  }

  /**
   * Answers preflight requests and rejects requests that violate the rules for hosts and origins, before any other part of the request is processed.
   */
  #refusedByBrowserRules(
    request: EdgeRequest,
    response: EdgeResponse,
    to: { readonly arrival: EdgeArrival; readonly method: EdgeMethod | undefined },
  ): Promise<void> | undefined {
    const { arrival, method } = to;
    const { header, requestId, address } = arrival;
    const origin = header("origin");
    const path = pathOf(request.url ?? "");
    const refused = this.#browserRules.check({
      host: authorityOf(request),
      path,
      origin,
      fetchSite: header("sec-fetch-site"),
      localAddress: withoutMapping(request.socket.localAddress ?? ""),
      isWrite: method?.isWrite ?? this.#routes.isWrite(request.method ?? "", path),
    });
    if (refused !== undefined) {
      const called =
        method === undefined ? { service: "http", method: path } : { service: method.chain.service, method: method.chain.name };
      this.#options.chain.ports.onRefused?.({ ...called, requestId, address, caller: undefined, error: refused });
      return this.#write(response, errorAnswer(refusal(refused)), arrival);
    }
    const isPreflight = request.method === "OPTIONS" && header("access-control-request-method") !== undefined;
    const cors = isPreflight ? this.#browserRules.preflightHeaders(origin) : this.#browserRules.corsHeaders(origin);
    // This header is set even if the page cannot read the response, because a cache must not return the same response to a page that can.
    if (this.#browserRules.variesByOrigin) response.setHeader("vary", "origin");
    if (cors === undefined) return undefined;
    for (const [name, value] of Object.entries(cors)) response.setHeader(name, value);
    return isPreflight ? this.#write(response, { status: 204, contentType: "text/plain", headers: {}, body: [] }, arrival) : undefined;
  }

  async #answerRoute(request: EdgeRequest, response: EdgeResponse, arrival: EdgeArrival): Promise<void> {
    const { method = "", url: target = "" } = request;
    const { dnsMessages: messages, chain } = this.#options;
    const isDns = messages !== undefined && pathOf(target) === DNS_PATH;
    const isRead = method === "GET" || method === "HEAD";
    if (isDns || !isRead) boundArrival(request, { hasBegun: false, isGivenUp: false }, { arriving: arrival.arriving, isStream: false });
    if (!isRead) arrival.timeoutMs = sentTimeoutMs(arrival.header);
    const body = isRead ? undefined : (maxBytes = this.#maxMessageBytes) => readBody(request, arrival, { ...JSON_BODY, maxBytes });
    const answer = isDns
      ? { ...(await answerDnsQuery(request, arrival, { chain, messages })), route: DNS_PATH }
      : await this.#routes.answer({ method, target, arrival: { ...arrival, encoding: "json" }, body });
    if (isClosed(response)) return;
    this.#options.metrics.inc("waymark_http_requests_total", { route: answer.route, status: statusClass(answer.status) });
    await this.#write(response, answer, { ...arrival, isHead: request.method === "HEAD" });
  }

  #write(response: EdgeResponse, answer: RouteResponse, to: EdgeArrival & { readonly isHead?: boolean }): Promise<void> {
    return write(response, answer, { ...to, turn: this.#options.chain.ports.turn });
  }
}

/**
 * Called when the response has been sent. If the client is still sending its request, closes the stream, because the rest is not needed
 * (RFC 9113, section 8.1). Node sends the trailers in a setImmediate callback. If the stream closed before that, the trailers would be lost.
 */
function endRequest(stream: ServerHttp2Stream, connection: GuardedConnection | undefined): void {
  if (stream.readableEnded) return;
  if (connection !== undefined) connection.meter.brokenUploads += 1;
  setImmediate(() => stream.close(constants.NGHTTP2_NO_ERROR));
}

/** HTTP/1.1 has requestTimeout. An HTTP/2 stream whose body never arrives would stay open forever. */
function boundArrival(
  request: EdgeRequest,
  call: Pick<EdgeCall, "hasBegun" | "isGivenUp">,
  { arriving, isStream }: ArrivingRequests,
): void {
  if (arriving === undefined || !(request instanceof Http2ServerRequest) || request.stream.endAfterHeaders) return;
  const giveUp = () => {
    arriving.delete(bound);
    if (isStream && call.hasBegun) return;
    call.isGivenUp = true;
    request.stream.close(constants.NGHTTP2_CANCEL);
  };
  const bound: PendingRequest = { sinceMs: undefined, giveUp };
  arriving.add(bound);
  for (const event of ["end", "close"]) request.once(event, () => arriving.delete(bound));
}

interface ArrivingRequests {
  readonly arriving: Set<PendingRequest> | undefined;
  /** For a bidirectional stream, the arrival of the first bytes is enough. */
  readonly isStream: boolean;
}

function headerReader(request: EdgeRequest): HeaderReader {
  const { headers, rawHeaders } = request;
  return (name) => fieldOf(name, headers, rawHeaders);
}

function encodingOf(request: EdgeRequest, header: HeaderReader): "json" | "proto" {
  if (request.method !== "GET") return (header("content-type") ?? "").toLowerCase().includes("json") ? "json" : "proto";
  return queryOf(request.url ?? "").get("encoding") === "json" ? "json" : "proto";
}

function pathOf(target: string): string {
  return target.split("?", 1)[0] ?? "";
}

function queryOf(target: string): URLSearchParams {
  return new URLSearchParams(target.slice(pathOf(target).length));
}

/**
 * Returns the error in the query string of a GET. Connect would report such an error as an internal error, or as a wrong content type, although a GET
 * has no content type.
 */
function queryFault(target: string): WaymarkError | undefined {
  const query = queryOf(target);
  const encoding = query.get("encoding");
  if (encoding !== "json" && encoding !== "proto") {
    const is = encoding === null ? "it is missing" : `it is ${JSON.stringify(encoding.slice(0, 64))}`;
    return invalid("encoding", `must be json or proto in the query string of a GET request; ${is}`);
  }
  if (encoding === "json" && (query.get("message") ?? "") === "")
    return invalid("message", "must contain the request as JSON in the query string of a GET request, at least {}");
  if (query.get("base64") !== "1") return undefined;
  try {
    base64Decode(query.get("message") ?? "");
    return undefined;
  } catch {
    return invalid("message", "must be base64, because base64=1 is set");
  }
}

/**
 * Returns the response to a wrong method, media type or HTTP version. Connect answers with only a status. This response also lists the accepted
 * values.
 */
function plainRefusal(answer: UniversalServerResponse, handler: UniversalHandler, request: EdgeRequest): RouteResponse | undefined {
  switch (answer.status) {
    case 405:
      return methodNotAllowed(
        handler.allowedMethods.filter((method, at, all) => all.indexOf(method) === at).join(", "),
        request.method ?? "",
      );
    case 415:
      return errorAnswer(refusal(mediaTypeFault(handler, request.headers["content-type"])), 415);
    case 505:
      return errorAnswer(refusal(invalid("http-version", "a bidirectional stream requires HTTP/2")), 505);
    default:
      return undefined;
  }
}

/** Returns a message with the received and the accepted media types. In the Connect protocol, unary calls and streams have different media types. */
function mediaTypeFault({ method }: UniversalHandler, contentType = ""): WaymarkError {
  const is = contentType === "" ? "is missing" : `is ${quoted(contentType)}`;
  const accepted =
    method.methodKind === "unary"
      ? "a unary call accepts application/json, application/proto"
      : "a stream accepts application/connect+json, application/connect+proto";
  return invalid("content-type", `${is}; ${accepted}, application/grpc-web or application/grpc`);
}

function statusClass(status: number): "2xx" | "3xx" | "4xx" | "5xx" {
  if (status < 400) return status < 300 ? "2xx" : "3xx";
  return status < 500 ? "4xx" : "5xx";
}

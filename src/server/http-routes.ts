/**
 * The routes of the HTTP edge: the node's own routes, and the routes of its services. This file does not open a socket.
 * `server/edge/listener.io.ts` sends the responses.
 */
import { hash } from "node:crypto";
import { type JsonValue } from "@bufbuild/protobuf";
import { assert, CODES, type ErrorCode, invalid, WaymarkError } from "../lib/errors.ts";
import { fnv64, hashHex } from "../lib/hash64.ts";
import { visibleJson } from "../lib/text/visible-text.ts";
import type { CallRoute, EventRoute, HttpRoute, RouteParameters, ServiceDefinition } from "../services/service.ts";
import type { CallArrival, CallChain, CallName } from "./chain.ts";
import { errorJson, retryAfterSeconds } from "./edge/call.ts";
import { callPage, isConditional, readCall } from "./edge/call-route.ts";
import { eventReader, eventWriter, openEvents } from "./edge/events.ts";
import { EdgeExchange } from "./edge/streams.ts";
import { UndecodedRequest } from "./request-shape/plan.ts";
import { type RpcStatus, refusal } from "./status.ts";
import { SourceStream } from "./streams.ts";

/** The readiness of one subsystem. */
export interface ReadyCheck {
  readonly name: string;
  readonly ok: boolean;
  /** Explanation for people. If the subsystem is not ok, this text contains the reason. */
  readonly detail: string;
}

export interface ReadinessReport {
  readonly isDraining: boolean;
  readonly checks: readonly ReadyCheck[];
}

/** The callers that may use a route without a policy of its own: all callers, callers with a credential, or no callers. */
export type RouteAccess = "on" | "authenticated" | "off";

/** The node's own data, in addition to its services. */
export interface HttpSources {
  /** Access to the routes that monitoring programs scrape. */
  readonly metricsAccess: RouteAccess;
  /** Access to the OpenAPI document. */
  readonly openApiAccess: RouteAccess;
  /** Reads the OpenAPI document. Rejects if the installation does not contain the file. */
  openApi(): Promise<Uint8Array>;
  /**
   * Whether the main part of the node is working, if another thread answers these requests. Absent if the answering thread is the whole node.
   */
  isAlive?(): boolean;
  readiness(): ReadinessReport | Promise<ReadinessReport>;
  /** Returns the metrics as text, in the format that the `Accept` header requests. */
  scrape(accept: string): Promise<{ readonly contentType: string; readonly body: string }>;
  /** Returns the state of the journal. Undefined when the node runs without a journal. */
  persistence(): JsonValue | undefined | Promise<JsonValue>;
}

export interface HttpRequest {
  readonly method: string;
  /** Path and query string as sent. */
  readonly target: string;
  readonly arrival: CallArrival;
  /** Reads the JSON body, of at most `maxBytes`. Returns the response if the body has another type or is larger. Absent for GET and HEAD. */
  readonly body?: ((maxBytes?: number) => Promise<Uint8Array | RouteResponse>) | undefined;
}

export interface HttpResponse {
  readonly status: number;
  readonly contentType: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | Uint8Array | Iterable<string> | AsyncIterable<string>;
  /** The path of the matched route without the values of its parameters, for metrics; `other` if none matched. */
  readonly route: string;
}

const MAX_QUERY_CHARS = 4096;
const MAX_PARAMETERS = 16;
const JSON_TYPE = "application/json; charset=utf-8";
const EVENT_TYPE = "text/event-stream; charset=utf-8";

/** A response without its `route`. Routes and errors return responses in this form. */
export type RouteResponse = Omit<HttpResponse, "route">;

/** A row of the route table. */
interface PathRow {
  /** Absent for GET. */
  readonly method?: CallRoute["method"];
  readonly parameters: readonly string[];
  /** Absent if a role, the policy of an rpc or nothing restricts the callers. */
  readonly access?: RouteAccess | undefined;
  readonly answer: (parameters: RouteParameters, request: HttpRequest) => RouteResponse | Promise<RouteResponse>;
}

const unimplemented = (parameters: readonly string[] = [], why = "is not implemented in this version of waymark"): PathRow => ({
  parameters,
  answer: (_parameters, request) => {
    throw new WaymarkError("unimplemented", `${pathOf(request.target)} ${why}`);
  },
});

/** The error that is returned if no service provides the summary route. */
const NO_SUMMARIES = "requires a node with summaries: set summary.keys on that node (docs/guides/regions.md)";

const PAGE = ["limit", "page_token"] as const;

/** Routes for services that are not implemented yet. */
const LATER: Readonly<Record<string, PathRow>> = {
  "/discovery/summary": unimplemented(["scope", "namespace", "service_id", ...PAGE], NO_SUMMARIES),
  "/routing/trace": unimplemented(["destination"]),
  "/control/clusters": unimplemented(PAGE),
  "/control/versions": unimplemented(PAGE),
  "/control/capacity": unimplemented(),
  "/control/state-diff": unimplemented(["left", "right"]),
  "/ui": unimplemented(),
};

/** Routes in `LATER` that nodes with summaries provide. Resolvers have no summaries. */
const OPTIONAL_PATHS: ReadonlySet<string> = new Set(["/discovery/summary"]);

/** Returns the node's own routes, which do not have an rpc. */
export function nodeRows(sources: HttpSources): Readonly<Record<string, PathRow>> {
  return {
    "/healthz": { parameters: [], answer: () => aliveAnswer(sources.isAlive?.() !== false) },
    "/readyz": { parameters: [], answer: async () => readyAnswer(await sources.readiness()) },
    "/openapi.json": {
      parameters: [],
      access: sources.openApiAccess,
      answer: async (_parameters, { arrival }) => {
        const body = await sources.openApi();
        const answer = { status: 200, contentType: JSON_TYPE, headers: {}, body };
        return revalidated(arrival, () => answer, `"${hash("sha256", body, "base64url")}"`);
      },
    },
    "/metrics": {
      parameters: [],
      access: sources.metricsAccess,
      answer: async (_parameters, { arrival }) => ({
        status: 200,
        headers: NO_STORE,
        ...(await sources.scrape(arrival.header("accept") ?? "")),
      }),
    },
    "/metrics/persistence": {
      parameters: [],
      access: sources.metricsAccess,
      answer: async () => json(200, (await sources.persistence()) ?? { enabled: false }),
    },
  };
}

function rowOf(
  { path, parameters, isScraped, rpc, rpcWith = {}, answer }: HttpRoute,
  { desc, handlers }: ServiceDefinition,
  { chain, metricsAccess }: { readonly chain: CallChain; readonly metricsAccess: RouteAccess },
): PathRow {
  const methods = new Map(desc.methods.map((each) => [each.localName, chain.method(each, handlers[each.localName])]));
  return {
    parameters,
    access: isScraped && metricsAccess,
    answer: async (values, request) => {
      const special = Object.keys(rpcWith).find((parameter) => values[parameter] !== undefined);
      const method = methods.get(special === undefined ? rpc : (rpcWith[special] ?? rpc));
      assert(method !== undefined, "the service of a route does not have the route's rpc", { path });
      const answered = await method.route(request.arrival, values, (context) => answer(values, context));
      if (answered.kind === "pieces") return { status: 200, contentType: JSON_TYPE, headers: NO_STORE, body: answered.pieces };
      if (answered.kind === "marked") return tagged(request.arrival, answered.page, { of: answered.mark, isWeak: true });
      const { page, steady = page } = answered;
      return tagged(request.arrival, () => page, { of: steady, isWeak: steady !== page });
    },
  };
}

/** The query parameter for clients that cannot set the header `Last-Event-ID`. */
const LAST_EVENT_ID = "last_event_id";

function eventRowOf(route: EventRoute, { desc, handlers }: ServiceDefinition, chain: CallChain): PathRow {
  const rpc = desc.methods.find(({ localName }) => localName === route.rpc);
  assert(rpc?.methodKind === "server_streaming", "the rpc of an event route is not a server stream", { path: route.path });
  const method = chain.method(rpc, handlers[rpc.localName]);
  const { parameters, events } = route;
  const requestOf = eventReader(rpc.input, parameters, events.resume);
  const textOf = eventWriter(rpc.output, events);
  return {
    parameters: [...parameters, LAST_EVENT_ID],
    answer: async ({ [LAST_EVENT_ID]: idOfUrl = "", ...values }, { arrival, method: httpMethod }) => {
      // A client that reconnects repeats its URL, so the header is newer than the parameter.
      const lastId = arrival.header("last-event-id") ?? idOfUrl;
      const exchange = new EdgeExchange(arrival, rpc.output);
      const stream = new SourceStream(method, exchange);
      const gone = new AbortController();
      arrival.onGone?.(() => gone.abort());
      exchange.onGone(() => stream.gone(), gone.signal);
      stream.open(requestOf(lastId === "" ? values : { ...values, [events.resume]: lastId }));
      const body = await openEvents(exchange, textOf, chain.ports.later);
      if ("code" in body) return errorAnswer(body);
      if (httpMethod === "HEAD") stream.end();
      return { status: 200, contentType: EVENT_TYPE, headers: { ...NO_STORE, "x-accel-buffering": "no" }, body };
    },
  };
}

function callRowOf(route: CallRoute, { desc, handlers, maxRequestBytes }: ServiceDefinition, chain: CallChain): PathRow {
  const rpc = desc.methods.find(({ localName }) => localName === route.rpc);
  assert(rpc?.methodKind === "unary", "the rpc of a route with a body is not unary", { path: route.path });
  const method = chain.method(rpc, handlers[rpc.localName]);
  const pageOf = callPage(rpc.output);
  return {
    method: route.method,
    parameters: [],
    answer: async (values, { arrival, body }) => {
      assert(body !== undefined, "a request without a body reached a route with a body", { path: route.path });
      // A body from a caller without permission is not read.
      const sent = (await method.judgeHeaders(arrival)) ?? (await body(maxRequestBytes));
      if ("status" in sent) return sent;
      const { promise, resolve } = Promise.withResolvers<RouteResponse>();
      method.unary(
        sent instanceof WaymarkError ? sent : new UndecodedRequest(sent, (bytes) => readCall(method, bytes, { ...arrival, values })),
        {
          arrival,
          succeed: (answer) => {
            const { page, etag } = pageOf(answer);
            resolve({ ...json(200, page), headers: { ...NO_STORE, ...(etag !== "" && { etag }) } });
          },
          fail: (status) => resolve(errorAnswer(status, isConditional(arrival) && status.code === CODES.ABORTED ? 412 : undefined)),
        },
      );
      return promise;
    },
  };
}

const NO_STORE: Readonly<Record<string, string>> = { "cache-control": "no-store" };

/** A path and its rows by HTTP method. */
interface Endpoint {
  readonly path: string;
  /** Matches paths of requests. Each named group is a parameter. */
  readonly pattern: RegExp;
  readonly rows: ReadonlyMap<string, PathRow>;
}

function endpointsOf(rows: readonly (readonly [string, PathRow])[]): readonly Endpoint[] {
  return [...Map.groupBy(rows, ([path]) => path)].map(([path, same]) => {
    const byMethod = new Map(same.map(([, row]) => [row.method ?? "GET", row]));
    assert(byMethod.size === same.length, "two rows have the same path: delete the row from LATER if a service provides the route");
    return { path, pattern: patternOf(path), rows: byMethod };
  });
}

function allowedBy({ rows }: Endpoint): string {
  return [...rows.keys()].map((method) => (method === "GET" ? "GET, HEAD" : method)).join(", ");
}

/** Answers all requests that are not rpcs. */
export class HttpRoutes {
  readonly #endpoints: readonly Endpoint[];
  readonly #chain: CallChain;

  constructor(sources: HttpSources, services: readonly ServiceDefinition[], chain: CallChain) {
    this.#chain = chain;
    const { metricsAccess } = sources;
    const serviceRows = services.flatMap((service) =>
      (service.routes ?? []).map((route): [string, PathRow] => [
        route.path,
        "events" in route
          ? eventRowOf(route, service, chain)
          : "method" in route
            ? callRowOf(route, service, chain)
            : rowOf(route, service, { chain, metricsAccess }),
      ]),
    );
    const providedPaths = new Set(serviceRows.map(([path]) => path));
    // Nodes that do not provide an optional route keep its `LATER` row.
    const later = Object.entries(LATER).filter(([path]) => !(OPTIONAL_PATHS.has(path) && providedPaths.has(path)));
    const rows = [...later, ...Object.entries(nodeRows(sources)), ...serviceRows];
    this.#endpoints = endpointsOf(rows.filter(([, { access }]) => access !== "off"));
  }

  /** Whether a request may change data. */
  isWrite(method: string, target: string): boolean {
    return method !== "GET" && this.#find(pathOf(target))?.rows.has(method) === true;
  }

  #find(path: string): Endpoint | undefined {
    return this.#endpoints.find(({ pattern }) => pattern.test(path));
  }

  /** Answers a request. Never rejects. */
  async answer(request: HttpRequest): Promise<HttpResponse> {
    const path = pathOf(request.target);
    const endpoint = this.#find(path);
    const route = endpoint?.path ?? "other";
    try {
      if (endpoint === undefined) {
        throw new WaymarkError("not_found", `no such path: ${path.slice(0, 200)}; call an RPC with POST /<package>.<Service>/<Method>`);
      }
      const row = endpoint.rows.get(request.method === "HEAD" ? "GET" : request.method);
      if (row === undefined) return { ...methodNotAllowed(allowedBy(endpoint), request.method), route };
      if (row.access !== undefined) await this.#checkCaller(path, row, request.arrival);
      const parameters = parseQuery(request.target.slice(path.length), row.parameters);
      return { ...(await row.answer({ ...parameters, ...parametersIn(path, endpoint.pattern) }, request)), route };
    } catch (thrown) {
      const status = this.#chain.status(thrown, this.#nameOf(path, request.arrival));
      return { ...errorAnswer(status), route };
    }
  }

  /**
   * Checks the caller of a scraped route. An invalid credential is rejected even if none is required. Otherwise, the sender would believe that it was
   * authenticated.
   */
  async #checkCaller(path: string, { access }: PathRow, arrival: CallArrival): Promise<void> {
    const caller = await this.#chain.identify(arrival, this.#nameOf(path, arrival));
    if (access === "authenticated" && !caller.isAuthenticated)
      throw new WaymarkError("unauthenticated", `${path} requires a credential: send a token, an API key or a client certificate`);
  }

  #nameOf(path: string, { header }: CallArrival): CallName {
    return { requestId: this.#chain.requestId(header), service: "http", method: path };
  }
}

/** Returns HTTP 405 with `Allow`, for a route or an rpc. */
export function methodNotAllowed(allow: string, method: string): RouteResponse {
  const error = new WaymarkError("invalid_argument", `method ${method.slice(0, 20)} is not allowed on this path; use ${allow}`);
  return { ...errorAnswer(refusal(error), 405), headers: { ...NO_STORE, allow } };
}

/** The HTTP status of each code. */
export const HTTP_STATUS: Readonly<Record<ErrorCode, number>> = {
  [CODES.INVALID_ARGUMENT]: 400,
  [CODES.DEADLINE_EXCEEDED]: 504,
  [CODES.NOT_FOUND]: 404,
  [CODES.PERMISSION_DENIED]: 403,
  [CODES.RESOURCE_EXHAUSTED]: 429,
  [CODES.FAILED_PRECONDITION]: 400,
  [CODES.ABORTED]: 409,
  [CODES.UNIMPLEMENTED]: 501,
  [CODES.INTERNAL]: 500,
  [CODES.UNAVAILABLE]: 503,
  [CODES.UNAUTHENTICATED]: 401,
};

/** Returns the response to a rejected request. */
export function errorAnswer(status: RpcStatus, httpStatus = HTTP_STATUS[status.code]): RouteResponse {
  const answer = json(httpStatus, errorJson(status));
  const seconds = retryAfterSeconds(status);
  return seconds === undefined ? answer : { ...answer, headers: { ...answer.headers, "retry-after": String(seconds) } };
}

function aliveAnswer(isAlive: boolean): RouteResponse {
  return isAlive ? json(200, { status: "alive" }) : json(503, { status: "main_thread_hangs" });
}

function readyAnswer({ isDraining, checks }: ReadinessReport): RouteResponse {
  const isReady = !isDraining && checks.every((check) => check.ok);
  const status = isDraining ? "draining" : isReady ? "ready" : "not_ready";
  return json(isReady ? 200 : 503, { status, checks: checks.map(({ name, ok, detail }) => ({ name, ok, detail })) });
}

function json(status: number, value: JsonValue): RouteResponse {
  return { status, contentType: JSON_TYPE, headers: NO_STORE, body: `${visibleJson(JSON.stringify(value))}\n` };
}

/** Returns a response with an ETag that is computed from `mark`. `valueOf` is called only if the client does not have the value. */
function tagged(arrival: CallArrival, valueOf: () => JsonValue, mark: { readonly of: JsonValue; readonly isWeak: boolean }): RouteResponse {
  const opaque = `"${hashHex(fnv64(JSON.stringify(mark.of)))}"`;
  return revalidated(arrival, () => json(200, valueOf()), mark.isWeak ? `W/${opaque}` : opaque);
}

/**
 * Returns a response that clients may cache but must revalidate. If the client already has the content with this ETag, the response is 304 without a
 * body.
 */
function revalidated({ header }: CallArrival, answerOf: () => RouteResponse, etag: string): RouteResponse {
  const headers = { "cache-control": "private, no-cache", vary: "authorization, x-api-key", etag };
  const known = (header("if-none-match") ?? "").split(",").map((tag) => tag.trim().replace(/^W\//, ""));
  const isKnown = known.includes(etag.replace(/^W\//, "")) || known.includes("*");
  // An empty list of pieces does not set content-length, because a 304 must not declare a length of 0 for nonempty content.
  return isKnown ? { status: 304, contentType: JSON_TYPE, headers, body: [] } : { ...answerOf(), headers };
}

function pathOf(target: string): string {
  const end = target.search(/[?#]/);
  return end === -1 ? target : target.slice(0, end);
}

/** The pattern of a path with parameters, such as `/control/peers/{node_id}`. */
function patternOf(path: string): RegExp {
  return new RegExp(`^${path.replaceAll(/\{(\w+)\}/g, "(?<$1>[^/:]+)")}$`);
}

/** Returns the parameters in a path. */
function parametersIn(path: string, pattern: RegExp | undefined): RouteParameters {
  const entries = Object.entries(pattern?.exec(path)?.groups ?? {});
  return Object.fromEntries(
    entries.map(([name, value]) => {
      try {
        return [name, decodeURIComponent(value)];
      } catch {
        throw invalid(name, `must be percent-encoded UTF-8, got ${JSON.stringify(value.slice(0, 64))}`);
      }
    }),
  );
}

function parseQuery(query: string, known: readonly string[]): RouteParameters {
  if (query.length > MAX_QUERY_CHARS) throw invalid("query", `must be at most ${MAX_QUERY_CHARS} characters`);
  const parameters: Record<string, string> = {};
  const pairs = [...new URLSearchParams(query)];
  if (pairs.length > MAX_PARAMETERS) throw invalid("query", `must have at most ${MAX_PARAMETERS} parameters`);
  for (const [name, value] of pairs) {
    const shown = name.slice(0, 64);
    if (!known.includes(name))
      throw invalid(shown, `unknown parameter; ${known.length === 0 ? "this path has no parameters" : `allowed: ${known.join(", ")}`}`);
    if (Object.hasOwn(parameters, name)) throw invalid(shown, "must be given at most once");
    parameters[name] = value;
  }
  return parameters;
}

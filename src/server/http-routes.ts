/** The GET routes of the HTTP edge as a table: path → handler. Opens no socket; `server/edge/listener.io.ts` carries the answers. */
import { type JsonValue, toBinary, toJson } from "@bufbuild/protobuf";
import { base64Encode } from "@bufbuild/protobuf/wire";
import { CODES, type Code, invalid, WaymarkError } from "../lib/errors.ts";
import { fnv64, hashHex } from "../lib/hash64.ts";
import { type Caller, isOwnerOf } from "../policy/identity/caller.ts";
import type { PageAsked, PeersAsked } from "../services/peers.ts";
import type { ServiceFilter } from "../services/prometheus-sd.ts";
import { authorise, type RequiredAccess } from "./authorise.ts";
import { retryAfterSeconds } from "./edge/call.ts";
import { CODE_NAMES, type RpcStatus, refusal } from "./status.ts";

/** One subsystem's part of the answer to "may this node be used". */
export interface ReadyCheck {
  readonly name: string;
  readonly ok: boolean;
  /** For a person; what is missing when not ok. */
  readonly detail: string;
}

export interface Readiness {
  readonly isDraining: boolean;
  readonly checks: readonly ReadyCheck[];
}

/** An answer, and what of it a reader tells by whether anything changed. */
export interface Steady {
  readonly page: JsonValue;
  readonly steady: JsonValue;
}

/** Where the routes get what they show. */
export interface HttpSources {
  /** Who may read the routes that have no policy of their own: everybody, who showed a credential, or nobody. */
  readonly metricsAccess: "on" | "authenticated" | "off";
  readiness(): Readiness;
  /** The scrape, as text in the format the `Accept` header asks for. */
  scrape(accept: string): Promise<{ readonly contentType: string; readonly body: string }>;
  /** State of the journal; undefined when the node runs without one. */
  persistence(): JsonValue | undefined;
  /** The body of `/sd/prometheus` in pieces. It is read over several turns of the event loop, so it must outlive changes. */
  prometheusTargets(filter: ServiceFilter, caller: Caller): Iterable<string>;
  /** Which policy is in force; asked about a namespace also what it says of the caller's view of it. Throws `invalid_argument`. */
  policy(namespace: string | undefined, caller: Caller): JsonValue;
  /** How far replication is, and what of it stays the same while nothing but time and traffic goes on. Throws `invalid_argument`. */
  lag(asked: PageAsked): Steady;
  /** A page of members, and what of it stays the same while nobody joins, leaves or changes. Throws `invalid_argument`. */
  peers(asked: PeersAsked): Steady;
  /** Throws `invalid_argument`. */
  parseServiceFilter(parameters: { readonly namespace?: string | undefined; readonly tag?: string | undefined }): ServiceFilter;
}

export interface HttpRequest {
  readonly method: string;
  /** Path and query as sent. */
  readonly target: string;
  readonly accept: string;
  /** `If-None-Match` as sent; empty when it was not. */
  readonly ifNoneMatch: string;
  /** Asked for only by routes whose answer depends on it; may throw or reject with `unauthenticated`. */
  identify(): Caller | Promise<Caller>;
}

export interface HttpResponse {
  readonly status: number;
  readonly contentType: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | Iterable<string>;
  /** Row of the table, for metrics; `other` for what matched none. */
  readonly route: string;
}

const MAX_QUERY_CHARS = 4096;
const MAX_PARAMETERS = 16;
const JSON_TYPE = "application/json; charset=utf-8";

type Parameters = Readonly<Record<string, string>>;
/** A response without its row, as routes and refusals make it. */
export type Answer = Omit<HttpResponse, "route">;

interface Route {
  /** Names of the query parameters it takes; any other is refused. */
  readonly parameters: readonly string[];
  /** `metricsAccess` holds for it. */
  readonly isMetrics?: true;
  readonly answer: (sources: HttpSources, parameters: Parameters, request: HttpRequest) => Answer | Promise<Answer>;
}

const unimplemented = (parameters: readonly string[] = []): Route => ({
  parameters,
  answer: (_sources, _parameters, request) => {
    throw new WaymarkError("unimplemented", `${pathOf(request.target)} comes with a later version of waymark`);
  },
});

const PAGE = ["limit", "page_token"] as const;

/** Path to route. */
const ROUTES: Readonly<Record<string, Route>> = {
  "/healthz": { parameters: [], answer: () => json(200, { status: "alive" }) },
  "/readyz": { parameters: [], answer: (sources) => readyAnswer(sources.readiness()) },
  "/metrics": {
    parameters: [],
    isMetrics: true,
    answer: async (sources, _parameters, request) => ({ status: 200, headers: NO_STORE, ...(await sources.scrape(request.accept)) }),
  },
  "/metrics/persistence": {
    parameters: [],
    isMetrics: true,
    answer: (sources) => json(200, sources.persistence() ?? { enabled: false }),
  },
  "/sd/prometheus": {
    parameters: ["namespace", "tag"],
    isMetrics: true,
    answer: async (sources, parameters, request) => {
      const filter = sources.parseServiceFilter({ namespace: parameters["namespace"], tag: parameters["tag"] });
      const body = sources.prometheusTargets(filter, await request.identify());
      return { status: 200, contentType: JSON_TYPE, headers: NO_STORE, body };
    },
  },
  "/discovery/summary": unimplemented(["scope", "namespace", "service_id", ...PAGE]),
  "/discovery/cache": unimplemented(),
  "/discovery/policy": {
    parameters: ["namespace"],
    answer: async (sources, { namespace }, request) => {
      const caller = await request.identify();
      if (namespace === undefined || !isOwnerOf(caller, namespace)) authorise(READ, caller, undefined);
      return tagged(request, sources.policy(namespace, caller));
    },
  },
  "/discovery/lag": {
    parameters: PAGE,
    answer: async (sources, { limit, page_token: pageToken }, request) => {
      authorise(READ, await request.identify(), undefined);
      return weaklyTagged(request, sources.lag({ limit, pageToken }));
    },
  },
  "/routing/trace": unimplemented(["destination"]),
  "/control/peers": {
    parameters: ["status", "cluster_id", "region", ...PAGE],
    answer: async (sources, parameters, request) => {
      authorise(READ, await request.identify(), undefined);
      const { status, region, limit, cluster_id: clusterId, page_token: pageToken } = parameters;
      return weaklyTagged(request, sources.peers({ status, clusterId, region, limit, pageToken }));
    },
  },
  "/control/clusters": unimplemented(PAGE),
  "/control/leaders": unimplemented(PAGE),
  "/control/shards": unimplemented(["namespace", ...PAGE]),
  "/control/versions": unimplemented(PAGE),
  "/control/config": unimplemented(),
  "/control/capacity": unimplemented(),
  "/control/state-diff": unimplemented(["left", "right"]),
  "/control/rebalance-plans": unimplemented(PAGE),
  "/control/events/leadership": unimplemented(),
  "/ui": unimplemented(),
};

/** As `PolicyStatus` and `Explain` ask. */
const READ: RequiredAccess = { role: "mesh.read", ownerOf: undefined, isForOwners: false, isForEverybody: false };

const NO_STORE: Readonly<Record<string, string>> = { "cache-control": "no-store" };

/** Answers a request to anything that is no RPC. Never throws; `fail` turns what a route threw into a status. */
export async function answerHttp(request: HttpRequest, sources: HttpSources, fail: (thrown: unknown) => RpcStatus): Promise<HttpResponse> {
  const path = pathOf(request.target);
  const found = Object.hasOwn(ROUTES, path) ? ROUTES[path] : undefined;
  const route = found?.isMetrics === true && sources.metricsAccess === "off" ? undefined : found;
  try {
    if (route === undefined) {
      throw new WaymarkError("not_found", `no such path: ${path.slice(0, 200)}; an RPC is POST /<package>.<Service>/<Method>`);
    }
    if (request.method !== "GET" && request.method !== "HEAD") return { ...methodNotAllowed("GET, HEAD", request.method), route: path };
    if (route.isMetrics === true && sources.metricsAccess === "authenticated") await checkAuthenticated(request);
    const parameters = parseQuery(request.target.slice(path.length), route.parameters);
    return { ...(await route.answer(sources, parameters, request)), route: path };
  } catch (thrown) {
    return { ...errorAnswer(fail(thrown)), route: route === undefined ? "other" : path };
  }
}

async function checkAuthenticated(request: HttpRequest): Promise<void> {
  const { isAuthenticated } = await request.identify();
  if (!isAuthenticated) throw new WaymarkError("unauthenticated", `${pathOf(request.target)} needs a credential`);
}

/** 405 with `Allow`, for a route or an RPC. */
export function methodNotAllowed(allow: string, method: string): Answer {
  const error = new WaymarkError("invalid_argument", `method ${method.slice(0, 20)} is not allowed here; use ${allow}`);
  return { ...errorAnswer(refusal(error), 405), headers: { ...NO_STORE, allow } };
}

const HTTP_STATUS: Readonly<Record<Code, number>> = {
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

/** A refusal in the JSON shape of a Connect error, so that one client reads both. */
export function errorAnswer(status: RpcStatus, httpStatus = HTTP_STATUS[status.code]): Answer {
  const details = status.details.map(({ desc, value }) => ({
    type: desc.typeName,
    value: base64Encode(toBinary(desc, value), "std_raw"),
    debug: toJson(desc, value),
  }));
  const answer = json(httpStatus, { code: (CODE_NAMES[status.code] ?? "UNKNOWN").toLowerCase(), message: status.message, details });
  const seconds = retryAfterSeconds(status);
  return seconds === undefined ? answer : { ...answer, headers: { ...answer.headers, "retry-after": String(seconds) } };
}

function readyAnswer({ isDraining, checks }: Readiness): Answer {
  const isReady = !isDraining && checks.every((check) => check.ok);
  const status = isDraining ? "draining" : isReady ? "ready" : "not_ready";
  return json(isReady ? 200 : 503, { status, checks: checks.map(({ name, ok, detail }) => ({ name, ok, detail })) });
}

function json(status: number, value: JsonValue): Answer {
  return { status, contentType: JSON_TYPE, headers: NO_STORE, body: `${JSON.stringify(value)}\n` };
}

/** What may be kept if it is asked about each time: unchanged, it is 304 without a body. `mark`: what the tag stands for when that is not the value. */
function tagged({ ifNoneMatch }: HttpRequest, value: JsonValue, mark = { of: value, isWeak: false }): Answer {
  const answer = json(200, value);
  const opaque = `"${hashHex(fnv64(JSON.stringify(mark.of)))}"`;
  const etag = mark.isWeak ? `W/${opaque}` : opaque;
  const headers = { "cache-control": "private, no-cache", vary: "authorization, x-api-key", etag };
  const known = ifNoneMatch.split(",").map((tag) => tag.trim().replace(/^W\//, ""));
  // Pieces, though there are none: a 304 must not say that the content it stands for has no bytes.
  return known.includes(opaque) || known.includes("*") ? { ...answer, status: 304, headers, body: [] } : { ...answer, headers };
}

/** Two answers with one tag may differ in what was measured meanwhile. */
function weaklyTagged(request: HttpRequest, { page, steady }: Steady): Answer {
  return tagged(request, page, { of: steady, isWeak: true });
}

function pathOf(target: string): string {
  const end = target.search(/[?#]/);
  return end === -1 ? target : target.slice(0, end);
}

function parseQuery(query: string, known: readonly string[]): Parameters {
  if (query.length > MAX_QUERY_CHARS) throw invalid("query", `longer than ${MAX_QUERY_CHARS} characters`);
  const parameters: Record<string, string> = {};
  const pairs = [...new URLSearchParams(query)];
  if (pairs.length > MAX_PARAMETERS) throw invalid("query", `more than ${MAX_PARAMETERS} parameters`);
  for (const [name, value] of pairs) {
    const shown = name.slice(0, 64);
    if (!known.includes(name))
      throw invalid(shown, `unknown parameter; ${known.length === 0 ? "this path takes none" : `one of ${known.join(", ")}`}`);
    if (Object.hasOwn(parameters, name)) throw invalid(shown, "given more than once");
    parameters[name] = value;
  }
  return parameters;
}

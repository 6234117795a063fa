/**
 * Protects this node from web pages in browsers that can reach it. Rejects requests whose host is not a name of this node (DNS rebinding), and writes
 * from pages with other origins. Pure.
 */
import { isLoopbackHost } from "../lib/addresses.ts";
import { WaymarkError } from "../lib/errors.ts";

export interface WebRules {
  /**
   * Whether any `Host` is accepted. This is safe with TLS, where the certificate identifies this node, and without anonymous access, because a page
   * has no credential.
   */
  readonly takesAnyHost: boolean;
  /** Names and addresses of this node without ports, in addition to the local address of the connection. */
  readonly hosts: readonly string[];
  /** Allowed page origins, as sent by browsers, for example `https://ui.example`. */
  readonly corsOrigins: readonly string[];
}

/** The parts of a request that the rules check. */
export interface WebRequest {
  /** The `Host` header, or `:authority` in HTTP/2. */
  readonly host: string | undefined;
  readonly path: string;
  readonly origin: string | undefined;
  readonly fetchSite: string | undefined;
  /** The local address of the connection. */
  readonly localAddress: string;
  readonly isWrite: boolean;
}

/** Paths for health checks and scrapes. These paths accept any host and do not expose entries. */
const OPEN_PATHS: ReadonlySet<string> = new Set(["/healthz", "/readyz", "/metrics"]);

/** Wildcard addresses. A node can listen on them, but clients never use them as a host. */
const ANY_ADDRESS: ReadonlySet<string> = new Set(["0.0.0.0", "::"]);

/** Headers that pages from the CORS origins may send and read. */
const REQUEST_HEADERS =
  "authorization, connect-content-encoding, connect-protocol-version, connect-timeout-ms, content-encoding, content-type, grpc-timeout, idempotency-key, if-match, if-none-match, last-event-id, x-api-key, x-grpc-web, x-request-id, x-user-agent";
const RESPONSE_HEADERS = "etag, grpc-message, grpc-status, grpc-status-details-bin, retry-after, x-request-id";
const PREFLIGHT_S = "7200";

export class BrowserRules {
  readonly #rules: WebRules;
  readonly #hosts: ReadonlySet<string>;
  readonly #origins: ReadonlySet<string>;

  constructor(rules: WebRules) {
    this.#rules = rules;
    this.#hosts = new Set(rules.hosts.map(plainHost).filter((host) => !ANY_ADDRESS.has(host)));
    this.#origins = new Set(rules.corsOrigins.map((origin) => origin.toLowerCase()));
  }

  /** Returns the error for a rejected request. Returns undefined when the request is allowed. */
  check(request: WebRequest): WaymarkError | undefined {
    if (!OPEN_PATHS.has(request.path) && !this.#isOurs(request)) {
      return new WaymarkError(
        "discovery_access_denied",
        `${request.host === undefined ? "the request has no Host header" : `host ${shown(request.host)} is not a name of this node`}: use a loopback name or an address of this node, or add the name to listen.allowed_hosts`,
      );
    }
    return request.isWrite && this.#isForeign(request)
      ? new WaymarkError(
          "discovery_access_denied",
          request.origin === undefined
            ? "a write with Sec-Fetch-Site: cross-site needs an Origin header, and listen.cors_origins must contain that origin"
            : `permission denied: pages of origin ${shown(request.origin)} cannot write to this node; add the origin to listen.cors_origins to allow them`,
        )
      : undefined;
  }

  /** Whether responses depend on the origin of the requesting page. */
  get variesByOrigin(): boolean {
    return this.#origins.size > 0;
  }

  /** Headers that allow a page from this origin to read the response. Undefined for an origin that is not allowed. */
  corsHeaders(origin: string | undefined): Readonly<Record<string, string>> | undefined {
    if (origin === undefined || !this.#origins.has(origin.toLowerCase())) return undefined;
    return { "access-control-allow-origin": origin, "access-control-expose-headers": RESPONSE_HEADERS };
  }

  /** Headers for the response to a preflight request. Browsers send preflight requests before requests that are not simple. */
  preflightHeaders(origin: string | undefined): Readonly<Record<string, string>> | undefined {
    const cors = this.corsHeaders(origin);
    if (cors === undefined) return undefined;
    return {
      ...cors,
      "access-control-allow-methods": "GET, HEAD, PATCH, POST",
      "access-control-allow-headers": REQUEST_HEADERS,
      "access-control-max-age": PREFLIGHT_S,
    };
  }

  #isOurs({ host, localAddress }: WebRequest): boolean {
    if (this.#rules.takesAnyHost) return true;
    if (host === undefined) return false;
    const name = plainHost(hostOf(host) ?? "");
    return isLoopbackName(name) || name === plainHost(localAddress) || this.#hosts.has(name);
  }

  #isForeign({ origin, fetchSite, host }: WebRequest): boolean {
    if (origin === undefined) return fetchSite === "cross-site";
    if (this.#origins.has(origin.toLowerCase())) return false;
    return fetchSite === "cross-site" || !isSameOrigin(origin, host ?? "");
  }
}

/** Compares only hosts and ports: a proxy in front of this node may use TLS while this node does not. */
function isSameOrigin(origin: string, host: string): boolean {
  if (!URL.canParse(origin)) return false;
  const { protocol, host: originHost } = new URL(origin);
  return (
    (protocol === "http:" || protocol === "https:") &&
    URL.canParse(`${protocol}//${host}`) &&
    new URL(`${protocol}//${host}`).host === originHost
  );
}

function isLoopbackName(name: string): boolean {
  return name === "localhost" || name.endsWith(".localhost") || isLoopbackHost(name);
}

/** A name or an IPv4 address, or an IPv6 address in brackets, each with or without a port. */
const AUTHORITY = /^(?:([a-z0-9._-]+)|\[([0-9a-f:.]+(?:%[a-z0-9._-]+)?)\])(?::\d*)?$/i;

/** Returns the host without port and brackets. Returns undefined if the text contains other parts, such as a user. */
function hostOf(authority: string): string | undefined {
  const [, name, address] = AUTHORITY.exec(authority) ?? [];
  return name ?? address;
}

function plainHost(host: string): string {
  return host.toLowerCase().replace(/\.$/, "");
}

function shown(text: string): string {
  return JSON.stringify(text.slice(0, 200));
}

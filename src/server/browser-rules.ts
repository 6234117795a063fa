/**
 * What a web page may do with a browser that reaches this node: nothing for its own ends. A name of the page's own that
 * suddenly means our address (DNS rebinding) is no host of ours, and writes from pages of other origins are refused. Pure.
 */
import { isLoopbackHost } from "../lib/addresses.ts";
import { WaymarkError } from "../lib/errors.ts";

export interface WebRules {
  /** Whether any `Host` will do: with TLS the certificate says who we are, and without anonymous access a page has nothing to show. */
  readonly takesAnyHost: boolean;
  /** Names and addresses of ours, without port, beside those a connection came to. */
  readonly hosts: readonly string[];
  /** Origins whose pages are let in, as browsers write them: `https://ui.example`. */
  readonly corsOrigins: readonly string[];
}

/** What of a request the rules are about. */
export interface WebRequest {
  /** `Host`, or `:authority` of HTTP/2. */
  readonly host: string | undefined;
  readonly path: string;
  readonly origin: string | undefined;
  readonly fetchSite: string | undefined;
  /** The address of ours that the connection came to. */
  readonly localAddress: string;
  readonly isWrite: boolean;
}

/** Health checks and scrapes come by any name, and show no entries. */
const OPEN_PATHS: ReadonlySet<string> = new Set(["/healthz", "/readyz", "/metrics"]);

/** Addresses that a node may listen on, and that no client calls it by. */
const ANY_ADDRESS: ReadonlySet<string> = new Set(["0.0.0.0", "::"]);

/** Headers that pages of our CORS origins may send and read. */
const REQUEST_HEADERS =
  "authorization, connect-content-encoding, connect-protocol-version, connect-timeout-ms, content-encoding, content-type, grpc-timeout, if-none-match, x-api-key, x-grpc-web, x-request-id, x-user-agent";
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

  /** Why a request is refused; undefined when it is not. */
  check(request: WebRequest): WaymarkError | undefined {
    if (!OPEN_PATHS.has(request.path) && !this.#isOurs(request)) {
      return new WaymarkError(
        "discovery_access_denied",
        `${request.host === undefined ? "a request without Host has no name of this node" : `host ${shown(request.host)} is no name of this node`}: use a loopback name or an address of it, or list the name in listen.allowed_hosts`,
      );
    }
    return request.isWrite && this.#isForeign(request)
      ? new WaymarkError(
          "discovery_access_denied",
          request.origin === undefined
            ? "a browser's write with Sec-Fetch-Site: cross-site and no Origin is not taken: nothing says whose page sends it; pages of origins in listen.cors_origins write with their Origin"
            : `a page of ${shown(request.origin)} may not write here; list its origin in listen.cors_origins to let it`,
        )
      : undefined;
  }

  /** Whether answers differ by the origin of the page that asks. */
  get tellsOrigins(): boolean {
    return this.#origins.size > 0;
  }

  /** Headers that let a page of this origin read the answer; undefined for any other. */
  corsHeaders(origin: string | undefined): Readonly<Record<string, string>> | undefined {
    if (origin === undefined || !this.#origins.has(origin.toLowerCase())) return undefined;
    return { "access-control-allow-origin": origin, "access-control-expose-headers": RESPONSE_HEADERS };
  }

  /** Headers of the answer to a preflight, which browsers send before requests that are not simple. */
  preflightHeaders(origin: string | undefined): Readonly<Record<string, string>> | undefined {
    const cors = this.corsHeaders(origin);
    if (cors === undefined) return undefined;
    return {
      ...cors,
      "access-control-allow-methods": "GET, HEAD, POST",
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

/** Compares hosts and ports only: a proxy in front of us may speak TLS where we do not. */
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

/** A name or an IPv4 address, or an IPv6 address in brackets, each with a port or without. */
const AUTHORITY = /^(?:([a-z0-9._-]+)|\[([0-9a-f:.]+(?:%[a-z0-9._-]+)?)\])(?::\d*)?$/i;

/** Without port and brackets; undefined for what has anything else, such as a user. */
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

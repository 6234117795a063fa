/** The options of `connect`. They are checked before any connection is opened, because an untyped program can pass any value. */
import { GRPC_PORT } from "../lib/addresses.ts";
import { HOUR_MS, MAX_TIMER_MS } from "../lib/duration.ts";
import { ANYTHING, checkOptions, FLAG, kindOf, lengthRule, type OptionRules, TEXT, TIMEOUT } from "./option-rules.ts";

/** TLS files for connections, as the bytes of PEM files. `{}` means that the system's CAs are trusted. */
export interface TlsFiles {
  /** PEM of the CA certificates to trust. Defaults to the system's CAs and the CAs in NODE_EXTRA_CA_CERTS. */
  readonly ca?: Uint8Array;
  /** PEM of the client's certificate chain. Requires `key`. */
  readonly cert?: Uint8Array;
  /** PEM of the unencrypted private key for `cert`. */
  readonly key?: Uint8Array;
}

/** Credentials for one other cluster, and how to verify its servers. */
export interface ClusterAccess {
  /** TLS files for this cluster only: `ca` contains the CAs to trust, and `cert` is the certificate that the client presents. */
  readonly tls: TlsFiles;
  /** Bearer token for this cluster. */
  readonly token?: string;
  /** DNS name that the server certificates must contain. By default, they must contain the SPIFFE ID of a node in the cluster. */
  readonly serverName?: string;
}

/** Options of `connect`. Only `servers` is required. */
export interface ConnectOptions {
  /** Seed servers as `host:port`, which are tried in order. Default port: 17420. */
  readonly servers: readonly string[];
  /** Bearer token. */
  readonly token?: string;
  /** TLS files. If absent, connections use plaintext. */
  readonly tls?: TlsFiles;
  /** Default deadline of a call, and time limit for establishing a stream, in ms. Default: 10,000. */
  readonly timeoutMs?: number;
  /**
   * Whether to discover other nodes and resolvers from the servers and use them too. Default: true. If false, only the servers in `servers` are used.
   */
  readonly findServers?: boolean;
  /** Time between two discovery requests, in ms, at least 1000. Default: 30,000. Each delay is a random value between 0.5 and 1.5 times this time. */
  readonly refreshMs?: number;
  /**
   * Time for which `client.resolve` answers from a cached response, in ms; at most 1 h. Default: 5000. For twice this time after that, it still
   * answers from the cache but refreshes the cache in the background.
   */
  readonly lookupTtlMs?: number;
  /**
   * Region of the program. The client prefers servers in the same zone, then servers in the same region. Defaults to the location of the first server
   * that answers.
   */
  readonly region?: string;
  /** Zone of the program, within `region`. */
  readonly zone?: string;
  /** Whether `client.resolve` follows redirects to other clusters if no entry in this cluster can be chosen. Default: false. */
  readonly autoSummaryRedirect?: boolean;
  /**
   * Credentials for other clusters, by cluster ID. `token` and `tls` above are for the client's own cluster and are not sent to other
   * clusters.
   */
  readonly clusters?: Readonly<Record<string, ClusterAccess>>;
}

const WANTED = 'connect({ servers: ["127.0.0.1:17420"] })';
export const DEFAULT_TIMEOUT_MS = 10_000;
export const DEFAULT_REFRESH_MS = 30_000;
export const DEFAULT_LOOKUP_TTL_MS = 5000;
const LEAST_REFRESH_MS = 1000;
/** A timer can wait for this long even when multiplied by the random factor of up to 1.5. */
const MAX_REFRESH_MS = Math.floor(MAX_TIMER_MS / 2);

const RULES: OptionRules<ConnectOptions> = {
  servers: ANYTHING,
  token: ANYTHING,
  tls: ANYTHING,
  timeoutMs: TIMEOUT,
  findServers: FLAG,
  refreshMs: lengthRule(LEAST_REFRESH_MS, MAX_REFRESH_MS),
  lookupTtlMs: lengthRule(0, HOUR_MS),
  region: TEXT,
  zone: TEXT,
  autoSummaryRedirect: FLAG,
  clusters: ANYTHING,
};
const ACCESS_RULES: OptionRules<ClusterAccess> = { tls: ANYTHING, token: ANYTHING, serverName: TEXT };

export const SERVER_RULE = `expected host:port, such as 127.0.0.1:${GRPC_PORT} or [::1]:${GRPC_PORT}`;

/**
 * Returns `host:port` for a name, an IPv4 address, or an IPv6 address in brackets, with the default port 17420. Returns undefined for any other text.
 */
export function parseServer(text: string): string | undefined {
  const match = /^(?<host>\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._-]+)(?::(?<port>\d{1,5}))?$/.exec(text);
  const port = Number(match?.groups?.["port"] ?? GRPC_PORT);
  return match && port >= 1 && port <= 65_535 ? `${match.groups?.["host"] ?? ""}:${port}` : undefined;
}

export const TOKEN_RULE = "it must have 1 to 8192 printable ASCII characters, without spaces or line breaks";

/** Whether the text can be sent as a bearer token in a header and read by a server from its token file. */
export function isToken(text: string): boolean {
  return /^[\x21-\x7e]{1,8192}$/.test(text);
}

/**
 * Returns the servers as `host:port`. Throws a TypeError or RangeError that states the option and the expected value, but never contains the token.
 */
export function checkedServers(options: ConnectOptions): readonly string[] {
  checkOptions("connect", { ...options }, RULES);
  const given: Readonly<Record<string, unknown>> = { ...options };
  const { servers, token, tls } = given;
  if (!Array.isArray(servers))
    throw new TypeError(`connect: invalid servers ${kindOf(servers)}: expected a list of host:port strings, as in ${WANTED}`);
  if (servers.length === 0) throw new RangeError(`connect: servers is empty: pass at least one host:port, as in ${WANTED}`);
  checkToken("token", token);
  checkTls("tls", tls);
  checkClusters(given["clusters"]);
  return servers.map((server: unknown, at) => {
    const parsed = typeof server === "string" ? parseServer(server) : undefined;
    if (parsed === undefined) throw new RangeError(`connect: invalid servers[${at}] ${kindOf(server)}: ${SERVER_RULE}`);
    return parsed;
  });
}

// The token is checked here, so that no later error contains it.
function checkToken(name: string, token: unknown): void {
  if (token !== undefined && (typeof token !== "string" || !isToken(token)))
    throw new RangeError(`connect: invalid ${name}: ${TOKEN_RULE}`);
}

/** Requires TLS for each cluster, because credentials are never sent to another cluster over plaintext. */
function checkClusters(clusters: unknown): void {
  if (clusters === undefined) return;
  if (typeof clusters !== "object" || !clusters || Array.isArray(clusters))
    throw new TypeError(
      `connect: invalid clusters ${kindOf(clusters)}: expected an object that maps cluster IDs to { tls, token, serverName }`,
    );
  const byId: Readonly<Record<string, unknown>> = { ...clusters };
  for (const [id, access] of Object.entries(byId)) {
    const where = `clusters.${id.slice(0, 64)}`;
    checkOptions<unknown>(`connect: ${where}`, access, ACCESS_RULES);
    const given: Readonly<Record<string, unknown>> = typeof access === "object" ? { ...access } : {};
    const { tls, token, serverName } = given;
    if (tls === undefined) throw new TypeError(`connect: ${where}.tls is missing: credentials for other clusters are sent only over TLS`);
    checkTls(`${where}.tls`, tls);
    checkToken(`${where}.token`, token);
    if (serverName === "") throw new RangeError(`connect: ${where}.serverName is empty: expected a DNS name`);
  }
}

const TLS_FILES: readonly string[] = ["ca", "cert", "key"] satisfies readonly (keyof TlsFiles)[];

/** Rejects unknown fields, because a misspelled `ca` would have the same effect as `{}`: the system's CAs would be trusted. */
function checkTls(where: string, tls: unknown): void {
  if (tls === undefined) return;
  if (typeof tls !== "object" || !tls || Array.isArray(tls) || ArrayBuffer.isView(tls))
    throw new TypeError(
      `connect: invalid ${where} ${kindOf(tls)}: expected { ca, cert, key } with the bytes of PEM files, or {} to trust the system's CAs`,
    );
  const files: Readonly<Record<string, unknown>> = { ...tls };
  for (const [name, bytes] of Object.entries(files)) {
    if (!TLS_FILES.includes(name))
      throw new TypeError(
        `connect: unknown option ${where}.${name}; the options are ${TLS_FILES.map((file) => `${where}.${file}`).join(", ")}`,
      );
    if (bytes !== undefined && !(bytes instanceof Uint8Array))
      throw new TypeError(`connect: invalid ${where}.${name}: expected the bytes of a PEM file, read without an encoding`);
  }
  if ((files["cert"] === undefined) !== (files["key"] === undefined))
    throw new RangeError(`connect: ${where}.cert and ${where}.key must be set together`);
}

/** The options of `connect`, and their check before anything is opened: a program without types may pass anything. */
import { GRPC_PORT } from "../lib/addresses.ts";
import { HOUR_MS, MAX_TIMER_MS } from "../lib/duration.ts";
import { ANYTHING, checkOptions, FLAG, kindOf, lengthRule, type OptionRules, TEXT, TIMEOUT } from "./option-rules.ts";

export interface TlsFiles {
  /** PEM of the authorities to trust; when absent those of the system, and of NODE_EXTRA_CA_CERTS. */
  readonly ca?: Uint8Array;
  /** PEM of the client's certificate chain; needs `key`. */
  readonly cert?: Uint8Array;
  readonly key?: Uint8Array;
}

/** What a program shows to one other cluster, and how it knows that cluster. */
export interface ClusterAccess {
  /** The cluster is called by TLS; `ca` are the authorities for it alone, and `cert` is shown to it. */
  readonly tls: TlsFiles;
  /** Bearer token for this cluster. */
  readonly token?: string;
  /** DNS name that the certificates of its servers must have. Without it they must have the SPIFFE id of a node of the cluster. */
  readonly serverName?: string;
}

export interface ConnectOptions {
  /** Seeds: `host:port` each, tried in order. The port is 17420 when absent. */
  readonly servers: readonly string[];
  /** Bearer token. */
  readonly token?: string;
  /** TLS; plain text when absent. */
  readonly tls?: TlsFiles;
  /** Deadline of a call that has none of its own, and of connecting for a stream, in ms; default 10 s. */
  readonly timeoutMs?: number;
  /** Asks the servers for other servers, nodes and resolvers, and uses these too; default true. Without it only `servers` are used. */
  readonly findServers?: boolean;
  /** Time between two such questions, in ms; default 30 s. Each wait is spread from half of it to one and a half. */
  readonly refreshMs?: number;
  /** How long `resolve` of the client answers from what it asked, in ms; default 5 s, 0 to 1 h. For twice as long it answers and asks again behind. */
  readonly lookupTtlMs?: number;
  /** Region of the program; with `zone` it says which servers are near. By default the place of the first server that answers. */
  readonly region?: string;
  readonly zone?: string;
  /** Whether `resolve` follows redirects to other clusters when nothing can be chosen here; default false. */
  readonly autoSummaryRedirect?: boolean;
  /** Credentials for other clusters, by cluster id. Those above are for the own cluster, and no other one is shown them. */
  readonly clusters?: Readonly<Record<string, ClusterAccess>>;
}

const WANTED = 'connect({ servers: ["127.0.0.1:17420"] })';
export const DEFAULT_TIMEOUT_MS = 10_000;
export const DEFAULT_REFRESH_MS = 30_000;
export const DEFAULT_LOOKUP_TTL_MS = 5000;
const LEAST_REFRESH_MS = 1000;
/** A wait may be one and a half times as long. */
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

export const SERVER_RULE = `not host:port, such as 127.0.0.1:${GRPC_PORT} or [::1]:${GRPC_PORT}`;

/** `host:port` of a name, an IPv4 address, or an IPv6 address in brackets. The port is 17420 when absent. Undefined for any other text. */
export function parseServer(text: string): string | undefined {
  const match = /^(?<host>\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._-]+)(?::(?<port>\d{1,5}))?$/.exec(text);
  const port = Number(match?.groups?.["port"] ?? GRPC_PORT);
  return match && port >= 1 && port <= 65_535 ? `${match.groups?.["host"] ?? ""}:${port}` : undefined;
}

export const TOKEN_RULE = "it must be 1 to 8192 printable ASCII characters without spaces and line ends";

/** Whether a header can carry the text as a bearer token, and a server can read it from its token file. */
export function isToken(text: string): boolean {
  return /^[\x21-\x7e]{1,8192}$/.test(text);
}

/** The servers as `host:port`. Throws a TypeError or RangeError that names the option and what it should be, and never shows the token. */
export function checkedServers(options: ConnectOptions): readonly string[] {
  checkOptions("connect", { ...options }, RULES);
  const said: Readonly<Record<string, unknown>> = { ...options };
  const { servers, token, tls } = said;
  if (!Array.isArray(servers)) throw new TypeError(`connect: servers is ${kindOf(servers)}, not a list of host:port: ${WANTED}`);
  if (servers.length === 0) throw new RangeError(`connect: servers is empty: ${WANTED}`);
  checkToken("connect:", token);
  checkTls("tls", tls);
  checkClusters(said["clusters"]);
  return servers.map((server: unknown, at) => {
    const parsed = typeof server === "string" ? parseServer(server) : undefined;
    if (parsed === undefined) throw new RangeError(`connect: servers[${at}] ${kindOf(server)} is ${SERVER_RULE}`);
    return parsed;
  });
}

// The message of grpc-js would show the token.
function checkToken(where: string, token: unknown): void {
  if (token !== undefined && (typeof token !== "string" || !isToken(token))) throw new RangeError(`${where} not a token: ${TOKEN_RULE}`);
}

/** A credential is never sent over a plain connection to another cluster, so each cluster that is named needs TLS. */
function checkClusters(clusters: unknown): void {
  if (clusters === undefined) return;
  if (typeof clusters !== "object" || !clusters || Array.isArray(clusters))
    throw new TypeError(`connect: clusters is ${kindOf(clusters)}, not an object with { tls, token, serverName } by cluster id`);
  const byId: Readonly<Record<string, unknown>> = { ...clusters };
  for (const [id, access] of Object.entries(byId)) {
    const where = `clusters.${id.slice(0, 64)}`;
    checkOptions<unknown>(`connect: ${where}`, access, ACCESS_RULES);
    const said: Readonly<Record<string, unknown>> = typeof access === "object" ? { ...access } : {};
    const { tls, token, serverName } = said;
    if (tls === undefined) throw new TypeError(`connect: ${where}.tls is missing: other clusters are shown credentials by TLS only`);
    checkTls(`${where}.tls`, tls);
    checkToken(`connect: ${where}.token:`, token);
    if (serverName === "") throw new RangeError(`connect: ${where}.serverName is empty`);
  }
}

const TLS_FILES: readonly string[] = ["ca", "cert", "key"] satisfies readonly (keyof TlsFiles)[];

/** A mistake that is passed over here would trust the system's authorities, as `{}` does. */
function checkTls(where: string, tls: unknown): void {
  if (tls === undefined) return;
  if (typeof tls !== "object" || !tls || Array.isArray(tls) || ArrayBuffer.isView(tls))
    throw new TypeError(`connect: ${where} is ${kindOf(tls)}, not { ca, cert, key } with bytes of PEM files; {} trusts the system`);
  const files: Readonly<Record<string, unknown>> = { ...tls };
  for (const [name, bytes] of Object.entries(files)) {
    if (!TLS_FILES.includes(name))
      throw new TypeError(
        `connect: ${where}.${name} is not an option; the options are ${TLS_FILES.map((file) => `${where}.${file}`).join(", ")}`,
      );
    if (bytes !== undefined && !(bytes instanceof Uint8Array))
      throw new TypeError(`connect: ${where}.${name} is not bytes: read the PEM file without an encoding`);
  }
  if ((files["cert"] === undefined) !== (files["key"] === undefined))
    throw new RangeError(`connect: ${where}.cert and ${where}.key go together`);
}

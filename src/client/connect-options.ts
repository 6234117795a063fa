/** What `connect` is told, looked at before anything is opened: programs without types say all sorts of things. */
import { parseServer, SERVER_RULE } from "./server-name.ts";
import { isToken, TOKEN_RULE } from "./token.ts";

export interface TlsFiles {
  /** PEM of the authorities to trust; when absent those of the system, and of NODE_EXTRA_CA_CERTS. */
  readonly ca?: Uint8Array;
  /** PEM of the client's certificate chain; needs `key`. */
  readonly cert?: Uint8Array;
  readonly key?: Uint8Array;
}

export interface ConnectOptions {
  /** `host:port` each, tried in order; the port is 17420 where there is none. */
  readonly servers: readonly string[];
  /** Bearer token. */
  readonly token?: string;
  /** TLS; plain text when absent. */
  readonly tls?: TlsFiles;
  /** Deadline of a call that names none, and of connecting for a stream, in ms; default 10 s. */
  readonly timeoutMs?: number;
}

const WANTED = 'connect({ servers: ["127.0.0.1:17420"] })';
const OPTIONS: ReadonlySet<string> = new Set<keyof ConnectOptions>(["servers", "token", "tls", "timeoutMs"]);
/** The longest that a timer of Node takes. */
export const MAX_TIMEOUT_MS = 2 ** 31 - 1;

/** The servers as `host:port`. Throws a TypeError or RangeError that names the option and what it should be, and never shows the token. */
export function checkedServers(options: ConnectOptions): readonly string[] {
  const said: Readonly<Record<string, unknown>> = { ...options };
  const { servers, token, tls, timeoutMs } = said;
  const stranger = Object.keys(said).find((name) => !OPTIONS.has(name));
  if (stranger !== undefined) throw new TypeError(`connect: ${stranger} is no option; there are ${[...OPTIONS].join(", ")}`);
  if (!Array.isArray(servers)) throw new TypeError(`connect: servers is ${kindOf(servers)}, not a list of host:port: ${WANTED}`);
  if (servers.length === 0) throw new RangeError(`connect: servers is empty: ${WANTED}`);
  // grpc-js would say it with the token in its words.
  if (token !== undefined && (typeof token !== "string" || !isToken(token))) throw new RangeError(`connect: not a token: ${TOKEN_RULE}`);
  if (timeoutMs !== undefined && !(typeof timeoutMs === "number" && timeoutMs > 0 && timeoutMs <= MAX_TIMEOUT_MS))
    throw new RangeError(`connect: timeoutMs is ${kindOf(timeoutMs)}, not a number of milliseconds from 1 to ${MAX_TIMEOUT_MS}`);
  checkTls(tls);
  return servers.map((server: unknown, at) => {
    const parsed = typeof server === "string" ? parseServer(server) : undefined;
    if (parsed === undefined) throw new RangeError(`connect: servers[${at}] ${kindOf(server)} is ${SERVER_RULE}`);
    return parsed;
  });
}

function checkTls(tls: unknown): void {
  if (tls === undefined) return;
  if (typeof tls !== "object" || !tls)
    throw new TypeError(`connect: tls is ${kindOf(tls)}, not { ca, cert, key } with bytes of PEM files; {} trusts the system`);
  const files: Readonly<Record<string, unknown>> = { ...tls };
  for (const name of ["ca", "cert", "key"] as const)
    if (files[name] !== undefined && !(files[name] instanceof Uint8Array))
      throw new TypeError(`connect: tls.${name} is no bytes: read the PEM file without an encoding`);
  if ((files["cert"] === undefined) !== (files["key"] === undefined)) throw new RangeError("connect: tls.cert and tls.key go together");
}

function kindOf(value: unknown): string {
  if (value === undefined || typeof value === "number") return String(value);
  return typeof value === "string"
    ? JSON.stringify(value.slice(0, 256))
    : `a value of type ${Array.isArray(value) ? "array" : typeof value}`;
}

/** Implements the accepting side of a TCP listener: binds the port, limits connections, and terminates TLS. */

import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import {
  createSecureContext,
  createServer as createTlsServer,
  type SecureContext,
  type SecureContextOptions,
  type TLSSocket,
  type TlsOptions,
  type Server as TlsServer,
} from "node:tls";
import { assert } from "../../lib/errors.ts";
import { type ListeningPort, listenOn } from "../../lib/shared-port.io.ts";
import { isJustResumed } from "../../lib/stall-aware-time.io.ts";

/** A listener's certificates, as PEM. */
export interface TlsMaterial {
  readonly cert: Uint8Array;
  readonly key: Uint8Array;
  /** Clients must present a certificate signed by this CA (mutual TLS). */
  readonly clientCa?: Uint8Array | undefined;
  /**
   * Only with `clientCa`: also accepts connections without a certificate from this CA. For these connections, `authorized` is false on the socket.
   * Without this option, the handshake rejects them.
   */
  readonly isClientOptional?: boolean | undefined;
  /**
   * Returns the CA for clients that request this server name (SNI). This CA replaces `clientCa` and `crls`: a certificate that is signed only by
   * `clientCa` is rejected. Returns undefined for a name without its own CA. A resumed TLS session may lack a server name, so callers must not trust a
   * resumed session.
   */
  readonly clientCaOf?: ((serverName: string) => Uint8Array | undefined) | undefined;
  /** Only with `clientCa`: the revocation lists of this CA and its intermediates. A certificate whose CA has no list here is rejected. */
  readonly crls?: readonly Uint8Array[] | undefined;
  /** The oldest accepted version of TLS. Default: 1.2. */
  readonly minVersion?: "TLSv1.2" | "TLSv1.3" | undefined;
}

export interface AcceptOptions extends ListeningPort {
  /** The flag that sets the port, used in the error message if the port is in use. */
  readonly portFlag: string;
  readonly tls?: TlsMaterial | undefined;
  /** Protocols offered with ALPN, in order of preference. */
  readonly protocols: readonly string[];
  readonly maxConnections: number;
  readonly onConnection: (socket: Socket) => void;
  /** Called when a connection above `maxConnections` was closed on arrival. */
  readonly onDrop?: () => void;
  /** Called when a TLS handshake fails or times out. Not called for connections that closed without sending a byte, such as port checks. */
  readonly onHandshakeFailed?: (why: string, address: string) => void;
  /** Called when a connection cannot be accepted, for example because the process has no file descriptors left. The listener continues. */
  readonly onError?: (error: Error) => void;
}

export interface TlsAcceptor {
  /** The bound address as `host:port`, with IPv6 in brackets. */
  readonly address: string;
  readonly host: string;
  readonly port: number;
  /** Uses these certificates for new connections. Open connections keep their certificates. */
  setTls(material: TlsMaterial): void;
  /** Stops accepting. Resolves immediately, while open connections continue. */
  close(): void;
  /** Resolves when no connection is open, but after `deadlineMs` at the latest. */
  allClosed(deadlineMs: number): Promise<void>;
  /** Open connections. */
  readonly sockets: ReadonlySet<Socket>;
}

/** Maximum number of connections that the kernel queues until they are accepted. */
const BACKLOG = 1_024;
/** Maximum duration of a TLS handshake, in ms. */
const HANDSHAKE_TIMEOUT_MS = 10_000;
/** Fraction of the maximum number of connections that one address may use for TLS handshakes, so that silent clients leave room for others. */
const HANDSHAKE_SHARE = 1 / 16;
const MIN_HANDSHAKES = 8;
/**
 * Fraction of the maximum number of connections that may be in TLS handshakes, so that a client with many addresses leaves room for others.
 */
const ALL_HANDSHAKES_SHARE = 1 / 4;

/** Binds the port and accepts connections. If the address is unavailable, rejects with a message that contains host:port and the flag. */
export async function openAcceptor(options: AcceptOptions): Promise<TlsAcceptor> {
  const sockets = new Set<Socket>();
  const accept = (socket: Socket) => {
    socket.setNoDelay(true);
    options.onConnection(socket);
  };
  const maxPerAddress = Math.max(MIN_HANDSHAKES, Math.floor(options.maxConnections * HANDSHAKE_SHARE));
  const maxInAll = Math.max(MIN_HANDSHAKES, Math.floor(options.maxConnections * ALL_HANDSHAKES_SHARE));
  const handshakes = new Handshakes({ maxPerAddress, maxInAll }, (why, address) => options.onHandshakeFailed?.(why, address));
  const secured = (socket: Socket) => {
    handshakes.done(socket);
    accept(socket);
  };
  const named = new NamedContexts(options.tls);
  // These two listeners are shared by all connections, because a closure for each connection would use more memory.
  const onError = () => {}; // The peer reset the connection. The "close" event that follows is handled.
  const onClose = function (this: Socket) {
    sockets.delete(this);
  };
  const secureServer = options.tls === undefined ? undefined : openTls(options.tls, options.protocols, named, secured);
  secureServer?.on("tlsClientError", (error, socket) => handshakes.failed(error, socket));
  const server: Server = secureServer ?? createServer(accept);
  server.maxConnections = options.maxConnections;
  // Counts raw sockets, so that TLS connections are counted even before their handshake.
  server.prependListener("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.on("error", onError);
    socket.on("close", onClose);
    if (secureServer !== undefined && !handshakes.begin(socket)) {
      socket.destroy();
      options.onDrop?.();
    }
  });
  server.on("drop", () => options.onDrop?.());
  try {
    await listenOn(server, options, BACKLOG);
  } catch (error) {
    throw cannotBind(error, options);
  }
  server.on("error", (error) => options.onError?.(error)); // Without a listener, an "error" event ends the process.
  const { address: host, port, family } = boundAddress(server);
  return {
    host,
    port,
    address: family === "IPv6" ? `[${host}]:${port}` : `${host}:${port}`,
    sockets,
    setTls: (material) => {
      secureServer?.setSecureContext(secureContext(material));
      named.use(material);
    },
    close: () => void server.close(),
    allClosed: (deadlineMs) => allClosed(sockets, deadlineMs),
  };
}

/** Counts the TLS handshakes in progress by address, and reports failed handshakes. */
class Handshakes {
  readonly #limits: { readonly maxPerAddress: number; readonly maxInAll: number };
  readonly #onFailed: (why: string, address: string) => void;
  readonly #counts = new Map<string, number>();
  /** Handshakes in progress by address and port, because the TLS socket and the raw socket are different objects. */
  readonly #open = new Map<string, Socket>();
  /**
   * Reason for the most recent handshake failure after which the TLS socket no longer knew its peer's address. The raw socket knows the address, and
   * closes immediately before or after the TLS socket.
   */
  #lastFault: string | undefined;

  constructor(limits: { readonly maxPerAddress: number; readonly maxInAll: number }, onFailed: (why: string, address: string) => void) {
    this.#limits = limits;
    this.#onFailed = onFailed;
  }

  /**
   * Returns whether another handshake may begin. At the limit over all addresses, the oldest handshake is closed: an honest handshake needs
   * a few milliseconds, while a silent client uses its full timeout.
   */
  begin(socket: Socket): boolean {
    const { remoteAddress: address = "", remotePort = 0 } = socket;
    const count = this.#counts.get(address) ?? 0;
    const { maxPerAddress, maxInAll } = this.#limits;
    if (count >= maxPerAddress) return false;
    if (this.#open.size >= maxInAll) for (const oldest of this.#open.values().take(1)) oldest.destroy();
    this.#counts.set(address, count + 1);
    this.#open.set(`${address} ${remotePort}`, socket);
    // A closed socket no longer has its peer's address, so the address is stored here.
    socket.once("close", () => {
      const isFailed = this.#end(address, remotePort) && socket.bytesRead > 0;
      // The TLS socket knows why the handshake failed. It closes immediately before or after the raw socket.
      if (isFailed) setImmediate(() => this.#report(address));
    });
    return true;
  }

  done({ remoteAddress = "", remotePort = 0 }: Socket): void {
    this.#end(remoteAddress, remotePort);
  }

  /** Handles a failed handshake. Node.js destroys the socket. */
  failed(error: NodeJS.ErrnoException, { authorizationError, remoteAddress, remotePort = 0 }: TLSSocket): void {
    const why = handshakeFault(error, authorizationError);
    if (remoteAddress === undefined) this.#lastFault = why ?? this.#lastFault;
    else if (this.#end(remoteAddress, remotePort)) this.#onFailed(why ?? ABORTED, remoteAddress);
  }

  #report(address: string): void {
    const fault = this.#lastFault;
    this.#lastFault = undefined;
    // If this process was paused, the client may have given up waiting, which is not considered a failed handshake.
    if (fault !== undefined || !isJustResumed()) this.#onFailed(fault ?? ABORTED, address);
  }

  /** Removes a handshake. Returns whether the handshake was in progress. */
  #end(address: string, port: number): boolean {
    if (!this.#open.delete(`${address} ${port}`)) return false;
    const count = (this.#counts.get(address) ?? 1) - 1;
    if (count === 0) this.#counts.delete(address);
    else this.#counts.set(address, count);
    return true;
  }
}

const ABORTED = "aborted by the peer";

/** Returns a human-readable reason why a handshake failed. Returns undefined if the peer aborted it. */
function handshakeFault({ code = "" }: NodeJS.ErrnoException, authorizationError: unknown): string | undefined {
  // The Node.js types declare an Error, but the value is an error code or null.
  if (typeof authorizationError === "string") return `the peer's certificate was rejected (${authorizationError})`;
  if (code === "ECONNRESET" || code === "EPIPE") return undefined;
  return code
    .replace(/^ERR_(SSL|TLS)_/, "")
    .replaceAll("_", " ")
    .toLowerCase();
}

function allClosed(sockets: ReadonlySet<Socket>, deadlineMs: number): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      resolve();
    };
    const timer = setTimeout(done, deadlineMs);
    // This listener runs after the listener that removes the socket from the set.
    for (const socket of sockets) socket.once("close", () => sockets.size === 0 && done());
    if (sockets.size === 0) done();
  });
}

/** TLS contexts for clients that request a server name for which there is a separate CA. */
class NamedContexts {
  #material: TlsMaterial | undefined;
  /** Contexts by server name. The map contains only names that are known to the listener. */
  readonly #made = new Map<string, SecureContext>();

  constructor(material: TlsMaterial | undefined) {
    this.#material = material;
  }

  use(material: TlsMaterial): void {
    this.#material = material;
    this.#made.clear();
  }

  /** Returns undefined if the listener's own context applies. */
  find(name: string): SecureContext | undefined {
    const clientCa = this.#material?.clientCaOf?.(name);
    if (clientCa === undefined || this.#material === undefined) return undefined;
    let context = this.#made.get(name);
    if (context === undefined) {
      context = createSecureContext(secureContext({ ...this.#material, clientCa, crls: undefined }));
      this.#made.set(name, context);
    }
    return context;
  }
}

function openTls(material: TlsMaterial, protocols: readonly string[], named: NamedContexts, accept: (socket: Socket) => void): TlsServer {
  const options = { ...secureContext(material), ALPNProtocols: [...protocols], handshakeTimeout: HANDSHAKE_TIMEOUT_MS };
  if (material.clientCaOf === undefined) return createTlsServer(options, accept);
  // oxlint-disable-next-line unicorn/no-null -- Node passes null for "no error"
  const SNICallback: TlsOptions["SNICallback"] = (name, found) => found(null, named.find(name));
  return createTlsServer({ ...options, SNICallback }, accept);
}

function boundAddress(server: Server): AddressInfo {
  const address = server.address();
  assert(address !== null && typeof address === "object", "a listening TCP server has no address");
  return address;
}

function secureContext(material: TlsMaterial): SecureContextOptions & { requestCert: boolean; rejectUnauthorized: boolean } {
  const { cert, key, clientCa, crls, isClientOptional, minVersion = "TLSv1.2" } = material;
  const isMutual = clientCa !== undefined;
  return {
    cert: Buffer.from(cert),
    key: Buffer.from(key),
    ...(isMutual ? { ca: Buffer.from(clientCa) } : {}),
    ...(crls === undefined ? {} : { crl: crls.map((list) => Buffer.from(list)) }),
    requestCert: isMutual,
    rejectUnauthorized: isMutual && isClientOptional !== true,
    minVersion,
    maxVersion: "TLSv1.3",
  };
}

function cannotBind(error: unknown, options: AcceptOptions): Error {
  const at = options.host.includes(":") ? `[${options.host}]:${options.port}` : `${options.host}:${options.port}`;
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  switch (code) {
    case "EADDRINUSE":
      return new Error(`address already in use: ${at}; pass ${options.portFlag} with another port (0 selects a free port)`, {
        cause: error,
      });
    case "EACCES":
      return new Error(`permission denied: cannot listen on ${at}; pass ${options.portFlag} with a port above 1023`, { cause: error });
    case "ENOTSUP":
      return new Error(`cannot listen on ${at} with several threads: this system does not support it; omit --workers`, { cause: error });
    case "EADDRNOTAVAIL":
    case "ENOTFOUND":
      return new Error(`cannot listen on ${at}: ${options.host} is not an address of this machine; pass --host with a local address`, {
        cause: error,
      });
    default:
      return new Error(`cannot listen on ${at}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
}

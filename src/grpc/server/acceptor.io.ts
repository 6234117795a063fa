/** The accepting side of a TCP listener: binds, bounds connections, speaks TLS. */

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

/** Certificates of a listener, already read: PEM. */
export interface TlsMaterial {
  readonly cert: Uint8Array;
  readonly key: Uint8Array;
  /** Clients are asked for a certificate signed by it (mutual TLS). */
  readonly clientCa?: Uint8Array | undefined;
  /**
   * Only with a `clientCa`: connections without a certificate that it signed are accepted too, and `authorized` of their
   * sockets is false. Without this option the handshake refuses them.
   */
  readonly isClientOptional?: boolean | undefined;
  /**
   * The authority of clients that ask for this server name, in place of `clientCa`: a certificate that only `clientCa` signed is refused. Undefined for
   * a name without an authority of its own. A session that such a client resumes may say no name, so nobody may trust a resumed one.
   */
  readonly clientCaOf?: ((serverName: string) => Uint8Array | undefined) | undefined;
}

export interface AcceptOptions extends ListeningPort {
  /** The flag that sets the port, for the message when it is taken. */
  readonly portFlag: string;
  readonly tls?: TlsMaterial | undefined;
  /** Offered by ALPN, best first. */
  readonly protocols: readonly string[];
  readonly maxConnections: number;
  readonly onConnection: (socket: Socket) => void;
  /** A connection beyond `maxConnections` was closed as it came. */
  readonly onDrop?: () => void;
  /**
   * A TLS handshake failed, or did not end in time. It is not called for connections that closed without sending a byte, as port
   * checks do.
   */
  readonly onHandshakeFailed?: (why: string, address: string) => void;
  /** A connection could not be accepted, for example for lack of file descriptors. The listener goes on. */
  readonly onError?: (error: Error) => void;
}

export interface TlsAcceptor {
  /** As bound: `host:port`, IPv6 in brackets. */
  readonly address: string;
  readonly host: string;
  readonly port: number;
  /** New connections use the new certificates; open ones keep theirs. */
  setTls(material: TlsMaterial): void;
  /** Stops accepting; resolves at once, open connections go on. */
  close(): void;
  /** Resolves when no connection is open any more, at the latest after `deadlineMs`. */
  allClosed(deadlineMs: number): Promise<void>;
  /** Open connections. */
  readonly sockets: ReadonlySet<Socket>;
}

/** Connections that the system holds until they are accepted. */
const BACKLOG = 1_024;
/** Longest a TLS handshake may take, in ms. */
const HANDSHAKE_TIMEOUT_MS = 10_000;
/** The part of all connections that one address may have in TLS handshakes, so that silent clients leave room for others. */
const HANDSHAKE_SHARE = 1 / 16;
const MIN_HANDSHAKES = 8;
/** The part of all connections that may be in TLS handshakes: whoever has many addresses leaves room for those who have shown who they are. */
const ALL_HANDSHAKES_SHARE = 1 / 4;

/** Binds and accepts. Rejects with a message that names host:port and the flag when the address cannot be had. */
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
  const secureServer = options.tls === undefined ? undefined : openTls(options.tls, options.protocols, named, secured);
  secureServer?.on("tlsClientError", (error, socket) => handshakes.failed(error, socket));
  const server: Server = secureServer ?? createServer(accept);
  server.maxConnections = options.maxConnections;
  // Raw sockets, so that a TLS connection counts before its handshake too.
  server.prependListener("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.on("error", () => {}); // A reset by the peer; "close" follows and is what we act on.
    socket.once("close", () => sockets.delete(socket));
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
  server.on("error", (error) => options.onError?.(error)); // Unheard it would end the process.
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

/** TLS handshakes under way, counted by address, and those that fail. */
class Handshakes {
  readonly #limits: { readonly maxPerAddress: number; readonly maxInAll: number };
  readonly #onFailed: (why: string, address: string) => void;
  readonly #counts = new Map<string, number>();
  /** Handshakes under way, by address and port: the TLS socket is another object than the raw socket. */
  readonly #open = new Map<string, Socket>();
  /** Why the last handshake failed whose TLS socket no longer knew its peer's address. Its raw socket knows it, and closes right before or after. */
  #lastFault: string | undefined;

  constructor(limits: { readonly maxPerAddress: number; readonly maxInAll: number }, onFailed: (why: string, address: string) => void) {
    this.#limits = limits;
    this.#onFailed = onFailed;
  }

  /** Whether one more may begin. The oldest of all makes room: a handshake takes some milliseconds, and a silent client waits for the end of its time. */
  begin(socket: Socket): boolean {
    const { remoteAddress: address = "", remotePort = 0 } = socket;
    const count = this.#counts.get(address) ?? 0;
    const { maxPerAddress, maxInAll } = this.#limits;
    if (count >= maxPerAddress) return false;
    if (this.#open.size >= maxInAll) for (const oldest of this.#open.values().take(1)) oldest.destroy();
    this.#counts.set(address, count + 1);
    this.#open.set(`${address} ${remotePort}`, socket);
    // A closed socket no longer knows its peer's address, so the address is kept from here.
    socket.once("close", () => {
      const isFailed = this.#end(address, remotePort) && socket.bytesRead > 0;
      // The TLS socket knows why the handshake failed. It closes right before or right after the raw socket.
      if (isFailed) setImmediate(() => this.#tell(address));
    });
    return true;
  }

  done({ remoteAddress = "", remotePort = 0 }: Socket): void {
    this.#end(remoteAddress, remotePort);
  }

  /** Node destroys the socket. */
  failed(error: NodeJS.ErrnoException, { authorizationError, remoteAddress, remotePort = 0 }: TLSSocket): void {
    const why = handshakeFault(error, authorizationError);
    if (remoteAddress === undefined) this.#lastFault = why ?? this.#lastFault;
    else if (this.#end(remoteAddress, remotePort)) this.#onFailed(why ?? GIVEN_UP, remoteAddress);
  }

  #tell(address: string): void {
    const fault = this.#lastFault;
    this.#lastFault = undefined;
    // A client that gave up while this process stood still was not refused.
    if (fault !== undefined || !isJustResumed()) this.#onFailed(fault ?? GIVEN_UP, address);
  }

  /** Forgets a handshake. Returns whether it was under way. */
  #end(address: string, port: number): boolean {
    if (!this.#open.delete(`${address} ${port}`)) return false;
    const count = (this.#counts.get(address) ?? 1) - 1;
    if (count === 0) this.#counts.delete(address);
    else this.#counts.set(address, count);
    return true;
  }
}

const GIVEN_UP = "given up by the other side";

/** Why a handshake failed, for people; undefined when the client gave it up. */
function handshakeFault({ code = "" }: NodeJS.ErrnoException, authorizationError: unknown): string | undefined {
  // Node's types say Error. The value is the code of an error, or null.
  if (typeof authorizationError === "string") return `its certificate is not accepted (${authorizationError})`;
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
    // This listener runs after the one that takes the socket out of the set.
    for (const socket of sockets) socket.once("close", () => sockets.size === 0 && done());
    if (sockets.size === 0) done();
  });
}

/** The contexts of clients that ask for a server name with an authority of its own. */
class NamedContexts {
  #material: TlsMaterial | undefined;
  /** By name. Only names that the listener knows are in it. */
  readonly #made = new Map<string, SecureContext>();

  constructor(material: TlsMaterial | undefined) {
    this.#material = material;
  }

  use(material: TlsMaterial): void {
    this.#material = material;
    this.#made.clear();
  }

  /** Undefined: the listener's own context. */
  find(name: string): SecureContext | undefined {
    const clientCa = this.#material?.clientCaOf?.(name);
    if (clientCa === undefined || this.#material === undefined) return undefined;
    let context = this.#made.get(name);
    if (context === undefined) {
      context = createSecureContext(secureContext({ ...this.#material, clientCa }));
      this.#made.set(name, context);
    }
    return context;
  }
}

function openTls(material: TlsMaterial, protocols: readonly string[], named: NamedContexts, accept: (socket: Socket) => void): TlsServer {
  const options = { ...secureContext(material), ALPNProtocols: [...protocols], handshakeTimeout: HANDSHAKE_TIMEOUT_MS };
  if (material.clientCaOf === undefined) return createTlsServer(options, accept);
  // oxlint-disable-next-line unicorn/no-null -- Node's word for "no error"
  const SNICallback: TlsOptions["SNICallback"] = (name, found) => found(null, named.find(name));
  return createTlsServer({ ...options, SNICallback }, accept);
}

function boundAddress(server: Server): AddressInfo {
  const address = server.address();
  assert(address !== null && typeof address === "object", "a TCP server that listens has an address");
  return address;
}

function secureContext(material: TlsMaterial): SecureContextOptions & { requestCert: boolean; rejectUnauthorized: boolean } {
  const { cert, key, clientCa, isClientOptional } = material;
  const isMutual = clientCa !== undefined;
  return {
    cert: Buffer.from(cert),
    key: Buffer.from(key),
    ...(isMutual ? { ca: Buffer.from(clientCa) } : {}),
    requestCert: isMutual,
    rejectUnauthorized: isMutual && isClientOptional !== true,
    minVersion: "TLSv1.2",
    maxVersion: "TLSv1.3",
  };
}

function cannotBind(error: unknown, options: AcceptOptions): Error {
  const at = options.host.includes(":") ? `[${options.host}]:${options.port}` : `${options.host}:${options.port}`;
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  switch (code) {
    case "EADDRINUSE":
      return new Error(`address already in use: ${at}; pass ${options.portFlag} with another port (0 takes any free one)`, {
        cause: error,
      });
    case "EACCES":
      return new Error(`no permission to listen on ${at}; pass ${options.portFlag} with a port above 1023`, { cause: error });
    case "ENOTSUP":
      return new Error(`this system does not let several threads listen on ${at}; leave out --workers`, { cause: error });
    case "EADDRNOTAVAIL":
    case "ENOTFOUND":
      return new Error(`${options.host} is not an address of this machine, so ${at} cannot be listened on; pass --host`, { cause: error });
    default:
      return new Error(`cannot listen on ${at}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
}

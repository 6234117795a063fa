/** The gRPC listener: grpc-js behind our own accepting side, with health, reflection v1 and v1alpha, and a bounded stop. */
import { readFileSync } from "node:fs";
import type { Http2Server } from "node:http2";
import { Server, ServerCredentials, type ServerOptions } from "@grpc/grpc-js";
import { type Acceptor, openAcceptor } from "../../grpc/server/acceptor.io.ts";
import type { ConnectionLimits, ExceededLimit } from "../../grpc/server/connection-limits.ts";
import { readTls, type TlsFiles, type TlsWatch, watchTls } from "../../grpc/server/tls-files.io.ts";
import type { Inflater } from "../../grpc/wire/encoding.ts";
import { SharedInflater } from "../../grpc/wire/inflater.io.ts";
import type { Service } from "../../services/service.ts";
import type { Chain } from "../chain.ts";
import { ConnectionGuard, HTTP2_OPTIONS } from "../connection-guard.io.ts";
import { GrpcDispatcher } from "./dispatcher.io.ts";
import { addHealth, type HealthBoard } from "./health.io.ts";
import { prepareReflection } from "./reflection.io.ts";

/** Bounds of the listener; every one is a setting. */
export interface GrpcLimits {
  readonly maxConnections: number;
  readonly maxStreamsPerConnection: number;
  /** Largest request message, in bytes. */
  readonly maxMessageBytes: number;
  /** Streams open over all connections; beyond it new ones are refused with `quota_exceeded`. */
  readonly maxStreams: number;
  /** Bytes of requests that have not wholly arrived, over all connections. */
  readonly maxBufferedBytes: number;
  /** Largest HTTP/2 state of one connection (headers, frames not yet sent), in MiB. */
  readonly maxSessionMemoryMiB: number;
  readonly keepaliveTimeMs: number;
  readonly keepaliveTimeoutMs: number;
  /** From a call's start to the end of its request, or of a stream of requests to its first. */
  readonly requestTimeoutMs: number;
  /** A connection without an open call is told to go away after this, whatever else comes on it; gRPC clients connect again at their next call. */
  readonly idleTimeoutMs: number;
  /** A connection is told to go away at this age ± 10 %, so that clients spread again; 0 = never. */
  readonly maxConnectionAgeMs: number;
  /** After being told, open calls have this long. */
  readonly maxConnectionAgeGraceMs: number;
}

/** Limits that are not settings. */
export const GRPC_FIXED = {
  maxBufferedBytes: 256 * 1_024 * 1_024,
  maxSessionMemoryMiB: 64,
  requestTimeoutMs: 30_000,
  idleTimeoutMs: 300_000,
} as const satisfies Partial<GrpcLimits>;

/** The few log lines of a listener. */
export interface ListenerLog {
  info(facts: object, event: string): void;
  warn(facts: object, event: string): void;
}

export interface GrpcListenerOptions {
  readonly host: string;
  /** 0 takes any free port. */
  readonly port: number;
  readonly services: readonly Service[];
  readonly chain: Chain;
  readonly tls?: TlsFiles | undefined;
  readonly limits: GrpcLimits;
  /** When a connection is cut. */
  readonly connectionLimits?: ConnectionLimits | undefined;
  readonly log: ListenerLog;
  /** Shared by all listeners of a node; one of its own unless given. */
  readonly inflater?: Inflater | undefined;
  /** Counts connections turned away ("limit"), cut, or whose TLS handshake failed. */
  readonly onCut?: ((reason: ExceededLimit | "limit" | "handshake") => void) | undefined;
  /** Who may read the protos; everybody unless given. */
  readonly reflection?: "on" | "authenticated" | "off" | undefined;
  /** `FileDescriptorSet` bytes for reflection; the ones in `gen/` unless given. */
  readonly descriptors?: Uint8Array | undefined;
}

export interface GrpcListener {
  /** As bound, `host:port`. */
  readonly address: string;
  readonly host: string;
  readonly port: number;
  /** What health says; NOT_SERVING until first called with true. */
  setServing(isServing: boolean): void;
  /** Health says NOT_SERVING, then new calls are refused with `draining`; open calls go on. */
  drain(): void;
  /** Reads the certificates again (SIGHUP); without TLS nothing happens. */
  reloadTls(): void;
  /** Drains, tells connections to go away, waits up to `deadlineMs` for open calls, then cuts what is left. Idempotent. */
  stop(deadlineMs: number): Promise<void>;
  /** Open connections now. */
  connectionCount(): number;
}

/** Binds and serves. Rejects with a message naming host:port when it cannot. */
export async function startGrpcListener(options: GrpcListenerOptions): Promise<GrpcListener> {
  const { limits } = options;
  const server = new Server(serverOptions(limits));
  const names = options.services.map((service) => service.desc.typeName);
  const health = addHealth(server, options.services);
  const reflection = options.reflection ?? "on";
  const descriptors = () => options.descriptors ?? readFileSync(new URL("../../../gen/descriptors.binpb", import.meta.url));

  setHttp2Options(server);
  const injector = server.createConnectionInjector(ServerCredentials.createInsecure()); // TLS is ours, see openAcceptor.
  const guard = new ConnectionGuard({
    limits: options.connectionLimits,
    streams: { burst: BURST_STREAMS, most: limits.maxStreamsPerConnection },
    idleMs: limits.idleTimeoutMs,
    arrivalMs: limits.requestTimeoutMs,
    onCut: (connectionLimits, address) => {
      options.log.warn({ listener: "grpc", connectionLimits, address }, "connection cut");
      options.onCut?.(connectionLimits);
    },
  });
  const dispatcher = new GrpcDispatcher({
    chain: options.chain,
    services: options.services,
    guard,
    limits,
    inflater: options.inflater ?? new SharedInflater(),
    reflection,
    addReflection: reflection === "off" ? undefined : prepareReflection(server, descriptors(), names),
  });
  dispatcher.stepIn(http2ServerOf(server));
  const acceptor = await openAcceptor({
    host: options.host,
    port: options.port,
    portFlag: "--grpc-port",
    tls: options.tls === undefined ? undefined : readTls(options.tls),
    protocols: ["h2"],
    maxConnections: limits.maxConnections,
    onConnection: (socket) => injector.injectConnection(socket),
    onDrop: () => options.onCut?.("limit"),
    onHandshakeFailed: () => options.onCut?.("handshake"),
    onError: (error) => options.log.warn({ listener: "grpc", err: error }, "accepting failed"),
  });
  return new OpenListener(options, { server, acceptor, health, guard });
}

/** Options grpc-js has no name for, put where it keeps those it passes to `http2.createServer`; private (1.14.7, pinned). */
function setHttp2Options(server: Server): void {
  const options: unknown = Reflect.get(server, "commonServerOptions");
  if (typeof options !== "object" || options === null) throw new Error("grpc-js has no commonServerOptions where 1.14.7 has them");
  Object.assign(options, HTTP2_OPTIONS);
}

/**
 * The node:http2 server inside grpc-js: private (1.14.7, pinned), to see its sessions and
 * to take our streams before it does.
 */
function http2ServerOf(server: Server): Http2Server {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- private, so untyped; checked below.
  const { http2Servers } = server as unknown as { readonly http2Servers?: ReadonlyMap<Http2Server, unknown> };
  const [http2Server] = http2Servers?.keys() ?? [];
  if (http2Server === undefined) throw new Error("grpc-js has no http2 server where 1.14.7 has it; see http2ServerOf");
  return http2Server;
}

/** Calls that one connection may open at once, beside the streams that last. */
const BURST_STREAMS = 128;

/** Largest request of health and reflection, which is all that grpc-js serves, also when inflated. */
const COMPANION_BYTES = 16 * 1_024;

function serverOptions(limits: GrpcLimits): ServerOptions {
  return {
    "grpc.enable_channelz": 0, // Counters we do not read; they cost three closures a call.
    "grpc.max_concurrent_streams": Math.min(BURST_STREAMS, limits.maxStreamsPerConnection),
    "grpc.max_receive_message_length": COMPANION_BYTES,
    "grpc.max_send_message_length": -1,
    "grpc.keepalive_time_ms": limits.keepaliveTimeMs,
    "grpc.keepalive_timeout_ms": limits.keepaliveTimeoutMs,
    "grpc-node.max_session_memory": limits.maxSessionMemoryMiB,
    ...(limits.maxConnectionAgeMs > 0
      ? { "grpc.max_connection_age_ms": limits.maxConnectionAgeMs, "grpc.max_connection_age_grace_ms": limits.maxConnectionAgeGraceMs }
      : {}),
  };
}

/** How long destroyed sockets may take to say so, in ms. */
const CLOSE_MS = 1_000;

interface Parts {
  readonly server: Server;
  readonly acceptor: Acceptor;
  readonly health: HealthBoard;
  readonly guard: ConnectionGuard;
}

class OpenListener implements GrpcListener {
  readonly address: string;
  readonly host: string;
  readonly port: number;
  readonly #options: GrpcListenerOptions;
  readonly #parts: Parts;
  readonly #tlsWatch: TlsWatch | undefined;
  #stopping: Promise<void> | undefined;

  constructor(options: GrpcListenerOptions, parts: Parts) {
    this.#options = options;
    this.#parts = parts;
    this.address = parts.acceptor.address;
    this.host = parts.acceptor.host;
    this.port = parts.acceptor.port;
    const { tls, log } = options;
    if (tls !== undefined) {
      this.#tlsWatch = watchTls(tls, (material) => parts.acceptor.setTls(material), {
        onReload: () => log.info({ listener: "grpc" }, "certificates reloaded"),
        onError: (error) => log.warn({ listener: "grpc", err: error }, "certificates not reloaded, keeping the old ones"),
      });
    }
  }

  setServing(isServing: boolean): void {
    this.#parts.health.setServing(isServing && !this.#options.chain.isDraining);
  }

  drain(): void {
    this.#parts.health.setServing(false);
    this.#options.chain.drain();
  }

  reloadTls(): void {
    this.#tlsWatch?.reload();
  }

  connectionCount(): number {
    return this.#parts.acceptor.sockets.size;
  }

  stop(deadlineMs: number): Promise<void> {
    this.#stopping ??= this.#stop(deadlineMs);
    return this.#stopping;
  }

  async #stop(deadlineMs: number): Promise<void> {
    const { server, acceptor, guard } = this.#parts;
    this.drain();
    this.#tlsWatch?.stop();
    acceptor.close();
    guard.closeAll();
    await acceptor.allClosed(deadlineMs);
    // Not tryShutdown: for connections it did not accept itself it calls back before their calls are over.
    server.forceShutdown();
    for (const socket of acceptor.sockets) socket.destroy(); // Without channelz grpc-js forgets its sessions here.
    await acceptor.allClosed(CLOSE_MS);
    guard.stop();
  }
}

/** The gRPC listener: accepts connections, serves the services through the chain, and stops within a time limit. */
import type { CutReason } from "../grpc/server/connection-guard.io.ts";
import { GrpcServer, type ServerLimits } from "../grpc/server/server.io.ts";
import { type FileAcceptor, type ListenerTlsFiles, openFileAcceptor } from "../grpc/server/tls-files.io.ts";
import type { UnreadLimits } from "../grpc/server/unread-answers.ts";
import { SharedInflater } from "../grpc/wire/inflater.io.ts";
import type { Inflater } from "../grpc/wire/message-reader.ts";
import type { Log } from "../lib/log.io.ts";
import type { ListeningPort } from "../lib/shared-port.io.ts";
import type { HealthBoard } from "../services/health.ts";
import type { ServiceDefinition } from "../services/service.ts";
import type { CallChain } from "./chain.ts";
import { grpcMethods, grpcStatus } from "./grpc-methods.ts";
import { identifyPeer } from "./peer.io.ts";
import { draining } from "./status.ts";

/** Limits of the listener. */
export type GrpcLimits = ServerLimits & UnreadLimits & { readonly maxConnections: number };

export interface GrpcListenerOptions extends ListeningPort {
  readonly services: readonly ServiceDefinition[];
  /** Updated when the listener starts to serve and when it drains. */
  readonly health: HealthBoard;
  readonly chain: CallChain;
  readonly tls?: ListenerTlsFiles | undefined;
  readonly limits: GrpcLimits;
  readonly log: Pick<Log, "info" | "warn">;
  /** Shared by all listeners of a node. Defaults to a new inflater. */
  readonly inflater?: Inflater | undefined;
  /** Counts connections that were rejected ("limit"), closed by the guard, or whose TLS handshake failed. */
  readonly onCut?: ((reason: CutReason | "limit" | "handshake") => void) | undefined;
}

/** Binds the port and serves. If it cannot bind, rejects with a message that includes host:port. */
export async function startGrpcListener(options: GrpcListenerOptions): Promise<GrpcListener> {
  const { chain, limits, log, onCut } = options;
  const server = new GrpcServer({
    methods: grpcMethods(options.services, chain),
    limits,
    unread: limits,
    inflater: options.inflater ?? new SharedInflater(),
    statusOf: (thrown, call) => {
      const [, service = "", method = ""] = call?.method.path.split("/") ?? [];
      return grpcStatus(chain.status(thrown, { requestId: "", service, method }));
    },
    onConnection: (connection, socket) => {
      identifyPeer(connection, socket);
      return true;
    },
    onCut: (reason, address) => {
      log.warn({ listener: "grpc", reason, address }, "connection cut");
      onCut?.(reason);
    },
  });
  try {
    const acceptor = await openFileAcceptor({
      host: options.host,
      port: options.port,
      sharing: options.sharing,
      portFlag: "--grpc-port",
      tls: options.tls,
      onReload: () => log.info({ listener: "grpc" }, "certificates reloaded"),
      onReloadFailed: (error) => log.warn({ listener: "grpc", err: error }, "certificate reload failed, keeping the current certificates"),
      protocols: ["h2"],
      maxConnections: limits.maxConnections,
      onConnection: (socket) => server.accept(socket),
      onDrop: () => onCut?.("limit"),
      onHandshakeFailed: () => onCut?.("handshake"),
      onError: (error) => log.warn({ listener: "grpc", err: error }, "connection not accepted"),
    });
    return new GrpcListener(options, server, acceptor);
  } catch (error) {
    server.stop();
    throw error;
  }
}

/** Maximum wait for the "close" events of destroyed sockets, in ms. */
const CLOSE_MS = 1_000;

export class GrpcListener {
  /** The acceptor: the bound address, the connections and the certificates. */
  readonly acceptor: FileAcceptor;
  readonly #options: GrpcListenerOptions;
  readonly #server: GrpcServer;
  #stopping: Promise<void> | undefined;

  constructor(options: GrpcListenerOptions, server: GrpcServer, acceptor: FileAcceptor) {
    this.#options = options;
    this.#server = server;
    this.acceptor = acceptor;
  }

  /** Sets the health status. The status is NOT_SERVING until this function is called with true. */
  setServing(isServing: boolean): void {
    this.#options.health.setServing(isServing && !this.#options.chain.isDraining);
  }

  /** Sets the health status to NOT_SERVING and rejects new calls with `draining`. Open calls continue. */
  drain(): void {
    this.#options.health.setServing(false);
    this.#options.chain.drain();
  }

  /**
   * Drains, sends GOAWAY on all connections, waits up to `deadlineMs` for open calls, then closes the remaining connections. Idempotent.
   */
  stop(deadlineMs: number): Promise<void> {
    this.#stopping ??= this.#stop(deadlineMs);
    return this.#stopping;
  }

  async #stop(deadlineMs: number): Promise<void> {
    this.drain();
    this.acceptor.close();
    this.#options.health.end(draining()); // Otherwise, only the clients would end these watches.
    // Connections that are still open after the deadline are closed below and are not counted as violations.
    this.#server.drain(Number.POSITIVE_INFINITY);
    await this.acceptor.allClosed(deadlineMs);
    for (const socket of this.acceptor.sockets) socket.destroy();
    await this.acceptor.allClosed(CLOSE_MS);
    this.#server.stop();
  }
}

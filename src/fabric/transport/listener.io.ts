/** The fabric listener: serves `FabricService` to other nodes on a gRPC server. A connection's identity is read once, when it is accepted. */
import type { Socket } from "node:net";
import { openAcceptor, type TlsAcceptor, type TlsMaterial } from "../../grpc/server/acceptor.io.ts";
import type { CutReason, GuardedConnection } from "../../grpc/server/connection-guard.io.ts";
import type { MethodCall } from "../../grpc/server/method.ts";
import { GrpcServer } from "../../grpc/server/server.io.ts";
import { type GrpcStatus, statusOfThrown } from "../../grpc/wire/status.ts";
import { assert, WaymarkError } from "../../lib/errors.ts";
import type { PeerIdentity } from "../wire/messages.ts";
import { MESSAGE_BOUNDS } from "../wire/messages.ts";
import { type BorderAuthority, placesOf } from "./border-gate.ts";
import { FabricService, type FabricServiceParts } from "./fabric-service.ts";
import { PEER_LIMITS, serverLimits, type TransportLimits } from "./limits.ts";
import type { StreamClock, WireTraffic } from "./link-stream.ts";
import { type CallingPeer, TOKEN_HEADER } from "./link-stream.ts";
import {
  type AcceptedPeers,
  acceptedPeers,
  borderAtGate,
  borderOf,
  type FabricTls,
  peerIdentityOf,
  serverNameOf,
  whyRevoked,
} from "./peer-identity.io.ts";

/** Serves programs that do not have a certificate yet, on the port of the fabric. */
export interface FabricJoinEndpoint {
  readonly serverName: string;
  accept(socket: Socket): void;
  /** Refuses new requests, and closes connections without requests. */
  drain(graceMs: number): void;
  stop(): void;
}

export interface ListenerOptions {
  readonly host: string;
  /** 0 binds to any free port. */
  readonly port: number;
  readonly tls: FabricTls | undefined;
  readonly limits: TransportLimits;
  readonly traffic: WireTraffic;
  readonly clock: StreamClock;
  /** On an issuer, the endpoint for clients that request its server name. They need no certificate. */
  readonly joinEndpoint?: FabricJoinEndpoint | undefined;
  /** Called when a connection has been closed because it abused HTTP/2. */
  readonly onCut: (reason: CutReason, address: string) => void;
}

export class FabricListener {
  readonly service: FabricService;
  readonly #options: ListenerOptions;
  readonly #events: FabricServiceParts["events"];
  readonly #server: GrpcServer;
  /** Open connections by the object that identifies them in calls. */
  readonly #peers = new Map<object, { readonly connection: GuardedConnection; readonly identity: PeerIdentity }>();
  /**
   * Connections that are not proved to belong to a peer, oldest first, each with the last identity that it presented. The identity is undefined
   * before the first call.
   */
  readonly #unproven = new Map<GuardedConnection, PeerIdentity | undefined>();
  /** Connections through border gates, each with the border quota that it uses. */
  readonly #byGate = new Map<GuardedConnection, string>();
  #accepted: AcceptedPeers;
  #borders: readonly BorderAuthority[];
  #acceptor: TlsAcceptor | undefined;

  constructor(options: ListenerOptions, events: FabricServiceParts["events"]) {
    const { limits, traffic, clock, tls } = options;
    this.#options = options;
    this.#events = events;
    this.#accepted = acceptedPeers(tls);
    this.#borders = tls?.borders ?? [];
    this.service = new FabricService({ limits, traffic, clock, events, peerOf: (call) => this.#peerOf(call) });
    this.#server = new GrpcServer({
      methods: this.service.methods,
      limits: serverLimits(limits),
      connectionLimits: PEER_LIMITS,
      statusOf: (thrown, call) => (call === undefined ? withoutMethod(thrown) : statusOfThrown(thrown)),
      onConnection: (connection, socket) => this.#connected(connection, socket),
      onCut: (reason, address) => reason === "lifetime" || options.onCut(reason, address),
    });
  }

  async open(): Promise<void> {
    const { host, port, tls, limits } = this.#options;
    this.#acceptor = await openAcceptor({
      host,
      port,
      tls: tls === undefined ? undefined : this.#material(tls),
      portFlag: "--fabric-port",
      protocols: ["h2"],
      maxConnections: limits.maxConnections,
      onConnection: (socket) => this.#accept(socket),
      onDrop: () => this.#events.refused("too many connections", ""),
      onHandshakeFailed: (why, address) => this.#events.refused(`TLS handshake: ${why}`, address),
      onError: (error) => this.#events.refused(error.message, ""),
    });
  }

  /** The bound acceptor. Undefined before `open`. */
  get acceptor(): TlsAcceptor | undefined {
    return this.#acceptor;
  }

  /** Replaces the certificates for new connections, and closes connections whose certificates were revoked. Throws if the certificate does not name a node. */
  setTls(tls: FabricTls): void {
    const accepted = acceptedPeers(tls);
    this.#acceptor?.setTls(this.#material(tls));
    this.#accepted = accepted;
    this.#borders = tls.borders ?? [];
    for (const { connection, identity } of this.#peers.values()) {
      const why = whyRevoked(identity, accepted);
      if (why === undefined) continue;
      this.#events.refused(why, connection.address);
      connection.destroy();
    }
  }

  /** Stops accepting connections, waits up to `deadlineMs` until open connections end, and then closes the rest. */
  async stop(deadlineMs: number): Promise<void> {
    this.service.stop();
    this.#acceptor?.close();
    this.#server.drain(deadlineMs);
    this.#options.joinEndpoint?.drain(deadlineMs);
    await this.#acceptor?.allClosed(deadlineMs);
    for (const socket of this.#acceptor?.sockets ?? []) socket.destroy();
    await this.#acceptor?.allClosed(1_000);
    this.#server.stop();
    this.#options.joinEndpoint?.stop();
  }

  #accept(socket: Socket): void {
    const { joinEndpoint } = this.#options;
    if (joinEndpoint !== undefined && serverNameOf(socket) === joinEndpoint.serverName) joinEndpoint.accept(socket);
    else this.#server.accept(socket);
  }

  #material(tls: FabricTls): TlsMaterial {
    const { borders = [], clientCa } = tls;
    const { joinEndpoint } = this.#options;
    const clientCaOf = (serverName: string) =>
      serverName === joinEndpoint?.serverName
        ? clientCa
        : borderAtGate(serverName, borders, (clusterId) => this.#unknownGate(clusterId))?.ca;
    // A newcomer has no certificate. For all others, `peerIdentityOf` requires one.
    return { ...tls, clientCaOf, isClientOptional: joinEndpoint !== undefined, minVersion: "TLSv1.3" };
  }

  /** The connection is then verified like a member's connection. This usually fails, so the operator must see which setting is missing. */
  #unknownGate(clusterId: string): void {
    this.#events.refused(`a node of cluster ${clusterId} requested a border link, but fabric.borders does not name that cluster`, "");
  }

  #connected(connection: GuardedConnection, socket: Socket): boolean {
    const identity = peerIdentityOf(socket, this.#accepted, borderOf(socket, this.#borders));
    if ("refused" in identity) {
      this.#events.refused(identity.refused, connection.address);
      return false;
    }
    const places = placesOf(identity);
    if (places !== undefined && !this.#hasRoomAtGate(places)) {
      this.#events.refused(`too many connections for border ${identity.border ?? ""}`, connection.address);
      return false;
    }
    this.#peers.set(connection, { connection, identity });
    socket.once("close", () => this.#peers.delete(connection));
    if (places !== undefined) {
      this.#byGate.set(connection, places);
      socket.once("close", () => this.#byGate.delete(connection));
      return true;
    }
    this.#makeRoom();
    this.#unproven.set(connection, undefined);
    socket.once("close", () => this.#unproven.delete(connection));
    return true;
  }

  /** Each neighbour has its own quota, so that it cannot use up the connections of members or of another neighbour. */
  #hasRoomAtGate(places: string): boolean {
    const { maxBorderConnections, maxConnectionsOfBorder } = this.#options.limits;
    if (this.#byGate.size >= maxBorderConnections) return false;
    let count = 0;
    for (const gate of this.#byGate.values()) count += Number(gate === places);
    return count < maxConnectionsOfBorder;
  }

  /** Identities are checked as late as possible, because the fabric, which accepts or rejects them, opens after its listener. */
  #makeRoom(): void {
    for (const [connection, identity] of this.#unproven) {
      if (this.#unproven.size < this.#options.limits.maxUnprovenConnections) return;
      this.#unproven.delete(connection);
      if (identity !== undefined && !this.#events.isStranger(identity)) continue;
      this.#events.refused("closed before it proved an identity, to make room for a new connection", connection.address);
      connection.destroy();
    }
  }

  #noteIdentity(connection: GuardedConnection, identity: PeerIdentity): void {
    if (this.#unproven.has(connection)) this.#unproven.set(connection, identity);
  }

  #peerOf(call: MethodCall): CallingPeer {
    const peer = this.#peers.get(call.connection);
    assert(peer !== undefined, "a call has no accepted connection");
    const { connection } = peer;
    const clusterToken = (call.header(TOKEN_HEADER) ?? "").slice(0, MESSAGE_BOUNDS.maxTokenLength);
    const identity = { ...peer.identity, clusterToken };
    this.#noteIdentity(connection, identity);
    return {
      identity,
      onHello: (token) => this.#noteIdentity(connection, token === "" ? identity : { ...identity, clusterToken: token }),
      cut: (afterMs) => cutAfter(afterMs, connection),
      whyCut: () => (connection.whyCut === "lifetime" ? "the peer does not answer pings" : connection.whyCut),
    };
  }
}

/** Closes a connection after this time in ms. */
export function cutAfter(afterMs: number, connection: { destroy(): void }): void {
  if (afterMs === 0) connection.destroy();
  else setTimeout(() => connection.destroy(), afterMs).unref();
}

/** Returns the status for a call that is refused before it reaches a method. */
function withoutMethod(thrown: unknown): GrpcStatus {
  const status = statusOfThrown(thrown);
  if (!(thrown instanceof WaymarkError && thrown.reason === "unimplemented")) return status;
  return { ...status, message: "no such method: this port is the fabric listener for nodes; clients must use listen.grpc_port" };
}

/**
 * The fabric listener: `waymark.fabric.v1.FabricService` for other nodes. Decides nothing about the fabric; bounds
 * everything a peer can make it hold.
 *
 * On node:http2 and not through grpc-js: that answers streams that are gone, which ends the process, and cannot end a
 * stream that a peer does not read (docs/decisions/0010).
 */
import {
  createServer,
  type Http2Server,
  type Http2Session,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from "node:http2";
import type { Socket } from "node:net";
import { type AssemblyBounds, isGrpcType } from "../../lib/grpc-frames.ts";
import { patientNowMs } from "../../lib/patient-time.io.ts";
import type { CallId } from "../io-types.ts";
import type { CallRequest, CallResponse, PeerIdentity } from "../wire/messages.ts";
import { MESSAGE_BOUNDS } from "../wire/validation.ts";
import { WINDOW_BYTES } from "./dial.io.ts";
import {
  HEADERS,
  type IncomingCallEvents,
  type IncomingCallLimits,
  IncomingCalls,
  refuse,
  STATUS,
  WITH_TRAILERS,
} from "./incoming-calls.io.ts";
import { type LinkEvents, type LinkLimits, LinkStream } from "./link-stream.io.ts";
import { type FabricTls, peerIdentityOf, trustDomainOf } from "./peer-identity.io.ts";
import type { WireTraffic } from "./traffic.ts";

export interface ListenerLimits extends LinkLimits, IncomingCallLimits {
  /** Connections others opened. */
  readonly maxConnections: number;
  readonly maxStreamsPerConnection: number;
  /** Links others opened. */
  readonly maxIncomingLinks: number;
  /** From the opening of a link by another node to its first frame. */
  readonly helloTimeoutMs: number;
  /** A connection without streams is closed after this. */
  readonly idleMs: number;
}

/** The accepting side, as `grpc/server/acceptor.io.ts` opens it. */
export interface FabricAcceptor {
  readonly address: string;
  readonly host: string;
  readonly port: number;
  setTls(material: FabricTls): void;
  close(): void;
  allClosed(deadlineMs: number): Promise<void>;
  readonly sockets: ReadonlySet<Socket>;
}

export type OpenFabricAcceptor = (options: {
  readonly host: string;
  readonly port: number;
  readonly portFlag: string;
  readonly tls: FabricTls | undefined;
  readonly protocols: readonly string[];
  readonly maxConnections: number;
  readonly onConnection: (socket: Socket) => void;
  readonly onDrop: () => void;
  readonly onHandshakeFailed: (why: string, address: string) => void;
  readonly onError: (error: Error) => void;
}) => Promise<FabricAcceptor>;

/** Cuts connections that abuse HTTP/2, as `grpc/server/connection-guard.io.ts` does. */
export interface SessionGuard {
  adopt(session: ServerHttp2Session): GuardedConnection;
  stop(): void;
}

export interface GuardedConnection {
  readonly meter: { usefulBytes: number; refusalCount: number };
  opened(): void;
  closed(): void;
}

export interface ListenerOptions {
  readonly host: string;
  /** 0 takes any free port. */
  readonly port: number;
  readonly tls: FabricTls | undefined;
  readonly limits: ListenerLimits;
  readonly traffic: WireTraffic;
  readonly openFabricAcceptor: OpenFabricAcceptor;
  readonly guard: SessionGuard;
}

export interface LinkedEvents extends LinkEvents {
  /** Called once, first. */
  opened(): void;
}

export interface ListenerEvents extends IncomingCallEvents {
  /** Another node opened a link, and its first frame is here: who hears of the link from now on. */
  linked(stream: LinkStream, identity: PeerIdentity): LinkedEvents;
}

interface Peer {
  readonly session: ServerHttp2Session;
  readonly connection: GuardedConnection;
  readonly identity: PeerIdentity;
  streamCount: number;
  idleSinceMonoMs: number;
}

const CALLS = new Map<string, CallRequest["kind"]>([
  ["Probe", "probe"],
  ["ProbeIndirect", "probeIndirect"],
  ["PushPull", "pushPull"],
]);
const PREFIX = "/waymark.fabric.v1.FabricService/";
export class FabricListener {
  readonly #options: ListenerOptions;
  readonly #events: ListenerEvents;
  readonly #server: Http2Server;
  readonly #linkBounds: AssemblyBounds;
  readonly #calls: IncomingCalls;
  readonly #peers = new Map<Http2Session, Peer>();
  /** Links that said nothing yet, and until when they may. */
  readonly #silent = new Map<LinkStream, number>();
  readonly #links = new Set<LinkStream>();
  #trustDomain: string | undefined;
  #acceptor: FabricAcceptor | undefined;
  #isStopping = false;

  constructor(options: ListenerOptions, events: ListenerEvents) {
    const { limits, tls } = options;
    this.#options = options;
    this.#events = events;
    const { maxMessageBytes, maxBufferedBytes } = limits;
    this.#linkBounds = { maxMessageBytes, maxBufferedBytes, bufferedBytes: 0 };
    this.#calls = new IncomingCalls(limits, { events, traffic: options.traffic });
    this.#trustDomain = tls === undefined ? undefined : trustDomainOf(tls.cert);
    this.#server = createServer({
      maxSessionMemory: 16,
      maxHeaderListPairs: 32,
      maxSessionInvalidFrames: 10,
      streamResetBurst: 100,
      streamResetRate: 20,
      unknownProtocolTimeout: 2_000,
      settings: {
        enablePush: false,
        initialWindowSize: WINDOW_BYTES,
        maxConcurrentStreams: limits.maxStreamsPerConnection,
        maxHeaderListSize: 16_384,
      },
    });
    this.#server.on("session", (session) => this.#adopt(session));
    this.#server.on("sessionError", () => {}); // Each session's "close" follows.
    this.#server.on("stream", (stream, headers) => this.#arrived(stream, headers));
  }

  async open(): Promise<void> {
    const { host, port, tls, limits } = this.#options;
    this.#acceptor = await this.#options.openFabricAcceptor({
      host,
      port,
      tls,
      portFlag: "--fabric-port",
      protocols: ["h2"],
      maxConnections: limits.maxConnections,
      onConnection: (socket) => this.#server.emit("connection", socket),
      onDrop: () => this.#events.refused("too many connections", ""),
      onHandshakeFailed: (why, address) => this.#events.refused(`TLS handshake: ${why}`, address),
      onError: (error) => this.#events.refused(error.message, ""),
    });
  }

  /** As bound. Once open. */
  get acceptor(): FabricAcceptor | undefined {
    return this.#acceptor;
  }

  /** Connections and incoming links now. */
  counts(): { readonly connections: number; readonly links: number; readonly calls: number; readonly bufferedBytes: number } {
    return {
      connections: this.#acceptor?.sockets.size ?? 0,
      links: this.#links.size,
      calls: this.#calls.size,
      bufferedBytes: this.#linkBounds.bufferedBytes + this.#calls.bufferedBytes,
    };
  }

  /** New connections use the new certificates. Throws when they are none of a node. */
  setTls(tls: FabricTls): void {
    const trustDomain = trustDomainOf(tls.cert);
    this.#acceptor?.setTls(tls);
    this.#trustDomain = trustDomain;
  }

  /** Answers a call of another; undefined refuses it. A call that is gone or answered is passed over. */
  answer(call: CallId, response: CallResponse | undefined, why?: string): void {
    this.#calls.answer(call, response, why);
  }

  /** Looks at its clocks, by `patientDueMs`; called about four times a second. */
  check(dueMs: number): void {
    for (const [link, untilMonoMs] of this.#silent) if (dueMs > untilMonoMs) link.destroy("said nothing");
    this.#calls.check(dueMs);
    for (const peer of this.#peers.values()) {
      if (peer.streamCount === 0 && dueMs - peer.idleSinceMonoMs > 2 * this.#options.limits.idleMs) peer.session.close();
    }
    for (const link of this.#links) link.check(dueMs);
  }

  /** Takes nothing new, gives what is open `deadlineMs` to end, then cuts it. */
  async stop(deadlineMs: number): Promise<void> {
    this.#isStopping = true;
    this.#acceptor?.close();
    for (const session of this.#peers.keys()) session.close();
    await this.#acceptor?.allClosed(deadlineMs);
    for (const session of this.#peers.keys()) session.destroy();
    for (const socket of this.#acceptor?.sockets ?? []) socket.destroy();
    await this.#acceptor?.allClosed(1_000);
    this.#server.close();
  }

  #adopt(session: ServerHttp2Session): void {
    if (session.destroyed) return;
    const identity = peerIdentityOf(session.socket, this.#trustDomain);
    session.on("error", () => {});
    const connection = this.#options.guard.adopt(session);
    if ("refused" in identity) {
      this.#events.refused(identity.refused, session.socket.remoteAddress ?? "");
      session.destroy();
      return;
    }
    session.setLocalWindowSize(WINDOW_BYTES);
    this.#peers.set(session, { session, connection, identity, streamCount: 0, idleSinceMonoMs: patientNowMs() });
    session.once("close", () => this.#peers.delete(session));
  }

  #arrived(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void {
    stream.on("error", () => {}); // "close" follows.
    const peer = stream.session === undefined ? undefined : this.#peers.get(stream.session);
    if (peer === undefined || stream.destroyed || stream.closed) {
      stream.destroy();
      return;
    }
    const { connection } = peer;
    peer.streamCount += 1;
    connection.opened();
    stream.on("close", () => {
      connection.closed();
      peer.streamCount -= 1;
      peer.idleSinceMonoMs = patientNowMs();
    });
    stream.on("data", (chunk: Buffer) => (connection.meter.usefulBytes += chunk.length));
    stream.on("wantTrailers", () => sendStatus(stream));
    const path = headers[":path"] ?? "";
    const method = path.startsWith(PREFIX) ? path.slice(PREFIX.length) : "";
    const kind = CALLS.get(method);
    const token = headers["waymark-cluster-token"];
    const identity = { ...peer.identity, clusterToken: typeof token === "string" ? token.slice(0, MESSAGE_BOUNDS.maxTokenLength) : "" };
    if (headers[":method"] !== "POST" || !isGrpcType(headers["content-type"]) || (kind === undefined && method !== "Link")) {
      connection.meter.refusalCount += 1;
      refuse(
        stream,
        STATUS.UNIMPLEMENTED,
        "no such method on the fabric listener, which is for nodes: clients use the port of listen.grpc_port",
      );
    } else if (this.#isStopping) refuse(stream, STATUS.UNAVAILABLE, "stopping");
    else if (kind === undefined) this.#acceptLink(stream, identity);
    else this.#calls.accept(stream, kind, identity);
  }

  #acceptLink(stream: ServerHttp2Stream, identity: PeerIdentity): void {
    const { limits, traffic } = this.#options;
    // Whoever is silent longest makes room: a stranger opens links faster than it is cut for saying nothing.
    const [silent] = this.#silent.keys();
    if (this.#links.size >= limits.maxIncomingLinks) silent?.destroy("said nothing, and another came");
    if (this.#links.size >= limits.maxIncomingLinks) {
      this.#events.refused("too many links", identity.address);
      return refuse(stream, STATUS.RESOURCE_EXHAUSTED, "too many links");
    }
    let known: LinkedEvents | undefined;
    const events: LinkEvents = {
      received: (frame) => {
        if (known === undefined) {
          this.#silent.delete(link);
          known = this.#events.linked(link, identity);
          known.opened();
        }
        known.received(frame);
      },
      pull: () => known?.pull(),
      closed: (detail) => {
        this.#links.delete(link);
        this.#silent.delete(link);
        // Whoever opened it and went again, or came while this node stops, was not turned away.
        if (known !== undefined) known.closed(detail);
        else if (!link.isEndedUnused && !this.#isStopping) this.#events.refused(`link: ${detail}`, identity.address);
      },
    };
    stream.respond(HEADERS, WITH_TRAILERS);
    const link: LinkStream = new LinkStream(stream, { events, limits, traffic, bounds: this.#linkBounds });
    this.#links.add(link);
    this.#silent.set(link, patientNowMs() + limits.helloTimeoutMs);
  }
}

function sendStatus(stream: ServerHttp2Stream): void {
  if (!stream.destroyed && !stream.closed) stream.sendTrailers({ "grpc-status": String(STATUS.OK) });
}

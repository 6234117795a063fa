/**
 * Watches the HTTP/2 connections of a listener and cuts those that abuse it; the rules are in connection-limits.ts.
 *
 * Node 24 (nghttp2 1.70) already ends: rapid reset (HTTP2_OPTIONS), streams the client makes us reset, CONTINUATION
 * floods (8 a header block), more than 64 header pairs or 64 KiB of headers, 32 entries in SETTINGS, 1,000 unread acks,
 * 100 streams beyond the concurrent ones, protocol errors. Ours: PING and SETTINGS floods whose acks are read, floods of
 * frames Node does not show, of calls to nowhere, prefaces that never come, headers that trickle, answers never taken,
 * requests that never come, connections that are not used,
 * bounds on connections and on open streams over all connections, and a fair share of each turn for each connection.
 */
import type { Http2Session, ServerHttp2Session } from "node:http2";
import { CONNECTION_LIMITS, type ConnectionLimits, ConnectionMeter, type ExceededLimit } from "../grpc/server/connection-limits.ts";
import { FairScheduler, type Share, type TurnBounds } from "../grpc/server/fair-scheduler.ts";
import { patientDueMs, patientNowMs } from "../lib/patient-time.io.ts";
import type { PeerCertificate } from "../policy/identity/certificates.ts";
import { addressOf, certificateOf } from "./peer.io.ts";

/**
 * For `http2.createServer`: a connection may reset 500 streams at once and 100 a second, as one that ends many watches
 * does; Node's own 1,000 cost the others a pause of 0.2 s.
 */
export const HTTP2_OPTIONS = {
  maxHeaderListPairs: 64,
  streamResetBurst: 500,
  streamResetRate: 100,
  maxSessionInvalidFrames: 100,
  unknownProtocolTimeout: 2_000,
} as const;

/** One watched connection. */
export interface Connection {
  /** Peer address without port. */
  readonly address: string;
  /** The client's, where TLS asked for one and it was shown. */
  readonly certificate: PeerCertificate | undefined;
  readonly meter: ConnectionMeter;
  /** Its share of the event loop. */
  readonly turns: Share;
  /** Calls whose request has not arrived: each is given up when that takes too long. */
  readonly arriving: Set<Arriving>;
  /** A stream of it was opened; `closed` is owed. */
  opened(): void;
  closed(): void;
  /** One of them lasts, such as a watch: as many more may be open. `lastingClosed` is owed. */
  lastingOpened(): void;
  lastingClosed(): void;
}

/** A call whose request has not arrived. */
export interface Arriving {
  /** Since when, by the patient clock; set by the guard at its first look. */
  sinceMs: number | undefined;
  giveUp(): void;
}

export interface GuardOptions {
  readonly limits?: ConnectionLimits | undefined;
  /** Calls begun in one turn of the event loop. */
  readonly turns?: TurnBounds | undefined;
  /** Streams of one connection, where those that last make room for more; absent, the listener's own setting stays. */
  readonly streams?: StreamBounds | undefined;
  /** A connection on which no stream was open for so long is told to go away, whatever else came on it; never unless given. */
  readonly idleMs?: number | undefined;
  /** A request has so long to arrive; for ever unless given. */
  readonly arrivalMs?: number | undefined;
  /** A connection was cut. */
  readonly onCut: (connectionLimits: ExceededLimit, address: string) => void;
}

export interface StreamBounds {
  /** What a connection may open at once: how long a burst of it is a pause for the others. */
  readonly burst: number;
  /** With those that last. */
  readonly most: number;
}

/** Room grows in steps, so that few SETTINGS frames say so. */
const ROOM_STEP = 64;

/** All connections are checked once in this time, a tenth of them at a time. */
const ROUND_MS = 250;
const SLICES = 10;

/**
 * Calls that are begun in one turn of the event loop, of one connection and of all; more wait for the next turns. What a
 * burst may cost another connection's call is this many of its own.
 */
const CALLS_PER_TURN: TurnBounds = { each: 16, all: 32 };

export class ConnectionGuard {
  /** Shares the event loop among the connections. */
  readonly turns: FairScheduler;
  #openStreams = 0;
  readonly #limits: ConnectionLimits;
  readonly #onCut: (connectionLimits: ExceededLimit, address: string) => void;
  readonly #streams: StreamBounds | undefined;
  readonly #idleMs: number;
  readonly #arrivalMs: number;
  readonly #slices: readonly Set<Watched>[];
  readonly #connections = new WeakMap<Http2Session, Connection>();
  readonly #timer: NodeJS.Timeout;
  #turn = 0;

  constructor(options: GuardOptions) {
    this.#limits = options.limits ?? CONNECTION_LIMITS;
    this.#onCut = options.onCut;
    this.#streams = options.streams;
    this.#idleMs = options.idleMs ?? Number.POSITIVE_INFINITY;
    this.#arrivalMs = options.arrivalMs ?? Number.POSITIVE_INFINITY;
    this.turns = new FairScheduler(options.turns ?? CALLS_PER_TURN, setImmediate);
    this.#slices = Array.from({ length: SLICES }, () => new Set<Watched>());
    this.#timer = setInterval(() => this.#checkNext(), ROUND_MS / SLICES).unref();
  }

  /** Streams open over all connections. */
  get openStreams(): number {
    return this.#openStreams;
  }

  /** Watches a new session until it closes. Sessions whose preface was not read yet, so give each at its "session" event. */
  adopt(session: ServerHttp2Session): Connection {
    const { socket } = session;
    const turns = this.turns.join();
    const sample = () => ({
      monoMs: performance.now(),
      patientMs: patientNowMs(),
      patientDueMs: patientDueMs(),
      bytesRead: socket.bytesRead,
      bytesWritten: socket.bytesWritten,
      waitingCalls: turns.waiting.length,
    });
    const meter = new ConnectionMeter(this.#limits, sample());
    const room = this.#streams === undefined ? undefined : new Room(session, this.#streams);
    const connection: Connection = {
      address: addressOf(socket),
      certificate: certificateOf(socket),
      meter,
      turns,
      arriving: new Set(),
      opened: () => {
        this.#openStreams += 1;
        meter.openStreams += 1;
        meter.streamCount += 1;
      },
      closed: () => {
        this.#openStreams -= 1;
        meter.openStreams -= 1;
      },
      lastingOpened: () => room?.add(1),
      lastingClosed: () => room?.add(-1),
    };
    let [seenStreams, unseenStreams, lookedBytes] = [0, 0, 0];
    const look = () => {
      if (socket.bytesRead === lookedBytes) return;
      lookedBytes = socket.bytesRead;
      // Clients number their streams 1, 3, 5: those that nobody here saw were refused by Node, for headers too many or too long.
      const unseen = Math.max(unseenStreams, ((session.state.lastProcStreamID ?? 0) + 1) / 2 - seenStreams);
      meter.refusalCount += unseen - unseenStreams;
      unseenStreams = unseen;
    };
    const watched: Watched = { session, connection, sample, look, usedMs: patientNowMs(), usedStreamCount: 0 };
    // The next to be looked at: who floods from the start is cut soon.
    const slice = this.#slices[(this.#turn + 1) % SLICES] ?? new Set<Watched>();
    slice.add(watched);
    this.#connections.set(session, connection);
    session.on("stream", (_stream, _headers, _flags, fields: readonly string[]) => {
      seenStreams += 1;
      if (meter.headers(fields) && !session.destroyed) this.#cut(watched, meter.check(sample()));
    });
    session.on("ping", () => this.#cut(watched, meter.ping()));
    session.on("remoteSettings", () => this.#cut(watched, meter.settings()));
    session.once("close", () => slice.delete(watched));
    return connection;
  }

  /** The watched connection of a session; undefined when it was never adopted. */
  connectionOf(session: Http2Session): Connection | undefined {
    return this.#connections.get(session);
  }

  /** Tells every connection to go away (GOAWAY); each closes when its open streams are over. */
  closeAll(): void {
    for (const slice of this.#slices) for (const { session } of slice) session.close();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #checkNext(): void {
    this.#turn += 1;
    for (const watched of this.#slices[this.#turn % SLICES] ?? []) {
      if (watched.session.destroyed) continue;
      watched.look();
      this.#cut(watched, watched.connection.meter.check(watched.sample()));
      this.#checkUse(watched);
    }
  }

  /** Gives up requests that do not arrive, and connections that nobody uses. */
  #checkUse(watched: Watched): void {
    const { session, connection } = watched;
    const [nowMs, dueMs] = [patientNowMs(), patientDueMs()];
    for (const call of connection.arriving) {
      call.sinceMs ??= nowMs;
      if (dueMs - call.sinceMs > this.#arrivalMs) call.giveUp();
    }
    const { openStreams, streamCount } = connection.meter;
    if (openStreams > 0 || streamCount !== watched.usedStreamCount) {
      watched.usedStreamCount = streamCount;
      watched.usedMs = nowMs;
    } else if (dueMs - watched.usedMs > this.#idleMs) session.close();
  }

  #cut(watched: Watched, connectionLimits: ExceededLimit | undefined): void {
    if (connectionLimits === undefined || watched.session.destroyed) return;
    // No GOAWAY: it would wait behind what the peer does not read. The socket goes, and all its streams with it.
    watched.session.destroy();
    this.#onCut(connectionLimits, watched.connection.address);
  }
}

interface Watched {
  readonly session: ServerHttp2Session;
  readonly connection: Connection;
  /** Counts streams that were refused before anybody here saw them. */
  readonly look: () => void;
  readonly sample: () => { readonly monoMs: number; readonly bytesRead: number; readonly bytesWritten: number };
  /** When it last had a stream, and how many it had had by then. */
  usedMs: number;
  usedStreamCount: number;
}

/** How many streams the peer may have open: a burst more than those that last. */
class Room {
  readonly #session: ServerHttp2Session;
  readonly #bounds: StreamBounds;
  #lasting = 0;
  #told: number;

  constructor(session: ServerHttp2Session, bounds: StreamBounds) {
    this.#session = session;
    this.#bounds = bounds;
    this.#told = Math.min(bounds.burst, bounds.most);
  }

  add(change: 1 | -1): void {
    this.#lasting += change;
    const room = Math.min(this.#bounds.most, this.#bounds.burst + Math.floor(this.#lasting / ROOM_STEP) * ROOM_STEP);
    // Taken back a step late, so that a watch that comes and goes says nothing.
    if (room === this.#told || (room < this.#told && room + ROOM_STEP >= this.#told)) return;
    // A peer that does not acknowledge keeps what it has.
    if (this.#session.destroyed || this.#session.closed || this.#session.pendingSettingsAck) return;
    this.#told = room;
    this.#session.settings({ maxConcurrentStreams: room });
  }
}

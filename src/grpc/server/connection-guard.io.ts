/**
 * Watches the HTTP/2 connections of a listener, and closes connections that exceed their limits (connection-limits.ts) or their lifetime
 * (connection-lifetime.ts).
 *
 * Node 24 (nghttp2 1.70) already closes connections for CONTINUATION floods (8 per header block), more header pairs than allowed, more than
 * 64 KiB of headers, more than 32 entries in SETTINGS, 1,000 unread acknowledgements, and protocol errors.
 *
 * This guard adds limits for rapid reset, streams that the client makes the server reset, streams over the limit of concurrent streams, PING and
 * SETTINGS floods whose acknowledgements are read, floods of frames that Node.js does not report, floods of calls to unknown methods, prefaces that
 * never arrive, slowly arriving headers, unread answers, requests that never arrive, unused connections, and the total number of open streams. The
 * guard also gives each connection a fair share of each event loop turn.
 */
import type { Http2Server, Http2Session, IncomingHttpHeaders, ServerHttp2Session, ServerHttp2Stream } from "node:http2";
import type { Socket } from "node:net";
import { withoutMapping } from "../../lib/addresses.ts";
import { assert } from "../../lib/errors.ts";
import type { ProcessPause } from "../../lib/stall-aware-clock.ts";
import { lastPause, stallAwareDueMs, stallAwareNowMs } from "../../lib/stall-aware-time.io.ts";
import { endInNextTurn } from "../wire/http2-stream.io.ts";
import { firstOf, parseTimeout } from "../wire/request-head.ts";
import { HTTP2_ERROR } from "../wire/status.ts";
import { ConnectionLifetime, ENDLESS, type LifetimeLimits, type LifetimeOrder } from "./connection-lifetime.ts";
import {
  CONNECTION_LIMITS,
  type ConnectionLimits,
  ConnectionMeter,
  type ConnectionSample,
  type ExceededLimit,
  FairScheduler,
  type SchedulerShare,
  type TurnBounds,
} from "./connection-limits.ts";
import { ResetLimiter } from "./reset-limiter.ts";
import { UnreadAnswers, type UnreadLimits } from "./unread-answers.ts";

/** A connection that is watched by the guard. */
export interface GuardedConnection {
  /** Peer address without port. */
  readonly address: string;
  readonly meter: ConnectionMeter;
  /** The connection's share of the event loop. */
  readonly turns: SchedulerShare;
  /** Its share for calls with low priority. */
  readonly lowPriorityTurns: SchedulerShare;
  /**
   * Calls whose request has not fully arrived. A call is cancelled if its request does not arrive in time. The set is shared with the connections
   * that are checked at the same time, because a set for each connection would use more memory.
   */
  readonly arriving: Set<PendingRequest>;
  /** Reports that one of the connection's streams is long-lived, such as a watch. Call `lastingClosed` when the stream ends. */
  lastingOpened(): void;
  lastingClosed(): void;
  /** Whether either side has closed or is closing the connection. Data that still arrives is ignored. */
  readonly isOver: boolean;
  /** Why the guard closed the connection. Undefined if the guard did not close it. */
  whyCut: CutReason | undefined;
  /**
   * Closes the connection with all its streams at the end of this event loop turn. If the peer is reading, GOAWAY with NO_ERROR is sent first, and
   * the streams do not get an RST_STREAM. Clients therefore report UNAVAILABLE for open calls.
   */
  destroy(): void;
}

/** A call whose request has not fully arrived. */
export interface PendingRequest {
  /** The time at which the wait began, in stall-aware ms. The guard sets this time at its first check. */
  sinceMs: number | undefined;
  giveUp(): void;
  /**
   * Ends the call if its deadline has passed. A gRPC call does not have its own timer until its request has arrived, so most calls do not need a
   * timer.
   */
  checkArrival?(): void;
}

export interface ConnectionGuardOptions {
  readonly limits?: ConnectionLimits | undefined;
  /** Limits how many calls may start in one turn of the event loop. */
  readonly turns?: TurnBounds | undefined;
  /** Lifetime of a connection. If absent, connections stay open until their clients close them. */
  readonly lifetime?: LifetimeLimits | undefined;
  /** Maximum time for a request to arrive, in ms. If absent, there is no limit. */
  readonly arrivalMs?: number | undefined;
  /** Limits on unread answers over all connections. Absent if each answer is counted separately. */
  readonly unread?: UnreadLimits | undefined;
  /** Called when a connection was closed because of a limit. */
  readonly onCut: (reason: CutReason, address: string) => void;
}

/**
 * Why a connection was closed. `lifetime`: it did not answer pings, or did not close within its grace period. `unread_answer`: its client
 * did not read an answer in time, or the budget of unread answers was exceeded (unread-answers.ts).
 */
export type CutReason = ExceededLimit | "lifetime" | "unread_answer";

/**
 * During this time after a pause, the length of the pause is added when a connection's rates are checked. Each rate is checked at least once during
 * this time.
 */
const BACKLOG_MS = 500;
/**
 * During this time after a pause, resets are attributed to late calls, even on a busy machine. A pause explains only a limited number of resets, so a
 * longer time would not explain more.
 */
const LATE_CALLS_MS = 5_000;

/** All connections are checked once per interval, a tenth of them at a time. */
const ROUND_MS = 250;
const SLICES = 10;

/**
 * Calls that may start in one turn of the event loop, per connection and in total. Further calls wait for later turns. A burst therefore delays a
 * call on another connection by at most this many calls.
 */
const CALLS_PER_TURN: TurnBounds = { each: 16, all: 32 };
/**
 * The same for calls with low priority, for example registrations. Such a call may wait so that the turn stays short for all others. When many other
 * calls arrive, a turn has as many calls with low priority as it has others, so that they are never starved.
 */
const LOW_PRIORITY_CALLS_PER_TURN: TurnBounds = { each: 4, all: 16 };

export class ConnectionGuard {
  /** Divides the time of the event loop among the connections. */
  readonly turns: FairScheduler;
  /** Divides the time for calls with low priority. */
  readonly lowPriorityTurns: FairScheduler;
  #openStreams = 0;
  readonly #limits: ConnectionLimits;
  readonly #options: ConnectionGuardOptions;
  readonly #lifetime: LifetimeLimits;
  readonly #arrivalMs: number;
  readonly #unread: UnreadAnswers | undefined;
  readonly #slices: readonly GuardSlice[];
  readonly #connections = new WeakMap<Http2Session, GuardedConnection>();
  readonly #timer: NodeJS.Timeout;
  #turn = 0;
  /** The socket of the session that is being created. */
  #accepting: Socket | undefined;

  constructor(options: ConnectionGuardOptions) {
    this.#options = options;
    this.#limits = options.limits ?? CONNECTION_LIMITS;
    this.#lifetime = options.lifetime ?? ENDLESS;
    this.#arrivalMs = options.arrivalMs ?? Number.POSITIVE_INFINITY;
    this.#unread = options.unread === undefined ? undefined : new UnreadAnswers(options.unread, { nowMs: stallAwareNowMs });
    this.turns = new FairScheduler(options.turns ?? CALLS_PER_TURN, setImmediate);
    this.lowPriorityTurns = new FairScheduler({ ...LOW_PRIORITY_CALLS_PER_TURN, behind: this.turns }, setImmediate);
    this.#slices = Array.from({ length: SLICES }, newSlice);
    this.#timer = setInterval(() => this.#checkNext(), ROUND_MS / SLICES).unref();
  }

  /** Number of open streams over all connections. */
  get openStreams(): number {
    return this.#openStreams;
  }

  /** Bytes of answers that clients have not read, over all connections. */
  get unreadBytes(): number {
    return this.#unread?.bytes ?? 0;
  }

  /** Number of open connections. */
  get size(): number {
    return this.#slices.reduce((sum, { connections }) => sum + connections.size, 0);
  }

  /** Passes an accepted connection to a server. */
  accept(server: Http2Server, socket: Socket): void {
    this.#accepting = socket;
    server.emit("connection", socket);
    this.#accepting = undefined;
  }

  /** Watches a new session until it closes. Call this method in the "session" event, before the session's preface is read. */
  adopt(session: ServerHttp2Session): GuardedConnection {
    const socket = this.#accepting;
    assert(socket !== undefined, "a session was created while no socket was being accepted");
    // Uses the slice that is checked next, so that a flood that begins immediately is stopped quickly.
    const slice = this.#slices[(this.#turn + 1) % SLICES] ?? newSlice();
    const address = withoutMapping(socket.remoteAddress ?? "");
    const unread = this.#unread?.open(address, () => this.#cut(watched, "unread_answer"));
    const [turns, lowPriorityTurns, time] = [this.turns.join(), this.lowPriorityTurns.join(), timeOfCheck()];
    const [limits, { arriving }] = [this.#limits, slice];
    const meter = new ConnectionMeter(limits, sampleOf({ socket, turns, lowPriorityTurns }, time), unread);
    const life = new ConnectionLifetime(this.#lifetime, { nowMs: time.patientMs, chance: Math.random() });
    const watched = new WatchedConnection({ session, socket, address, meter, turns, lowPriorityTurns, life, arriving, limits });
    slice.connections.add(watched);
    this.#connections.set(session, watched);
    // This listener is prepended so that it runs before the listener that serves the stream.
    session.prependListener("stream", (stream, headers, _flags, fields: readonly string[]) => {
      this.#opened(watched, stream, headers);
      if (meter.headers(fields) && !watched.isOver) this.#cut(watched, meter.check(sampleOf(watched, timeOfCheck())));
    });
    session.on("ping", () => this.#cut(watched, meter.ping()));
    session.on("remoteSettings", () => this.#cut(watched, meter.settings()));
    session.on("close", () => {
      slice.connections.delete(watched);
      unread?.end();
    });
    return watched;
  }

  // HOT: once per call.
  #opened(watched: WatchedConnection, stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void {
    const { meter } = watched;
    this.#openStreams += 1;
    watched.seenCount += 1;
    meter.openStreams += 1;
    meter.streamCount += 1;
    stream.on("close", () => {
      this.#openStreams -= 1;
      meter.openStreams -= 1;
      if (isUnanswered(stream)) this.#reset(watched, headers);
    });
  }

  #reset(watched: WatchedConnection, headers: IncomingHttpHeaders): void {
    if (watched.isOver) return;
    const isTooMany = watched.resets.reset({ monoMs: performance.now(), timeoutMs: timeoutOf(headers), pause: pauseWithin(LATE_CALLS_MS) });
    this.#cut(watched, isTooMany ? "reset_flood" : undefined);
  }

  /** Returns the watched connection of a session. Returns undefined if the session was never adopted. */
  connectionOf(session: Http2Session): GuardedConnection | undefined {
    return this.#connections.get(session);
  }

  /** Sends GOAWAY on every connection. Each connection closes when its open streams have ended, and is destroyed after `graceMs`. */
  leaveAll(graceMs: number): void {
    for (const { connections } of this.#slices)
      for (const watched of connections) this.#carryOut(watched, watched.life.leave(stallAwareNowMs(), graceMs));
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #checkNext(): void {
    this.#turn += 1;
    const time = timeOfCheck();
    const { patientMs: nowMs, patientDueMs: dueMs } = time;
    this.#unread?.check(dueMs);
    const { connections, arriving } = this.#slices[this.#turn % SLICES] ?? newSlice();
    for (const watched of connections) this.#check(watched, time);
    for (const call of arriving) {
      call.sinceMs ??= nowMs;
      if (dueMs - call.sinceMs > this.#arrivalMs) call.giveUp();
      else call.checkArrival?.();
    }
  }

  // HOT: four times per second for each connection. Most connections are idle. For an idle connection, only the bytes that it has received are read.
  #check(watched: WatchedConnection, time: CheckTime): void {
    const { meter, life } = watched;
    const { bytesRead } = watched.socket;
    if (!meter.isIdle(time.monoMs, bytesRead)) {
      if (watched.isOver) return;
      watched.look(bytesRead);
      this.#cut(watched, meter.check(sampleOf(watched, time)));
    }
    const { openStreams, streamCount } = meter;
    this.#carryOut(watched, life.check({ nowMs: time.patientMs, dueMs: time.patientDueMs, bytesRead, openStreams, streamCount }));
  }

  #carryOut(watched: WatchedConnection, order: LifetimeOrder | undefined): void {
    const { session } = watched;
    if (order === undefined || watched.isOver) return;
    switch (order) {
      case "ping":
        session.ping(() => {}); // Any received byte, including the ping's answer, proves that the client is alive.
        return;
      case "close":
        // A client that has not made any calls is not waiting for an answer and may never close its end. `destroy` also sends GOAWAY.
        if (session.state.lastProcStreamID === 0) session.destroy();
        else session.close();
        return;
      case "cut":
        this.#cut(watched, "lifetime");
        return;
    }
  }

  #cut(watched: WatchedConnection, reason: CutReason | undefined): void {
    if (reason === undefined || watched.isOver) return;
    watched.whyCut = reason;
    watched.destroy();
    this.#options.onCut(reason, watched.address);
  }
}

/** The connections that are checked at the same time, and their calls whose request has not fully arrived. */
interface GuardSlice {
  readonly connections: Set<WatchedConnection>;
  readonly arriving: Set<PendingRequest>;
}

function newSlice(): GuardSlice {
  return { connections: new Set(), arriving: new Set() };
}

type WatchedParts = Pick<
  WatchedConnection,
  "session" | "socket" | "address" | "meter" | "turns" | "lowPriorityTurns" | "life" | "arriving" | "limits"
>;

// There is one of these objects for each connection, so it has methods in place of closures, and makes rarely used parts when they are needed.
class WatchedConnection implements GuardedConnection {
  readonly session: ServerHttp2Session;
  readonly socket: Socket;
  readonly address: string;
  readonly meter: ConnectionMeter;
  readonly turns: SchedulerShare;
  readonly lowPriorityTurns: SchedulerShare;
  readonly life: ConnectionLifetime;
  readonly arriving: Set<PendingRequest>;
  readonly limits: ConnectionLimits;
  whyCut: CutReason | undefined;
  /** Number of streams for which Node.js emitted "stream". */
  seenCount = 0;
  readonly #isEnding: () => boolean;
  #isCut = false;
  #unseenCount = 0;
  #lookedBytes = 0;
  #resets: ResetLimiter | undefined;

  constructor({ session, socket, address, meter, turns, lowPriorityTurns, life, arriving, limits }: WatchedParts) {
    this.session = session;
    this.socket = socket;
    this.address = address;
    this.meter = meter;
    this.turns = turns;
    this.lowPriorityTurns = lowPriorityTurns;
    this.life = life;
    this.arriving = arriving;
    this.limits = limits;
    this.#isEnding = endInNextTurn(session);
  }

  get isOver(): boolean {
    return this.#isCut || this.#isEnding();
  }

  get resets(): ResetLimiter {
    return (this.#resets ??= new ResetLimiter(this.limits));
  }

  lastingOpened(): void {
    this.resets.lastingStreams += 1;
  }

  lastingClosed(): void {
    this.resets.lastingStreams -= 1;
  }

  destroy(): void {
    if (this.isOver) return;
    this.#isCut = true;
    // nghttp2 ignores streams after GOAWAY. Without GOAWAY, all streams that are read before the end of this turn would be opened.
    this.session.goaway(HTTP2_ERROR.NO_ERROR);
    setImmediate(() => this.socket.destroy());
  }

  /**
   * Counts streams that Node.js rejected before emitting "stream" for them, because they had too many or too long headers. Clients number their
   * streams 1, 3, 5, …, so each gap is such a stream.
   */
  look(bytesRead: number): void {
    if (bytesRead === this.#lookedBytes) return;
    this.#lookedBytes = bytesRead;
    const unseen = Math.max(this.#unseenCount, ((this.session.state.lastProcStreamID ?? 0) + 1) / 2 - this.seenCount);
    this.meter.refusalCount += unseen - this.#unseenCount;
    this.meter.streamCount += unseen - this.#unseenCount;
    this.#unseenCount = unseen;
  }
}

/** Returns the last pause of this process, if it ended less than `agoMs` ago. */
function pauseWithin(agoMs: number): ProcessPause | undefined {
  const pause = lastPause();
  return performance.now() - pause.endMonoMs < agoMs ? pause : undefined;
}

/** The clocks of a check, read once for all connections that are checked at the same time. */
type CheckTime = Required<Pick<ConnectionSample, "monoMs" | "patientMs" | "patientDueMs" | "pauseMs">>;

function timeOfCheck(): CheckTime {
  const pauseMs = pauseWithin(BACKLOG_MS)?.lengthMs ?? 0;
  return { monoMs: performance.now(), patientMs: stallAwareNowMs(), patientDueMs: stallAwareDueMs(), pauseMs };
}

function sampleOf(
  { socket: { bytesRead, bytesWritten }, turns, lowPriorityTurns }: Pick<WatchedConnection, "socket" | "turns" | "lowPriorityTurns">,
  time: CheckTime,
): ConnectionSample {
  return { ...time, bytesRead, bytesWritten, waitingCalls: turns.waiting.length + lowPriorityTurns.waiting.length };
}

/** Whether either side reset a closed stream before its answer was sent. Node.js reports a stream that the client reset as ended. */
function isUnanswered(stream: ServerHttp2Stream): boolean {
  return stream.aborted || !stream.writableFinished;
}

/** Returns the timeout in the gRPC or Connect header of a request. */
function timeoutOf(headers: IncomingHttpHeaders): number | undefined {
  const grpc = parseTimeout(firstOf(headers["grpc-timeout"]));
  if (typeof grpc === "number") return grpc;
  const connect = Number(firstOf(headers["connect-timeout-ms"]));
  return Number.isNaN(connect) ? undefined : connect;
}

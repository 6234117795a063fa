/**
 * Defines the limits of one HTTP/2 connection: maximum rates, and the name of each violation. The guard counts and samples events, and closes
 * connections. Attacks that nghttp2 and Node.js already stop (CONTINUATION floods, invalid frames) are not handled here.
 */
import type { ResetLimits } from "./reset-limiter.ts";
import type { UnreadAnswer } from "./unread-answers.ts";

/** Limits of one connection. */
export interface ConnectionLimits extends ResetLimits {
  /** PING frames in excess of one per 64 bytes written by the server: a client that measures bandwidth sends pings while it receives data. */
  readonly pingsPerSecond: number;
  /** SETTINGS frames. An honest client sends one, or a few during the lifetime of the connection. */
  readonly settingsPerSecond: number;
  /** Bytes that did not open a stream or carry a message: WINDOW_UPDATE, PRIORITY, empty DATA, unknown frames, padding. */
  readonly uselessBytesPerSecond: number;
  /**
   * Requests that are rejected while they are still being sent. For each such request, up to one flow-control window of data may still arrive, and is
   * not counted as useless.
   */
  readonly brokenUploadsPerSecond: number;
  /** Bytes that have arrived on served streams but have not been read, because they may turn out to be messages. */
  readonly unreadBytes: number;
  /**
   * Header bytes in excess of 4 KiB per call and of the bytes on the wire. With HPACK, a single byte can repeatedly refer to a long field.
   */
  readonly headerGainPerSecond: number;
  /** Calls that are rejected before a method runs: unknown methods, other content types, calls over the stream limit. */
  readonly refusalsPerSecond: number;
  /** Time from accepting (after TLS) to the first byte. A client on a busy machine may pause between connecting and writing. */
  readonly silentTimeoutMs: number;
  /** Time from the first byte to the end of the client's preface and SETTINGS. */
  readonly prefaceTimeoutMs: number;
  /**
   * Maximum time for which bytes may trickle in without completing a frame (such as half a HEADERS frame) on a connection without open streams.
   */
  readonly trickleMs: number;
  /** A connection is closed if it has more unread answer bytes than this and the client has not read any of them for `stuckMs`. */
  readonly stuckBytes: number;
  readonly stuckMs: number;
  /** New calls on a connection wait while more than this many bytes of its answers are unread. */
  readonly untakenBytes: number;
}

export const CONNECTION_LIMITS: ConnectionLimits = {
  pingsPerSecond: 200,
  settingsPerSecond: 20,
  uselessBytesPerSecond: 256 * 1_024,
  brokenUploadsPerSecond: 64,
  unreadBytes: 0,
  headerGainPerSecond: 512 * 1_024,
  refusalsPerSecond: 500,
  resetBurst: 500,
  resetsPerSecond: 100,
  silentTimeoutMs: 10_000,
  prefaceTimeoutMs: 2_000,
  trickleMs: 1_500,
  stuckBytes: 1_024 * 1_024,
  stuckMs: 1_500,
  untakenBytes: 4 * 1_024 * 1_024,
};

/** Why a connection was closed. It is a metric label, so the set is small and fixed. */
export type ExceededLimit =
  | "ping_flood"
  | "settings_flood"
  | "useless_bytes"
  | "header_bomb"
  | "refused_calls"
  | "reset_flood"
  | "slow_preface"
  | "slow_headers"
  | "stuck_reader";

/** Above this multiple of a per-second limit, the connection is closed immediately instead of at the next check. */
const IMMEDIATE_FACTOR = 10;

/** Upper estimate of the number of bytes on the wire for a stream's HEADERS and RST_STREAM. The estimate is generous, because tokens can be long. */
const HEADER_BYTES = 8_192;

/** Number of bytes that may arrive on a stream whose call is waiting to start or was rejected: HTTP/2's initial flow-control window. */
const WINDOW_BYTES = 65_535;

/** Header bytes allowed per call. Most of these headers have been sent before, so the call only refers to them. */
const FREE_HEADER_BYTES = 4_096;
/** Size of a header field in addition to its text (RFC 7541, section 4.1). */
const FIELD_BYTES = 32;

/**
 * A client acknowledges the data that it reads with WINDOW_UPDATE frames. The number of useless bytes allowed for this is the number of written bytes
 * divided by this number.
 */
const WRITTEN_SHARE = 2;

/**
 * A quiet connection may send occasional frames without effect, such as the last WINDOW_UPDATE of a stream. These frames are forgotten after this
 * time.
 */
const FORGET_TRICKLE_MS = 5_000;

/** Silence that begins now is measured from `nowMs`, and earlier silence until `dueMs`. The two differ right after a pause of this process. */
interface StallAwareNow {
  readonly nowMs: number;
  readonly dueMs: number;
}

/** A measurement of the connection's socket. */
export interface ConnectionSample {
  readonly monoMs: number;
  /** The current time and the time up to which deadlines are due, on the stall-aware clock, for measuring silence. If absent: `monoMs`. */
  readonly patientMs?: number;
  readonly patientDueMs?: number;
  readonly bytesRead: number;
  readonly bytesWritten: number;
  /** Length of a pause of this process that has just ended: data that arrived during the pause is being read now. Absent if there was no pause. */
  readonly pauseMs?: number;
  /** Number of calls that are waiting for their turn. Calls that are waiting until answers are read are counted in the meter. If absent: 0. */
  readonly waitingCalls?: number;
}

/**
 * Counters for one connection. The guard and the listener increment the fields; `check` compares them with the limits several times per second.
 */
export class ConnectionMeter {
  /** Streams open now. */
  openStreams = 0;
  /** Bytes of requests that have carried messages since the connection began. */
  usefulBytes = 0;
  /** Number of streams opened since the connection began. */
  streamCount = 0;
  /** Streams that were rejected before a method ran. */
  refusalCount = 0;
  /** Streams that were closed before the client had sent its complete request. The data that was sent until then is discarded without being read. */
  brokenUploads = 0;
  readonly #limits: ConnectionLimits;
  readonly #openedMs: number;
  /** When the first byte was seen, in stall-aware ms. */
  #begunMs: number | undefined;
  #pingCount = 0;
  #settingsCount = 0;
  #isGreeted = false;
  #pendingBytes = 0;
  /** This connection's share of the listener's budget. Undefined if each answer has its own share. */
  readonly #unread: UnreadAnswer | undefined;
  #headerGainBytes = 0;
  /** Useless bytes in excess of the allowed rate. The number is reduced again when unread bytes turn out to be useful. */
  #uselessBytes = 0;
  /** Number of bytes that may still arrive for broken uploads. */
  #lateBytes = 0;
  /** Number of calls that are waiting until answers are read. Their number is limited by the limit on open calls. */
  readonly #parked: (() => void)[] = [];
  #last: Pick<ConnectionSample, "bytesRead" | "bytesWritten"> &
    Pick<ConnectionMeter, "usefulBytes" | "streamCount" | "refusalCount" | "brokenUploads">;
  #lastMonoMs: number;
  #isResting = false;
  #trickleSinceMs: number | undefined;
  #stuckSinceMs: number | undefined;

  constructor(limits: ConnectionLimits, opened: ConnectionSample, unread?: UnreadAnswer) {
    this.#limits = limits;
    this.#unread = unread;
    this.#openedMs = opened.patientMs ?? opened.monoMs;
    const { monoMs, bytesRead, bytesWritten } = opened;
    this.#lastMonoMs = monoMs;
    this.#last = { bytesRead, bytesWritten, usefulBytes: 0, streamCount: 0, refusalCount: 0, brokenUploads: 0 };
  }

  /** Response bytes that have been passed to HTTP/2 but are not known to have been read. */
  get pendingBytes(): number {
    return this.#pendingBytes;
  }

  set pendingBytes(bytes: number) {
    const addedBytes = bytes - this.#pendingBytes;
    this.#pendingBytes = bytes;
    if (addedBytes > 0) this.#unread?.grow(addedBytes);
    else if (addedBytes < 0) this.#unread?.progress(-addedBytes);
    while (this.#parked.length > 0 && this.#pendingBytes <= this.#limits.untakenBytes) this.#parked.shift()?.();
  }

  /** Whether a new call may run now. If not, pass the call to `park`. */
  get isTaking(): boolean {
    return this.#pendingBytes <= this.#limits.untakenBytes;
  }

  /** Runs `act` when the client has read enough of its answers. */
  park(act: () => void): void {
    this.#parked.push(act);
  }

  /** Counts the headers of a call, given as alternating names and values. Returns whether `check` is due. */
  // HOT: once per call.
  headers(fields: readonly string[]): boolean {
    let bytes = (fields.length / 2) * FIELD_BYTES;
    for (const text of fields) bytes += text.length;
    if (bytes <= FREE_HEADER_BYTES) return false;
    this.#headerGainBytes += bytes - FREE_HEADER_BYTES;
    return this.#headerGainBytes > this.#limits.headerGainPerSecond;
  }

  /** Counts a PING. Returns the reason if the connection must be closed immediately. */
  ping(): ExceededLimit | undefined {
    this.#pingCount += 1;
    return this.#pingCount > this.#limits.pingsPerSecond * IMMEDIATE_FACTOR && this.openStreams === 0 ? "ping_flood" : undefined;
  }

  /** Counts a SETTINGS frame. The first SETTINGS frame arrives with the preface. */
  settings(): ExceededLimit | undefined {
    this.#isGreeted = true;
    this.#settingsCount += 1;
    return this.#settingsCount > this.#limits.settingsPerSecond * IMMEDIATE_FACTOR ? "settings_flood" : undefined;
  }

  /**
   * Returns whether the connection is idle: it has no open stream, nothing happened before the last check, and no byte has arrived since. `check` would
   * then find nothing, so the caller may skip it. The next check compares its counts with the time since this call.
   */
  // HOT: several times per second for each idle connection.
  isIdle(monoMs: number, bytesRead: number): boolean {
    if (!this.#isResting || bytesRead !== this.#last.bytesRead) return false;
    this.#lastMonoMs = monoMs;
    return true;
  }

  /** Compares the counts since the last check with the limits. Called several times per second. Additional calls have no side effects. */
  check(now: ConnectionSample): ExceededLimit | undefined {
    const last = this.#last;
    const since = { nowMs: now.patientMs ?? now.monoMs, dueMs: now.patientDueMs ?? now.patientMs ?? now.monoMs };
    const seconds = Math.max(1, (now.monoMs - this.#lastMonoMs) / 1_000) + (now.pauseMs ?? 0) / 1_000;
    const written = now.bytesWritten - last.bytesWritten;
    const read = now.bytesRead - last.bytesRead;
    const frames = this.#pingCount + this.#settingsCount;
    const opened = this.streamCount - last.streamCount;
    const refusals = this.refusalCount - last.refusalCount;
    const useful = this.usefulBytes - last.usefulBytes + opened * HEADER_BYTES + written / WRITTEN_SHARE;
    const pings = this.#pingCount;
    const settings = this.#settingsCount;
    const headerGain = this.#headerGainBytes;
    const isEventful = frames > 0 || opened > 0 || this.openStreams > 0;
    const broken = this.brokenUploads - last.brokenUploads;
    const { usefulBytes, streamCount, refusalCount, brokenUploads } = this;
    this.#last = { bytesRead: now.bytesRead, bytesWritten: now.bytesWritten, usefulBytes, streamCount, refusalCount, brokenUploads };
    this.#lastMonoMs = now.monoMs;
    this.#pingCount = 0;
    this.#settingsCount = 0;
    this.#headerGainBytes = 0;
    this.#isResting = false;

    if (!this.#isGreeted) return this.#isGreetingLate(since, read) ? "slow_preface" : undefined;
    if (pings > this.#limits.pingsPerSecond * seconds + written / 64) return "ping_flood";
    if (settings > this.#limits.settingsPerSecond * seconds) return "settings_flood";
    const useless = this.#withoutLate(read - useful, broken, seconds);
    this.#uselessBytes = Math.max(0, this.#uselessBytes + useless - this.#limits.uselessBytesPerSecond * seconds);
    const waiting = this.#parked.length + (now.waitingCalls ?? 0);
    if (this.#uselessBytes > this.#limits.unreadBytes + waiting * WINDOW_BYTES) return "useless_bytes";
    if (headerGain > this.#limits.headerGainPerSecond * seconds + read) return "header_bomb";
    if (refusals > this.#limits.refusalsPerSecond * seconds) return "refused_calls";
    if (this.#isTrickling(since, read > 0 && !isEventful, isEventful)) return "slow_headers";
    if (this.#isStuck(since, written)) return "stuck_reader";
    const activity = read + written + broken + this.#pendingBytes + this.#uselessBytes;
    this.#isResting = activity === 0 && !isEventful && this.#trickleSinceMs === undefined;
    return undefined;
  }

  #isGreetingLate({ nowMs, dueMs }: StallAwareNow, read: number): boolean {
    if (read > 0) this.#begunMs ??= nowMs;
    const { silentTimeoutMs, prefaceTimeoutMs } = this.#limits;
    return this.#begunMs === undefined ? dueMs - this.#openedMs > silentTimeoutMs : dueMs - this.#begunMs > prefaceTimeoutMs;
  }

  /** Subtracts the bytes of broken uploads. Bytes that have not arrived yet may arrive until the next check. */
  #withoutLate(bytes: number, broken: number, seconds: number): number {
    const fresh = Math.min(broken, this.#limits.brokenUploadsPerSecond * seconds) * WINDOW_BYTES;
    const late = Math.min(Math.max(0, bytes), this.#lateBytes + fresh);
    this.#lateBytes = Math.min(fresh, this.#lateBytes + fresh - late);
    return bytes - late;
  }

  #isTrickling({ nowMs, dueMs }: StallAwareNow, isUseless: boolean, isEventful: boolean): boolean {
    if (isEventful) this.#trickleSinceMs = undefined;
    else if (isUseless) {
      this.#trickleSinceMs ??= nowMs;
      return dueMs - this.#trickleSinceMs >= this.#limits.trickleMs;
    } else if (this.#trickleSinceMs !== undefined && dueMs - this.#trickleSinceMs > FORGET_TRICKLE_MS) {
      this.#trickleSinceMs = undefined;
    }
    return false;
  }

  #isStuck({ nowMs, dueMs }: StallAwareNow, written: number): boolean {
    // Keepalive pings and similar frames are also written to a stuck reader. These frames do not prove that the client is reading answers.
    const isReading = written > 1_024;
    if (isReading) this.#unread?.progress(0);
    if (isReading || this.pendingBytes <= this.#limits.stuckBytes) {
      this.#stuckSinceMs = undefined;
      return false;
    }
    this.#stuckSinceMs ??= nowMs;
    return dueMs - this.#stuckSinceMs >= this.#limits.stuckMs;
  }
}

// Gives every connection a share of each turn of the event loop. If a connection sends a burst of thousands of calls (libuv reads up to 2 MiB from a
// socket at a time), its calls wait for one another. Several such connections take turns, so together they do not delay other connections any longer
// than one of them would. Time is measured in turns.

/** One connection's share. `FairScheduler.join` creates it. */
export interface SchedulerShare {
  /** Number of callbacks that have run in this turn. */
  count: number;
  readonly waiting: (() => void)[];
}

export interface TurnBounds {
  /** Maximum number of callbacks per turn for one share. */
  readonly each: number;
  /** Maximum number of callbacks per turn for all shares together. */
  readonly all: number;
  /**
   * The scheduler of other callbacks, which should not wait for these. Then the first callback of each share waits too when the turn has no room. A
   * turn has room for as many callbacks as the other scheduler had in its last turn, and at least for `all`. Without it, the first callback of each
   * share never waits.
   */
  readonly behind?: FairScheduler;
}

export class FairScheduler {
  readonly #bounds: TurnBounds;
  readonly #schedule: (endOfTurn: () => void) => void;
  #count = 0;
  /** Number of callbacks in the last turn that had any. */
  #lastCount = 0;
  /** Shares with callbacks that have run in this turn or are waiting. The share that has waited longest is first. */
  #active: SchedulerShare[] = [];
  #isScheduled = false;

  /** `schedule` runs its argument once when the current turn is over (setImmediate). */
  constructor(bounds: TurnBounds, schedule: (endOfTurn: () => void) => void) {
    this.#bounds = bounds;
    this.#schedule = schedule;
  }

  /** Returns a new share. The share need not be returned. */
  join(): SchedulerShare {
    return { count: 0, waiting: [] };
  }

  /** Returns whether a callback of the share may run now. If not, pass the callback to `wait`. */
  // HOT: once per call. Callbacks that need not wait do not need a closure.
  mayAct(share: SchedulerShare): boolean {
    if (share.waiting.length > 0) return false;
    const isFull = this.#count >= this.#room;
    if (share.count === 0) {
      this.#activate(share);
      if (isFull && this.#bounds.behind !== undefined) return false;
    } else if (isFull || share.count >= this.#bounds.each) return false;
    share.count += 1;
    this.#count += 1;
    return true;
  }

  /**
   * Runs the callback in one of the next turns; callbacks keep their order. The caller's limit on open streams also limits the number of waiting
   * callbacks.
   */
  wait(share: SchedulerShare, act: () => void): void {
    share.waiting.push(act);
  }

  /** Number of callbacks for which a turn has room. */
  get #room(): number {
    const { all, behind } = this.#bounds;
    return behind === undefined ? all : Math.max(all, behind.#lastCount);
  }

  #activate(share: SchedulerShare): void {
    this.#active.push(share);
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    this.#schedule(() => this.#endTurn());
  }

  #endTurn(): void {
    this.#isScheduled = false;
    this.#lastCount = this.#count;
    this.#count = 0;
    const active = this.#active;
    this.#active = [];
    const acts: (() => void)[] = [];
    const later: SchedulerShare[] = [];
    const served: SchedulerShare[] = [];
    for (const share of active) {
      share.count = 0;
      if (share.waiting.length === 0) continue;
      const room = Math.min(this.#bounds.each, this.#room - this.#count);
      const now = room > 0 ? share.waiting.splice(0, room) : [];
      this.#count += now.length;
      share.count = now.length;
      (now.length > 0 ? served : later).push(share);
      acts.push(...now);
    }
    for (const share of later) this.#activate(share);
    for (const share of served) this.#activate(share);
    for (const act of acts) act();
  }
}

/**
 * When an HTTP/2 connection is cut: the rates that one connection may reach, and the name of each abuse. The guard counts and samples.
 * What nghttp2 and Node already refuse (CONTINUATION floods, invalid frames) is not repeated here.
 */
import type { ResetLimits } from "./reset-limiter.ts";
import type { UnreadAnswer } from "./unread-answers.ts";

/** Bounds on one connection; every one is a setting. */
export interface ConnectionLimits extends ResetLimits {
  /** PING frames beyond one per 64 bytes we wrote: a client that measures bandwidth pings while it is sent to. */
  readonly pingsPerSecond: number;
  /** SETTINGS frames; a client sends one, or a few in its life. */
  readonly settingsPerSecond: number;
  /** Bytes that opened no stream and were no message: WINDOW_UPDATE, PRIORITY, empty DATA, unknown frames, padding. */
  readonly uselessBytesPerSecond: number;
  /** Requests that are refused while they are still on the way, of which as much as a window may come afterwards: that is not useless. */
  readonly brokenUploadsPerSecond: number;
  /** Bytes that came on served streams and were not read yet: they may turn out to be messages. */
  readonly unreadBytes: number;
  /** Bytes of headers beyond 4 KiB a call and beyond what came on the wire for them: HPACK lets one byte refer to a long field again and again. */
  readonly headerGainPerSecond: number;
  /** Calls that are refused before a method runs: unknown methods, other content types, calls over the stream bound. */
  readonly refusalsPerSecond: number;
  /** From accepting (after TLS) to the first byte. A client on a busy machine may stand still between connecting and writing. */
  readonly silentTimeoutMs: number;
  /** From the first byte to the end of the client's preface and SETTINGS. */
  readonly prefaceTimeoutMs: number;
  /** How long bytes may trickle in on a connection without open streams and make no frame (half a HEADERS frame). */
  readonly trickleMs: number;
  /** Answers that a client does not take: a connection with more than this, of which no byte was taken for `stuckMs`, is cut. */
  readonly stuckBytes: number;
  readonly stuckMs: number;
  /** New calls of a connection wait while it has not taken so many bytes of its answers. */
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

/** Why a connection was cut; a metric label, so few and fixed. */
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

/** Past this many times a per-second limit the connection is cut at once instead of at the next check. */
const AT_ONCE = 10;

/** What a stream's HEADERS (and its RST_STREAM) may have cost on the wire; generous, tokens are long. */
const HEADER_BYTES = 8_192;

/** What may have come on a stream whose call waits to be begun, or comes on one whose call was refused: HTTP/2's initial window. */
const WINDOW_BYTES = 65_535;

/** Headers of an honest call, of which most were sent before and are referred to. */
const FREE_HEADER_BYTES = 4_096;
/** What a header field counts beside its text (RFC 7541, 4.1). */
const FIELD_BYTES = 32;

/** A reader acknowledges what it read with WINDOW_UPDATE: a share of what was written is never useless. */
const WRITTEN_SHARE = 2;

/** Frames of a quiet connection that mean nothing by themselves, such as the last WINDOW_UPDATE of a stream. */
const FORGET_TRICKLE_MS = 5_000;

/** Silence begins at `nowMs` and has lasted until `dueMs`: not the same just after a standstill. */
interface StallAwareNow {
  readonly nowMs: number;
  readonly dueMs: number;
}

/** A reading of the connection's socket. */
export interface ConnectionSample {
  readonly monoMs: number;
  /** By the stall-aware clock, for what judges silence: now, and up to when deadlines are due. Absent: as `monoMs`. */
  readonly patientMs?: number;
  readonly patientDueMs?: number;
  readonly bytesRead: number;
  readonly bytesWritten: number;
  /** Length of a pause of this process that has just ended: data that arrived during the pause is read now. No pause if absent. */
  readonly pauseMs?: number;
  /** Calls that wait for their turn; those that wait until answers are taken are known here. None unless given. */
  readonly waitingCalls?: number;
}

/** Counts of one connection. The fields are raised by the guard and the listener; `check` judges them about once a second. */
export class ConnectionMeter {
  /** Streams now open. */
  openStreams = 0;
  /** Request bytes that were messages, ever. */
  usefulBytes = 0;
  /** Streams ever opened. */
  streamCount = 0;
  /** Streams refused without a method of ours. */
  refusalCount = 0;
  /** Streams closed before the client had sent its request: what it has sent by then is thrown away unseen. */
  brokenUploads = 0;
  readonly #limits: ConnectionLimits;
  readonly #opened: { readonly patientMs: number; readonly bytesRead: number };
  /** When a byte was first seen, in stall-aware ms. */
  #begunMs: number | undefined;
  #pingCount = 0;
  #settingsCount = 0;
  #isGreeted = false;
  #pendingBytes = 0;
  /** The share of this connection in the budget of its listener. Undefined where each answer has a share of its own. */
  readonly #unread: UnreadAnswer | undefined;
  #headerGainBytes = 0;
  /** Beyond the rate; less again when what was unread is looked at. */
  #uselessBytes = 0;
  /** What may still come of broken uploads. */
  #lateBytes = 0;
  /** Calls that wait until answers are taken; as many as may be open. */
  readonly #parked: (() => void)[] = [];
  #last: ConnectionSample & Pick<ConnectionMeter, "usefulBytes" | "streamCount" | "refusalCount" | "brokenUploads">;
  #trickleSinceMs: number | undefined;
  #stuckSinceMs: number | undefined;

  constructor(limits: ConnectionLimits, opened: ConnectionSample, unread?: UnreadAnswer) {
    this.#limits = limits;
    this.#unread = unread;
    this.#opened = { patientMs: opened.patientMs ?? opened.monoMs, bytesRead: opened.bytesRead };
    this.#last = { ...opened, usefulBytes: 0, streamCount: 0, refusalCount: 0, brokenUploads: 0 };
  }

  /** Response bytes handed to HTTP/2 and not known to be taken. */
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

  /** Whether a new call may run now; when not, give what it would do to `park`. */
  get isTaking(): boolean {
    return this.#pendingBytes <= this.#limits.untakenBytes;
  }

  /** Does it once the connection took what it was sent. */
  park(act: () => void): void {
    this.#parked.push(act);
  }

  /** A call's headers, names and values in turn. True: time to `check`. */
  // HOT: once a call.
  headers(fields: readonly string[]): boolean {
    let bytes = (fields.length / 2) * FIELD_BYTES;
    for (const text of fields) bytes += text.length;
    if (bytes <= FREE_HEADER_BYTES) return false;
    this.#headerGainBytes += bytes - FREE_HEADER_BYTES;
    return this.#headerGainBytes > this.#limits.headerGainPerSecond;
  }

  /** A PING came. Returns why to cut at once, if so. */
  ping(): ExceededLimit | undefined {
    this.#pingCount += 1;
    return this.#pingCount > this.#limits.pingsPerSecond * AT_ONCE && this.openStreams === 0 ? "ping_flood" : undefined;
  }

  /** A SETTINGS frame came, the first of them with the preface. */
  settings(): ExceededLimit | undefined {
    this.#isGreeted = true;
    this.#settingsCount += 1;
    return this.#settingsCount > this.#limits.settingsPerSecond * AT_ONCE ? "settings_flood" : undefined;
  }

  /** Judges what came since the last check; called about once a second, and harmless when called more often. */
  check(now: ConnectionSample): ExceededLimit | undefined {
    const last = this.#last;
    const since = { nowMs: now.patientMs ?? now.monoMs, dueMs: now.patientDueMs ?? now.patientMs ?? now.monoMs };
    const seconds = Math.max(1, (now.monoMs - last.monoMs) / 1_000) + (now.pauseMs ?? 0) / 1_000;
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
    this.#last = { ...now, usefulBytes, streamCount, refusalCount, brokenUploads };
    this.#pingCount = 0;
    this.#settingsCount = 0;
    this.#headerGainBytes = 0;

    if (!this.#isGreeted) return this.#isGreetingLate(since, now.bytesRead) ? "slow_preface" : undefined;
    if (pings > this.#limits.pingsPerSecond * seconds + written / 64) return "ping_flood";
    if (settings > this.#limits.settingsPerSecond * seconds) return "settings_flood";
    const useless = this.#withoutLate(read - useful, broken, seconds);
    this.#uselessBytes = Math.max(0, this.#uselessBytes + useless - this.#limits.uselessBytesPerSecond * seconds);
    const waiting = this.#parked.length + (now.waitingCalls ?? 0);
    if (this.#uselessBytes > this.#limits.unreadBytes + waiting * WINDOW_BYTES) return "useless_bytes";
    if (headerGain > this.#limits.headerGainPerSecond * seconds + read) return "header_bomb";
    if (refusals > this.#limits.refusalsPerSecond * seconds) return "refused_calls";
    if (this.#isTrickling(since, read > 0 && !isEventful, isEventful)) return "slow_headers";
    return this.#isStuck(since, written) ? "stuck_reader" : undefined;
  }

  #isGreetingLate({ nowMs, dueMs }: StallAwareNow, bytesRead: number): boolean {
    if (bytesRead > this.#opened.bytesRead) this.#begunMs ??= nowMs;
    const { silentTimeoutMs, prefaceTimeoutMs } = this.#limits;
    return this.#begunMs === undefined ? dueMs - this.#opened.patientMs > silentTimeoutMs : dueMs - this.#begunMs > prefaceTimeoutMs;
  }

  /** These bytes without what came of broken uploads. What of them did not come yet may come until the next check. */
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
    // A keepalive ping and its kin are written to a stuck reader too; they are not answers taken.
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

// Gives every connection a share of each turn of the event loop. A connection that sends thousands of calls in a burst (libuv reads up
// to 2 MiB from a socket in one go) waits behind itself. Several such connections take turns, so that together they delay the others no
// longer than one of them would. Time is counted in turns.

/** The share of one connection; made by `FairScheduler.join`. */
export interface SchedulerShare {
  /** Acts in this turn. */
  count: number;
  readonly waiting: (() => void)[];
}

export interface TurnBounds {
  /** Acts of one share in a turn. */
  readonly each: number;
  /** Acts of all shares in a turn together. The first act of each share never waits. */
  readonly all: number;
}

export class FairScheduler {
  readonly #bounds: TurnBounds;
  readonly #schedule: (endOfTurn: () => void) => void;
  #count = 0;
  /** Shares that acted in this turn or wait, the one that waited longest first. */
  #active: SchedulerShare[] = [];
  #isScheduled = false;

  /** `schedule` runs what it is given once, when the current turn is over (setImmediate). */
  constructor(bounds: TurnBounds, schedule: (endOfTurn: () => void) => void) {
    this.#bounds = bounds;
    this.#schedule = schedule;
  }

  /** A new share; it need not be given back. */
  join(): SchedulerShare {
    return { count: 0, waiting: [] };
  }

  /** Whether the share may act now; when not, give the act to `wait`. */
  // HOT: once a call; no closure for those that need not wait.
  mayAct(share: SchedulerShare): boolean {
    if (share.waiting.length > 0) return false;
    if (share.count === 0) this.#activate(share);
    else if (share.count >= this.#bounds.each || this.#count >= this.#bounds.all) return false;
    share.count += 1;
    this.#count += 1;
    return true;
  }

  /** Runs the act in one of the next turns, in order. The caller bounds how many acts wait, by its open streams. */
  wait(share: SchedulerShare, act: () => void): void {
    share.waiting.push(act);
  }

  #activate(share: SchedulerShare): void {
    this.#active.push(share);
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    this.#schedule(() => this.#endTurn());
  }

  #endTurn(): void {
    this.#isScheduled = false;
    this.#count = 0;
    const active = this.#active;
    this.#active = [];
    const acts: (() => void)[] = [];
    const later: SchedulerShare[] = [];
    const served: SchedulerShare[] = [];
    for (const share of active) {
      share.count = 0;
      if (share.waiting.length === 0) continue;
      const room = Math.min(this.#bounds.each, this.#bounds.all - this.#count);
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

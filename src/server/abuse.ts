/**
 * When an HTTP/2 connection is cut: rates per connection and what passing them is called. Pure; the guard counts and
 * samples. What nghttp2 and Node already refuse (rapid reset, CONTINUATION floods, invalid frames) is not here again.
 */

/** Bounds on one connection; every one is a setting. */
export interface AbuseLimits {
  /** PING frames beyond one per 64 bytes we wrote: a client that measures bandwidth pings while it is sent to. */
  readonly pingsPerSecond: number;
  /** SETTINGS frames; a client sends one, or a few in its life. */
  readonly settingsPerSecond: number;
  /** Bytes that opened no stream and were no message: WINDOW_UPDATE, PRIORITY, empty DATA, unknown frames, padding. */
  readonly uselessBytesPerSecond: number;
  /** Calls to nothing: unknown methods, other content types, calls over the stream bound. */
  readonly refusalsPerSecond: number;
  /** From accepting (after TLS) to the client's preface and SETTINGS. */
  readonly prefaceTimeoutMs: number;
  /** How long bytes may trickle in on a connection without open streams and come to nothing (half a HEADERS frame). */
  readonly trickleMs: number;
  /** Answers a client does not take, on one connection: more than this for `stuckMs` without a byte taken and it is cut. */
  readonly stuckBytes: number;
  readonly stuckMs: number;
}

export const DEFAULT_ABUSE_LIMITS: AbuseLimits = {
  pingsPerSecond: 200,
  settingsPerSecond: 20,
  uselessBytesPerSecond: 256 * 1_024,
  refusalsPerSecond: 500,
  prefaceTimeoutMs: 2_000,
  trickleMs: 1_500,
  stuckBytes: 1_024 * 1_024,
  stuckMs: 1_500,
};

/** Why a connection was cut; a metric label, so few and fixed. */
export type Abuse = "ping_flood" | "settings_flood" | "useless_bytes" | "refused_calls" | "slow_preface" | "slow_headers" | "stuck_reader";

/** Past this many times a per-second limit the connection is cut at once instead of at the next check. */
const AT_ONCE = 10;

/** What a stream's HEADERS (and its RST_STREAM) may have cost on the wire; generous, tokens are long. */
const HEADER_BYTES = 8_192;

/** A reader acknowledges what it read with WINDOW_UPDATE: a share of what was written is never useless. */
const WRITTEN_SHARE = 2;

/** Frames of a quiet connection that mean nothing by themselves, such as the last WINDOW_UPDATE of a stream. */
const FORGET_TRICKLE_MS = 5_000;

/** A reading of the connection's socket. */
export interface ConnectionSample {
  readonly monoMs: number;
  readonly bytesRead: number;
  readonly bytesWritten: number;
}

/** Counts of one connection. The fields are raised by the guard and the listener; `check` judges them about once a second. */
export class ConnectionMeter {
  /** Streams now open. */
  openStreams = 0;
  /** Response bytes handed to HTTP/2 and not known to be taken. */
  pendingBytes = 0;
  /** Request bytes that were messages, ever. */
  usefulBytes = 0;
  /** Streams ever opened. */
  streamCount = 0;
  /** Streams refused without a method of ours. */
  refusalCount = 0;
  readonly #limits: AbuseLimits;
  readonly #openedMonoMs: number;
  #pingCount = 0;
  #settingsCount = 0;
  #isGreeted = false;
  #last: ConnectionSample & { readonly usefulBytes: number; readonly streamCount: number; readonly refusalCount: number };
  #trickleSinceMonoMs: number | undefined;
  #stuckSinceMonoMs: number | undefined;

  constructor(limits: AbuseLimits, opened: ConnectionSample) {
    this.#limits = limits;
    this.#openedMonoMs = opened.monoMs;
    this.#last = { ...opened, usefulBytes: 0, streamCount: 0, refusalCount: 0 };
  }

  /** A PING came. Returns why to cut at once, if so. */
  ping(): Abuse | undefined {
    this.#pingCount += 1;
    return this.#pingCount > this.#limits.pingsPerSecond * AT_ONCE && this.openStreams === 0 ? "ping_flood" : undefined;
  }

  /** A SETTINGS frame came, the first of them with the preface. */
  settings(): Abuse | undefined {
    this.#isGreeted = true;
    this.#settingsCount += 1;
    return this.#settingsCount > this.#limits.settingsPerSecond * AT_ONCE ? "settings_flood" : undefined;
  }

  /** Judges what came since the last check; called about once a second, and harmless when called more often. */
  check(now: ConnectionSample): Abuse | undefined {
    const last = this.#last;
    const seconds = Math.max(1, (now.monoMs - last.monoMs) / 1_000);
    const written = now.bytesWritten - last.bytesWritten;
    const read = now.bytesRead - last.bytesRead;
    const frames = this.#pingCount + this.#settingsCount;
    const opened = this.streamCount - last.streamCount;
    const refusals = this.refusalCount - last.refusalCount;
    const useful = this.usefulBytes - last.usefulBytes + opened * HEADER_BYTES + written / WRITTEN_SHARE;
    const pings = this.#pingCount;
    const settings = this.#settingsCount;
    const isEventful = frames > 0 || opened > 0 || this.openStreams > 0;
    this.#last = { ...now, usefulBytes: this.usefulBytes, streamCount: this.streamCount, refusalCount: this.refusalCount };
    this.#pingCount = 0;
    this.#settingsCount = 0;

    if (!this.#isGreeted) return now.monoMs - this.#openedMonoMs > this.#limits.prefaceTimeoutMs ? "slow_preface" : undefined;
    if (pings > this.#limits.pingsPerSecond * seconds + written / 64) return "ping_flood";
    if (settings > this.#limits.settingsPerSecond * seconds) return "settings_flood";
    if (read - useful > this.#limits.uselessBytesPerSecond * seconds) return "useless_bytes";
    if (refusals > this.#limits.refusalsPerSecond * seconds) return "refused_calls";
    if (this.#isTrickling(now.monoMs, read > 0 && !isEventful, isEventful)) return "slow_headers";
    return this.#isStuck(now.monoMs, written) ? "stuck_reader" : undefined;
  }

  #isTrickling(monoMs: number, isUseless: boolean, isEventful: boolean): boolean {
    if (isEventful) this.#trickleSinceMonoMs = undefined;
    else if (isUseless) {
      this.#trickleSinceMonoMs ??= monoMs;
      return monoMs - this.#trickleSinceMonoMs >= this.#limits.trickleMs;
    } else if (this.#trickleSinceMonoMs !== undefined && monoMs - this.#trickleSinceMonoMs > FORGET_TRICKLE_MS) {
      this.#trickleSinceMonoMs = undefined;
    }
    return false;
  }

  #isStuck(monoMs: number, written: number): boolean {
    // A keepalive ping and its kin are written to a stuck reader too; they are not answers taken.
    if (this.pendingBytes <= this.#limits.stuckBytes || written > 1_024) {
      this.#stuckSinceMonoMs = undefined;
      return false;
    }
    this.#stuckSinceMonoMs ??= monoMs;
    return monoMs - this.#stuckSinceMonoMs >= this.#limits.stuckMs;
  }
}

/**
 * Inflates compressed messages within one budget for all listeners that share it (inflation-budget.ts). A gzip message says at its
 * end how long it will be: it is charged and allocated by that, and one that lied is refused when it reaches it. Of a message of several
 * members, or with other bytes behind it, the end says something else: both are refused, as nothing else says how long they will be.
 */
import { gunzip, gunzipSync, inflate, type ZlibOptions } from "node:zlib";
import { invalid, WaymarkError } from "../../lib/errors.ts";
import { FREE_WORK_BYTES, INFLATION_LIMITS, InflationBudget, type InflationLimits, type InflationTicket } from "./inflation-budget.ts";
import type { CompressedMessage, InflateResult, Inflater, Inflation } from "./message-reader.ts";

/** Up to here, and of few bytes as it came, it is done at once: a trip to zlib's thread costs more. */
const SMALL_BYTES = 16 * 1_024;
/** zlib makes at most this many bytes of each byte. */
const MAX_RATIO = 1_032;
/** Header and end of a gzip message. */
const MIN_GZIP_BYTES = 18;
/** What gzip adds to bytes that it cannot compress is a thousandth, and this for its header with a name: twice as much is not made by compressing. */
const MAX_GROWTH = 2;
const MAX_ADDED_BYTES = 1_024;
/** Why the length at the end of a gzip message is not the one of what is in it. */
const NOT_TAKEN = "several members in one, bytes behind the message and one that is cut short are not taken";
/** Time between two looks at the messages that wait, in ms. */
const CHECK_MS = 20;
const RETRY_MS = 1_000;

/** One error for all refusals: its stack costs 20 µs to make, and thousands of refusals may be due in a second. */
const BUSY = new WaymarkError("quota_exceeded", "too many compressed messages are being inflated here; send it plain, or later", {
  retryMs: RETRY_MS,
});

export class SharedInflater implements Inflater {
  readonly #budget: InflationBudget;
  #timer: NodeJS.Timeout | undefined;

  constructor(limits: InflationLimits = INFLATION_LIMITS) {
    this.#budget = new InflationBudget(limits);
  }

  /** Begins to inflate a message, now or when its turn comes. */
  inflate(message: CompressedMessage): Inflation {
    const { bytes } = message;
    if (bytes.length === 0) return settled(bytes);
    const size = inflatedSize(message);
    if (size instanceof WaymarkError) return settled(size);
    return new RunningInflation(message, size, this.#budget, () => this.#watch());
  }

  /** Checks the messages that wait, until none waits. */
  #watch(): void {
    this.#timer ??= setInterval(() => {
      this.#budget.check(performance.now());
      if (this.#budget.waitingCount > 0) return;
      clearInterval(this.#timer);
      this.#timer = undefined;
    }, CHECK_MS).unref();
  }
}

function settled(result: InflateResult): Inflation {
  return { result, onResult: undefined, release: () => {} };
}

class RunningInflation implements Inflation {
  result: InflateResult | undefined;
  onResult: ((result: InflateResult) => void) | undefined;
  readonly #message: CompressedMessage;
  readonly #size: number;
  readonly #budget: InflationBudget;
  readonly #ticket: InflationTicket;
  #isReleased = false;
  #isAtWork = false;

  constructor(message: CompressedMessage, size: number, budget: InflationBudget, watch: () => void) {
    this.#message = message;
    this.#size = size;
    this.#budget = budget;
    const { owner, bytes } = message;
    const claim = { owner, wireBytes: bytes.length, inflatedBytes: size, decided: (isGranted: boolean) => this.#decided(isGranted) };
    this.#ticket = budget.claim(claim, performance.now());
    switch (this.#ticket.state) {
      case "granted":
        this.#begin();
        return;
      case "waiting":
        watch();
        return;
      case "over":
        this.result = BUSY;
        return;
    }
  }

  release(): void {
    this.#isReleased = true;
    // While zlib's thread writes into the memory, the memory stays charged.
    if (!this.#isAtWork) this.#budget.release(this.#ticket, performance.now());
  }

  #decided(isGranted: boolean): void {
    if (isGranted) this.#begin();
    else this.#settle(BUSY);
  }

  #begin(): void {
    const { encoding, bytes } = this.#message;
    const size = Math.max(1, this.#size);
    if (encoding === "gzip" && size <= SMALL_BYTES && bytes.length <= FREE_WORK_BYTES) {
      this.#settle(this.#inflateNow());
      return;
    }
    // One byte more than the message says, so that zlib writes it in one piece.
    const options: ZlibOptions =
      encoding === "gzip" ? { maxOutputLength: size, chunkSize: Math.max(64, size + 1) } : { maxOutputLength: size };
    this.#isAtWork = true;
    (encoding === "gzip" ? gunzip : inflate)(bytes, options, (error, inflated) => {
      this.#isAtWork = false;
      if (this.#isReleased) this.#budget.release(this.#ticket, performance.now());
      else this.#settle(error === null ? this.#checked(inflated) : this.#unreadable(error));
    });
  }

  #inflateNow(): InflateResult {
    const size = Math.max(1, this.#size);
    try {
      return this.#checked(gunzipSync(this.#message.bytes, { maxOutputLength: size, chunkSize: Math.max(64, size + 1) }));
    } catch (error) {
      return this.#unreadable(error);
    }
  }

  /** The bytes, unless the message inflated to another size than it says. Node ignores bytes behind the message. */
  #checked(inflated: Uint8Array): InflateResult {
    if (this.#message.encoding === "deflate" || inflated.length === this.#size) return inflated;
    return invalid(
      "request",
      `a gzip message inflates to ${inflated.length} bytes, not to the ${this.#size} that its last four say; ${NOT_TAKEN}`,
    );
  }

  #unreadable(error: unknown): WaymarkError {
    const code = error instanceof Error && "code" in error ? String(error.code) : "";
    if (code !== "ERR_BUFFER_TOO_LARGE")
      return invalid("request", `a compressed message cannot be inflated (${code}): it is damaged, cut short, or other bytes follow it`);
    if (this.#message.encoding === "deflate") return tooLarge(this.#message.maxMessageBytes, "is larger when inflated");
    return invalid("request", `a gzip message inflates to more than the ${this.#size} bytes that its last four say; ${NOT_TAKEN}`);
  }

  #settle(result: InflateResult): void {
    if (this.#isReleased) return;
    if (result instanceof WaymarkError) this.#budget.release(this.#ticket, performance.now());
    if (this.onResult === undefined) this.result = result;
    else this.onResult(result);
  }
}

/** How long a message will be, at most; or why it is refused as it is. */
function inflatedSize({ encoding, bytes, maxMessageBytes }: CompressedMessage): number | WaymarkError {
  if (encoding === "deflate") return Math.min(maxMessageBytes, bytes.length * MAX_RATIO);
  if (bytes.length < MIN_GZIP_BYTES || bytes[0] !== 0x1f || bytes[1] !== 0x8b) return invalid("request", "not the bytes of a gzip message");
  const size = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getUint32(bytes.length - 4, true);
  if (bytes.length > size * MAX_GROWTH + MAX_ADDED_BYTES)
    return invalid(
      "request",
      `a gzip message of ${bytes.length} bytes says at its end that it inflates to ${size}, which gzip makes of far fewer; ${NOT_TAKEN}`,
    );
  if (size <= maxMessageBytes) return size;
  if (size > bytes.length * MAX_RATIO)
    return invalid(
      "request",
      `a gzip message of ${bytes.length} bytes says at its end that it inflates to ${size}, which so few bytes never do; ${NOT_TAKEN}`,
    );
  return tooLarge(maxMessageBytes, `says at its end that it inflates to ${size}`);
}

function tooLarge(maxBytes: number, what: string): WaymarkError {
  return new WaymarkError("quota_exceeded", `a message is at most ${maxBytes} bytes, this one ${what}`);
}

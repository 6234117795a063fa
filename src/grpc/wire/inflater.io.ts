/**
 * Inflates compressed messages within one budget for all listeners that share it (inflation-budget.ts). The trailer of a gzip message declares the
 * inflated size: the message is charged according to this size, its memory is allocated accordingly, and it is rejected if its real size differs.
 * Messages with several members or trailing bytes are rejected, because their last bytes do not declare the total inflated size.
 */
import { gunzip, gunzipSync, inflate, type ZlibOptions } from "node:zlib";
import { invalid, WaymarkError } from "../../lib/errors.ts";
import { FREE_WORK_BYTES, INFLATION_LIMITS, InflationBudget, type InflationLimits, type InflationTicket } from "./inflation-budget.ts";
import type { CompressedMessage, InflateResult, Inflater, Inflation } from "./message-reader.ts";

/**
 * Messages up to this inflated size that also have few compressed bytes are inflated synchronously, because passing them to zlib's thread costs more.
 */
const SMALL_BYTES = 16 * 1_024;
/** Maximum number of bytes that zlib can produce from one byte. */
const MAX_RATIO = 1_032;
/** Size of the header and trailer of a gzip message. */
const MIN_GZIP_BYTES = 18;
/**
 * For incompressible data, gzip adds a thousandth of the size, plus up to `MAX_ADDED_BYTES` for a header with a file name. A message that is longer
 * than `MAX_GROWTH` times its inflated size plus `MAX_ADDED_BYTES` is therefore invalid.
 */
const MAX_GROWTH = 2;
const MAX_ADDED_BYTES = 1_024;
/** Explains why the size in the trailer of a gzip message may differ from its inflated size. */
const UNSUPPORTED = "several gzip members, trailing bytes and truncated messages are not supported";
/** Interval between checks of the waiting messages, in ms. */
const CHECK_MS = 20;
const RETRY_MS = 1_000;

/** One error is shared by all rejections, because creating its stack costs 20 µs and there may be thousands of rejections per second. */
const BUSY = new WaymarkError(
  "quota_exceeded",
  "too many compressed messages are being inflated; send the message uncompressed, or retry later",
  {
    retryMs: RETRY_MS,
  },
);

export class SharedInflater implements Inflater {
  readonly #budget: InflationBudget;
  #timer: NodeJS.Timeout | undefined;

  constructor(limits: InflationLimits = INFLATION_LIMITS) {
    this.#budget = new InflationBudget(limits);
  }

  /** Starts to inflate a message, either now or when the budget allows it. */
  inflate(message: CompressedMessage): Inflation {
    const { bytes } = message;
    if (bytes.length === 0) return settled(bytes);
    const size = inflatedSize(message);
    if (size instanceof WaymarkError) return settled(size);
    return new RunningInflation(message, size, this.#budget, () => this.#watch());
  }

  /** Checks the waiting messages until none are left. */
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
    // The memory remains charged while zlib's thread writes into it.
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
    // The buffer is one byte larger than the declared size, so that zlib writes the message in one piece.
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

  /** Returns the bytes, or an error if the inflated size differs from the declared size. Node.js ignores trailing bytes. */
  #checked(inflated: Uint8Array): InflateResult {
    if (this.#message.encoding === "deflate" || inflated.length === this.#size) return inflated;
    return invalid(
      "request",
      `invalid gzip message: it inflates to ${inflated.length} bytes, but its trailer declares ${this.#size}; ${UNSUPPORTED}`,
    );
  }

  #unreadable(error: unknown): WaymarkError {
    const code = error instanceof Error && "code" in error ? String(error.code) : "";
    if (code !== "ERR_BUFFER_TOO_LARGE")
      return invalid("request", `invalid compressed message (${code}): it is corrupt, truncated, or followed by other bytes`);
    if (this.#message.encoding === "deflate") return tooLarge(this.#message.maxMessageBytes, "is larger after inflation");
    return invalid(
      "request",
      `invalid gzip message: it inflates to more than the ${this.#size} bytes that its trailer declares; ${UNSUPPORTED}`,
    );
  }

  #settle(result: InflateResult): void {
    if (this.#isReleased) return;
    if (result instanceof WaymarkError) this.#budget.release(this.#ticket, performance.now());
    if (this.onResult === undefined) this.result = result;
    else this.onResult(result);
  }
}

/** Returns the maximum inflated size of a message, or the error if the message is rejected without being inflated. */
function inflatedSize({ encoding, bytes, maxMessageBytes }: CompressedMessage): number | WaymarkError {
  if (encoding === "deflate") return Math.min(maxMessageBytes, bytes.length * MAX_RATIO);
  if (bytes.length < MIN_GZIP_BYTES || bytes[0] !== 0x1f || bytes[1] !== 0x8b)
    return invalid("request", "invalid gzip message: it has no gzip header, or is shorter than 18 bytes");
  const size = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getUint32(bytes.length - 4, true);
  if (bytes.length > size * MAX_GROWTH + MAX_ADDED_BYTES)
    return invalid(
      "request",
      `invalid gzip message: it has ${bytes.length} bytes, but its trailer declares only ${size} inflated bytes; ${UNSUPPORTED}`,
    );
  if (size <= maxMessageBytes) return size;
  if (size > bytes.length * MAX_RATIO)
    return invalid(
      "request",
      `invalid gzip message: ${bytes.length} bytes cannot inflate to the ${size} bytes that its trailer declares; ${UNSUPPORTED}`,
    );
  return tooLarge(maxMessageBytes, `declares ${size} bytes after inflation`);
}

function tooLarge(maxBytes: number, fault: string): WaymarkError {
  return new WaymarkError("quota_exceeded", `message too large: the limit is ${maxBytes} bytes, and this message ${fault}`);
}

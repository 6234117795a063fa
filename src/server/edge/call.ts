/** One request at the HTTP edge on its way through Connect's machinery, and our answers in Connect's terms. */
import { type DescMessage, fromBinary, type Message } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { type RetryInfo, RetryInfoSchema } from "../../../gen/google/rpc/error_details_pb.js";
import type { Arriving } from "../../grpc/server/connection-guard.io.ts";
import { apart } from "../../grpc/wire/framing.ts";
import { invalid, WaymarkError } from "../../lib/errors.ts";
import type { MessagePlan } from "../../services/request-plan.ts";
import type { Arrival, MethodChain } from "../chain.ts";
import { JsonShape } from "../json-shape.ts";
import { MessageShape } from "../message-shape.ts";
import { EnvelopedShape, type Shape } from "../request-shape.ts";
import type { RpcStatus } from "../status.ts";

/** Bytes of requests that have not wholly arrived, over all connections. */
export interface BodyBudget {
  readonly maxBytes: number;
  usedBytes: number;
}

/** What the listener knows of a request. */
export interface EdgeArrival extends Arrival {
  readonly transport: "http1" | "h2";
  readonly encoding: "json" | "proto";
  /** Set when a method is called: GET routes have no deadline of their client's. */
  timeoutMs: number | undefined;
  /** As sent, or chosen when the request came in, so that answers of every kind carry it; `header` gives it too. */
  readonly requestId: string;
  readonly budget: BodyBudget;
  /** Counts of the HTTP/2 connection it came on: what it brings and what it has not taken yet. */
  readonly meter: { usefulBytes: number; pendingBytes: number } | undefined;
  /** Of that connection: requests that have not arrived. */
  readonly arriving: Set<Arriving> | undefined;
  /** The connection, to charge what it makes us inflate. */
  readonly owner: object;
}

/** What is known of a method when the body of a call is read. */
export interface BodyOf {
  readonly isUnary: boolean;
  /** As that of the method's chain, of this call. */
  readonly judgeHeaders: () => ReturnType<MethodChain["judgeHeaders"]>;
}

/**
 * Small chunks are joined into pieces of so many bytes, or of so many chunks: the time that Connect takes to join pieces grows with the square
 * of their number.
 */
const PIECE_BYTES = 16_384;
const PIECE_CHUNKS = 1_024;

export class EdgeCall {
  readonly arrival: EdgeArrival;
  /** Whether the first bytes of the body are here. */
  hasBegun = false;
  /** The body did not come in time, and its stream was closed. Its reader is told that, and not that the stream broke off. */
  isGivenUp = false;
  #isAdmitted = false;
  #heldBytes = 0;
  #inflation: { release(): void } | undefined;
  /** Whether its messages stand behind a flag byte and their length. */
  readonly #isEnveloped: boolean;
  readonly #newShape: () => Shape;
  /** Of a body that is not compressed; else each message is looked at when it is inflated. */
  readonly #shape: Shape | undefined;
  /** The bytes of a JSON body, and its inflated message, in which a fault can be located. Both are dropped on admission. */
  #chunks: Uint8Array[] = [];
  #inflated: Uint8Array | undefined;

  /** `plan`: what a request of the method may hold. */
  constructor(arrival: EdgeArrival, plan: MessagePlan) {
    const { header, encoding } = arrival;
    this.arrival = arrival;
    const type = (header("content-type") ?? "").toLowerCase();
    this.#isEnveloped = !type.startsWith("application/json") && !type.startsWith("application/proto");
    this.#newShape = () => (encoding === "json" ? new JsonShape(plan) : new MessageShape(plan));
    // What stands in envelopes says itself which of it is compressed: nobody else looks at this header.
    if (this.#isEnveloped) this.#shape = new EnvelopedShape(this.#newShape);
    else if (isPlain(header("content-encoding"))) this.#shape = this.#newShape();
  }

  /** Whether the chain has the call. An error before that is Connect's own, found while it read the request. */
  get isAdmitted(): boolean {
    return this.#isAdmitted;
  }

  admit(): void {
    this.#isAdmitted = true;
    this.#chunks = [];
    this.#inflated = undefined;
    this.release();
  }

  /**
   * The body as it comes, counted against the budget of all requests until `release`; of a unary call in pieces of more than a few bytes.
   * Of a JSON one a copy is kept until admission. The size of one body is bounded by whoever reads it. A body that comes in several pieces is
   * read on only for a caller who may call.
   */
  async *tapped(body: AsyncIterable<Uint8Array>, { isUnary, judgeHeaders }: BodyOf): AsyncGenerator<Uint8Array> {
    const { transport, encoding, budget, meter } = this.arrival;
    let fault: WaymarkError | undefined;
    let refusal: WaymarkError | undefined;
    let isJudged = false;
    const see = (piece: Uint8Array) => {
      if (!this.#isAdmitted && encoding === "json") this.#chunks.push(piece);
      fault ??= this.#shape?.look(piece);
      return piece;
    };
    // Of a text alone Connect parses nothing before its end, which is when it is refused.
    const isHeldBack = () => fault !== undefined && this.#isEnveloped;
    let waiting: Uint8Array[] = [];
    let waitingBytes = 0;
    try {
      for await (const chunk of body) {
        if (isHeldBack() || refusal !== undefined) continue;
        if (meter !== undefined) meter.usefulBytes += chunk.length;
        if (this.hasBegun && !isJudged) {
          isJudged = true;
          refusal = await judgeHeaders();
          if (refusal !== undefined) {
            waiting = [];
            this.release();
            if (transport === "h2") break;
            continue;
          }
        }
        this.hasBegun = true;
        this.#heldBytes += chunk.length;
        budget.usedBytes += chunk.length;
        if (budget.usedBytes > budget.maxBytes) {
          throw new ConnectError("the server holds too many unfinished requests", Code.ResourceExhausted);
        }
        waiting.push(apart(chunk));
        waitingBytes += chunk.length;
        if (isUnary && waitingBytes < PIECE_BYTES && waiting.length < PIECE_CHUNKS) continue;
        const piece = see(joined(waiting));
        [waiting, waitingBytes] = [[], 0];
        if (!isHeldBack()) yield piece;
        else if (transport === "h2") break;
      }
    } catch (thrown) {
      throw this.isGivenUp ? new ConnectError("the request did not come in time", Code.Canceled) : thrown;
    }
    if (refusal !== undefined) throw unparsed(refusal);
    if (waiting.length > 0) {
      const piece = see(joined(waiting));
      if (!isHeldBack()) yield piece;
    }
    // Over HTTP/1.1 not before: what a refused request still sends would be taken for the next one of its connection.
    if (fault !== undefined) throw unparsed(fault);
  }

  /** The message, inflated; returns `invalid_argument` where parsing it would take too long. */
  look(bytes: Uint8Array): ConnectError | undefined {
    if (!this.#isAdmitted && this.arrival.encoding === "json") this.#inflated = bytes;
    const fault = this.#newShape().look(bytes);
    return fault === undefined ? undefined : unparsed(fault);
  }

  /** A message is being inflated, in place of the one before; it is charged until the call has it, or is over. */
  hold(inflation: { release(): void }): void {
    this.#inflation?.release();
    this.#inflation = inflation;
  }

  /** The held bytes of the body have become a message, or are thrown away. */
  release(): void {
    this.arrival.budget.usedBytes -= this.#heldBytes;
    this.#heldBytes = 0;
    this.#inflation?.release();
  }

  /** The text of the JSON message read so far; in streams it stands behind a flag byte and its length. */
  readText(): string {
    if (this.#inflated !== undefined) return Buffer.from(this.#inflated).toString("utf8");
    const bytes = Buffer.concat(this.#chunks);
    return this.#isEnveloped && bytes.length >= 5 ? bytes.toString("utf8", 5, 5 + bytes.readUInt32BE(1)) : bytes.toString("utf8");
  }
}

/** As `content-encoding` names it. */
function isPlain(encoding: string | undefined): boolean {
  return encoding === undefined || encoding === "identity";
}

function joined(chunks: readonly Uint8Array[]): Uint8Array {
  const [first] = chunks;
  return chunks.length === 1 && first !== undefined ? first : Buffer.concat(chunks);
}

function unparsed(fault: WaymarkError): ConnectError {
  return new ConnectError(fault.message, Code.InvalidArgument, undefined, undefined, fault);
}

/** The message of a handler's answer; one that gave bytes is decoded again, since Connect encodes. */
export function decodedAnswer(desc: DescMessage, answer: Message | Uint8Array): Message {
  return answer instanceof Uint8Array ? fromBinary(desc, answer) : answer;
}

/** Our status as Connect's error, with `Retry-After` where a retry helps. */
export function connectError(status: RpcStatus): ConnectError {
  // oxlint-disable-next-line typescript/no-unsafe-enum-assignment -- our codes and Connect's are both gRPC's numbers.
  const error = new ConnectError(status.message, status.code, undefined, [...status.details]);
  const seconds = retryAfterSeconds(status);
  if (seconds !== undefined) error.metadata.set("retry-after", String(seconds));
  return error;
}

/** What `Retry-After` shall say in whole seconds, at least 1; undefined when a retry does not help. */
export function retryAfterSeconds(status: RpcStatus): number | undefined {
  for (const { desc, value } of status.details) {
    if (desc !== RetryInfoSchema) continue;
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the value is what its desc says.
    const { retryDelay } = value as RetryInfo;
    return retryDelay === undefined ? undefined : Math.max(1, Math.ceil(durationMs(retryDelay) / 1000));
  }
  return undefined;
}

/** What Connect says, without its own names for things. */
function plainWords(said: string): string {
  const [, sizeBytes, maxBytes] = /^message size (\d+) is larger than configured readMaxBytes (\d+)$/.exec(said) ?? [];
  if (maxBytes !== undefined) return `a message is at most ${maxBytes} bytes, this one has ${sizeBytes}`;
  return said.replace(/^protocol error: /, "").replace(/^parse binary: /, "cannot be read as protobuf: ");
}

/** Our refusal for what Connect found wrong with the bytes of a request. */
export function readingRefusal(error: ConnectError): WaymarkError {
  const { code, rawMessage, cause } = error;
  if (cause instanceof WaymarkError) return cause;
  const said = plainWords(rawMessage);
  if (code === Code.ResourceExhausted) return new WaymarkError("quota_exceeded", said, { cause: error });
  if (code === Code.Unimplemented) return new WaymarkError("unimplemented", said, { cause: error });
  const [, protocol, timeout = ""] = /^invalid (connect|grpc) timeout value: (.*)$/.exec(said) ?? [];
  if (protocol === undefined) return invalid("request", said);
  const [header, rule] = protocol === "grpc" ? ["grpc-timeout", "8 digits and one of H M S m u n"] : ["connect-timeout-ms", "10 digits"];
  return invalid(header, `want 1 to ${rule}, got "${timeout.slice(0, 32)}"`);
}

/** Whether the client gave up, so that nobody reads an answer. */
export function isGivenUp(error: unknown): boolean {
  return error instanceof ConnectError && (error.code === Code.Canceled || error.code === Code.Aborted);
}

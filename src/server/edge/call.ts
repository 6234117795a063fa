/** One request at the HTTP edge on its way through Connect's machinery, and our answers in Connect's terms. */
import { type DescMessage, fromBinary, type Message } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { type RetryInfo, RetryInfoSchema } from "../../../gen/google/rpc/error_details_pb.js";
import type { PendingRequest } from "../../grpc/server/connection-guard.io.ts";
import type { UnreadAnswers } from "../../grpc/server/unread-answers.ts";
import { apart } from "../../grpc/wire/message-reader.ts";
import { invalid, WaymarkError } from "../../lib/errors.ts";
import type { CallArrival, MethodChain } from "../chain.ts";
import type { RpcStatus } from "../status.ts";
import { joined, MessagesOfBody } from "./messages.ts";

/** Bytes of requests that have not wholly arrived, over all connections. */
export interface BodyBudget {
  readonly maxBytes: number;
  usedBytes: number;
}

/** What the listener knows of a request. */
export interface EdgeArrival extends CallArrival {
  readonly transport: "http1" | "h2";
  readonly encoding: "json" | "proto";
  /** Set when a method is called: GET routes have no deadline of their client's. */
  timeoutMs: number | undefined;
  /** As sent, or chosen when the request came in, so that answers of every kind carry it; `header` gives it too. */
  readonly requestId: string;
  readonly budget: BodyBudget;
  /** Counts of the HTTP/2 connection it came on: what it brings and what it has not taken yet. */
  readonly meter: { usefulBytes: number; pendingBytes: number } | undefined;
  /** Answers that their clients have not read, over all connections. */
  readonly unread: UnreadAnswers;
  /** Of that connection: requests that have not arrived. */
  readonly arriving: Set<PendingRequest> | undefined;
  /** The connection, to charge what it makes us inflate. */
  readonly owner: object;
}

export const TOO_MANY_UNFINISHED = "the server holds too many unfinished requests";

/**
 * Small chunks are joined into pieces of so many bytes, or of so many chunks: the time that Connect takes to join pieces grows with the square
 * of their number.
 */
const PIECE_BYTES = 16_384;
const PIECE_CHUNKS = 1_024;
/** Of one message of a stream, so many chunks go on as they come; later ones are joined as those of a unary call. */
const ALONE_CHUNKS = 64;

/** The properties of a method that a call needs. */
type CalledMethod = Pick<MethodChain, "judgeHeaders" | "requestFault">;

export class EdgeCall {
  readonly arrival: EdgeArrival;
  /** Whether the first bytes of the body are here. */
  hasBegun = false;
  /** The body did not come in time, and its stream was closed. Its reader is told that, and not that the stream broke off. */
  isGivenUp = false;
  #isAdmitted = false;
  #heldBytes = 0;
  #inflation: { release(): void } | undefined;
  readonly #method: CalledMethod;
  /** Those of a body that are not compressed; the others are looked at when they are inflated. */
  readonly #messages: MessagesOfBody | undefined;
  /** The first message in JSON, in which a fault can be located. It is dropped on admission: Connect admits a call when it has read one. */
  #text: Uint8Array | undefined;

  constructor(arrival: EdgeArrival, method: CalledMethod) {
    const { header } = arrival;
    this.arrival = arrival;
    this.#method = method;
    const type = (header("content-type") ?? "").toLowerCase();
    const isEnveloped = !type.startsWith("application/json") && !type.startsWith("application/proto");
    // What stands in envelopes says itself which of it is compressed: nobody else looks at this header.
    if (isEnveloped || isPlain(header("content-encoding"))) this.#messages = new MessagesOfBody(isEnveloped);
  }

  /** Whether the chain has the call. An error before that is Connect's own, found while it read the request. */
  get isAdmitted(): boolean {
    return this.#isAdmitted;
  }

  /** Why the call is refused for its headers alone. Nothing of its request has been read by then. */
  judgeHeaders(): ReturnType<CalledMethod["judgeHeaders"]> {
    return this.#method.judgeHeaders(this.arrival);
  }

  admit(): void {
    this.#isAdmitted = true;
    this.#text = undefined;
    this.release();
  }

  /**
   * The body as it comes, counted against the budget of all requests until `release`; of a unary call, and of a long message of a stream, in
   * pieces of more than a few bytes.
   * Each message is checked before its last piece is passed on. The reader of the body bounds its size.
   */
  async *tapped(body: AsyncIterable<Uint8Array>, isUnary: boolean): AsyncGenerator<Uint8Array> {
    const { transport, budget, meter } = this.arrival;
    let fault: WaymarkError | undefined;
    const see = (piece: Uint8Array) => {
      for (const message of this.#messages?.add(piece) ?? []) fault ??= this.#faultOf(message);
      return piece;
    };
    let waiting: Uint8Array[] = [];
    let waitingBytes = 0;
    let aloneCount = 0;
    try {
      for await (const chunk of body) {
        if (fault !== undefined) continue;
        if (meter !== undefined) meter.usefulBytes += chunk.length;
        this.hasBegun = true;
        this.#heldBytes += chunk.length;
        budget.usedBytes += chunk.length;
        if (budget.usedBytes > budget.maxBytes) {
          throw new ConnectError(TOO_MANY_UNFINISHED, Code.ResourceExhausted);
        }
        const endedBefore = this.#messages?.endedCount;
        waiting.push(isUnary ? apart(chunk) : see(apart(chunk)));
        waitingBytes += chunk.length;
        const isInside = isUnary || (aloneCount >= ALONE_CHUNKS && this.#messages?.endedCount === endedBefore && fault === undefined);
        if (isInside && waitingBytes < PIECE_BYTES && waiting.length < PIECE_CHUNKS) continue;
        aloneCount = this.#messages?.endedCount === endedBefore ? aloneCount + 1 : 0;
        const piece = isUnary ? see(joined(waiting)) : joined(waiting);
        [waiting, waitingBytes] = [[], 0];
        if (fault === undefined) yield piece;
        else if (transport === "h2") break;
      }
    } catch (thrown) {
      throw this.isGivenUp ? new ConnectError("the request did not come in time", Code.Canceled) : thrown;
    }
    if (waiting.length > 0) {
      const piece = isUnary ? see(joined(waiting)) : joined(waiting);
      if (fault === undefined) yield piece;
    }
    // Of a message alone, Connect decodes nothing before its end.
    const alone = this.#messages?.atEnd();
    if (alone !== undefined) fault ??= this.#faultOf(alone);
    // Over HTTP/1.1 not before: what a refused request still sends would be taken for the next one of its connection.
    if (fault !== undefined) throw unparsed(fault);
  }

  /** The message, inflated; returns `invalid_argument` where decoding it would take too long. */
  look(bytes: Uint8Array): ConnectError | undefined {
    const fault = this.#faultOf(bytes);
    return fault === undefined ? undefined : unparsed(fault);
  }

  #faultOf(message: Uint8Array): WaymarkError | undefined {
    const { encoding } = this.arrival;
    if (encoding === "json" && !this.#isAdmitted) this.#text ??= message;
    return this.#method.requestFault(message, encoding);
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

  /** The text of the first message in JSON. */
  readText(): string {
    return Buffer.from(this.#text ?? []).toString();
  }
}

/** As `content-encoding` names it. */
function isPlain(encoding: string | undefined): boolean {
  return encoding === undefined || encoding === "identity";
}

export function unparsed(fault: WaymarkError): ConnectError {
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

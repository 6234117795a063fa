/** A request to the HTTP edge while Connect processes it, and the conversion of statuses and errors to and from Connect. */
import { type DescMessage, fromBinary, type JsonValue, type Message, toBinary, toJson } from "@bufbuild/protobuf";
import { base64Encode } from "@bufbuild/protobuf/wire";
import { durationMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { type RetryInfo, RetryInfoSchema } from "../../../gen/google/rpc/error_details_pb.js";
import type { PendingRequest } from "../../grpc/server/connection-guard.io.ts";
import type { UnreadAnswers } from "../../grpc/server/unread-answers.ts";
import { apart } from "../../grpc/wire/message-reader.ts";
import { codeName, invalid, WaymarkError } from "../../lib/errors.ts";
import type { CallArrival, MethodChain } from "../chain.ts";
import type { RpcStatus } from "../status.ts";
import { joined, MessagesOfBody } from "./messages.ts";

/** Budget for the bytes of incomplete requests, across all connections. */
export interface BodyBudget {
  readonly maxBytes: number;
  usedBytes: number;
}

/** The listener's information about a request. */
export interface EdgeArrival extends CallArrival {
  readonly transport: "http1" | "h2";
  readonly encoding: "json" | "proto";
  /** Set when a method is called. GET routes do not have a client deadline. */
  timeoutMs: number | undefined;
  /** The client's request id, or an id generated on arrival, which every kind of response includes. `header` also returns this id. */
  readonly requestId: string;
  readonly budget: BodyBudget;
  /** Counters of the request's HTTP/2 connection: received bytes and unread bytes. Undefined over HTTP/1.1. */
  readonly meter: { usefulBytes: number; pendingBytes: number } | undefined;
  /** Responses that clients have not read yet, across all connections. */
  readonly unread: UnreadAnswers;
  /** Requests of the connection that have not fully arrived. */
  readonly arriving: Set<PendingRequest> | undefined;
  /** The connection, to which the cost of inflating is charged. */
  readonly owner: object;
}

export const TOO_MANY_UNFINISHED = "too many incomplete requests are buffered on this server; retry later";

/**
 * Small chunks are joined into pieces of this many bytes or chunks, because the time that Connect needs to join pieces grows with the square of their
 * number.
 */
const PIECE_BYTES = 16_384;
const PIECE_CHUNKS = 1_024;
/** For a stream message, this many chunks are passed on as they arrive. Later chunks are joined, like the chunks of a unary call. */
const ALONE_CHUNKS = 64;

/** The method properties that a call needs. */
type CalledMethod = Pick<MethodChain, "judgeHeaders" | "requestFault">;

export class EdgeCall {
  readonly arrival: EdgeArrival;
  /** Whether the first bytes of the body have arrived. */
  hasBegun = false;
  /**
   * Whether the stream was closed because the body did not arrive in time. The reader of the body then reports the timeout, not a broken
   * stream.
   */
  isGivenUp = false;
  #isAdmitted = false;
  #heldBytes = 0;
  #inflation: { release(): void } | undefined;
  readonly #method: CalledMethod;
  /** The uncompressed messages of a body. Compressed messages are checked when they are inflated. */
  readonly #messages: MessagesOfBody | undefined;
  /**
   * The first JSON message, in which an error can be located. It is dropped on admission, because Connect admits a call after reading a
   * message.
   */
  #text: Uint8Array | undefined;

  constructor(arrival: EdgeArrival, method: CalledMethod) {
    const { header } = arrival;
    this.arrival = arrival;
    this.#method = method;
    const type = (header("content-type") ?? "").toLowerCase();
    const isEnveloped = !type.startsWith("application/json") && !type.startsWith("application/proto");
    // A message in an envelope has its own compression flag, so this header applies only to bodies without envelopes.
    if (isEnveloped || isPlain(header("content-encoding"))) this.#messages = new MessagesOfBody(isEnveloped);
  }

  /** Whether the call reached the chain. Earlier errors are Connect's own, from reading the request. */
  get isAdmitted(): boolean {
    return this.#isAdmitted;
  }

  /** Returns an error if the call can be rejected because of its headers alone. No part of the body has been read at this point. */
  judgeHeaders(): ReturnType<CalledMethod["judgeHeaders"]> {
    return this.#method.judgeHeaders(this.arrival);
  }

  admit(): void {
    this.#isAdmitted = true;
    this.#text = undefined;
    this.release();
  }

  /**
   * Yields the body as it arrives. The bytes are counted against the budget of all requests until `release`. The chunks of a unary call or of a long
   * stream message are joined into larger pieces. Each message is checked before its last piece is passed on. The reader of the body limits its size.
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
      throw this.isGivenUp ? new ConnectError("the request did not arrive in time", Code.Canceled) : thrown;
    }
    if (waiting.length > 0) {
      const piece = isUnary ? see(joined(waiting)) : joined(waiting);
      if (fault === undefined) yield piece;
    }
    // Connect decodes a message without an envelope only when the body is complete.
    const alone = this.#messages?.atEnd();
    if (alone !== undefined) fault ??= this.#faultOf(alone);
    // Over HTTP/1.1, the error is thrown only after the whole body was read. Otherwise, the rest of a rejected request would be read as the
    // connection's next request.
    if (fault !== undefined) throw unparsed(fault);
  }

  /** Checks an inflated message. Returns `invalid_argument` if decoding the message would take too long. */
  look(bytes: Uint8Array): ConnectError | undefined {
    const fault = this.#faultOf(bytes);
    return fault === undefined ? undefined : unparsed(fault);
  }

  #faultOf(message: Uint8Array): WaymarkError | undefined {
    const { encoding } = this.arrival;
    if (encoding === "json" && !this.#isAdmitted) this.#text ??= message;
    return this.#method.requestFault(message, encoding);
  }

  /** Replaces the charge for inflating the previous message. The new charge is released when the call receives the message or ends. */
  hold(inflation: { release(): void }): void {
    this.#inflation?.release();
    this.#inflation = inflation;
  }

  /** Releases the bytes of the body, which were decoded into a message or are discarded. */
  release(): void {
    this.arrival.budget.usedBytes -= this.#heldBytes;
    this.#heldBytes = 0;
    this.#inflation?.release();
  }

  /** Returns the text of the first JSON message. */
  readText(): string {
    return Buffer.from(this.#text ?? []).toString();
  }
}

/** `encoding` is a value of `content-encoding`. */
function isPlain(encoding: string | undefined): boolean {
  return encoding === undefined || encoding === "identity";
}

export function unparsed(fault: WaymarkError): ConnectError {
  return new ConnectError(fault.message, Code.InvalidArgument, undefined, undefined, fault);
}

/** Returns the message of a handler's response. Encoded responses are decoded again, because Connect encodes messages itself. */
export function decodedAnswer(desc: DescMessage, answer: Message | Uint8Array): Message {
  return answer instanceof Uint8Array ? fromBinary(desc, answer) : answer;
}

/** Converts a status to a Connect error, with `Retry-After` if a retry may succeed. */
export function connectError(status: RpcStatus): ConnectError {
  // oxlint-disable-next-line typescript/no-unsafe-enum-assignment -- both enums have gRPC's numbers.
  const error = new ConnectError(status.message, status.code, undefined, [...status.details]);
  const seconds = retryAfterSeconds(status);
  if (seconds !== undefined) error.metadata.set("retry-after", String(seconds));
  return error;
}

/** Returns a status as Connect error JSON, so that one client can read the errors of routes, events and rpcs. */
export function errorJson({ code, message, details }: RpcStatus): JsonValue {
  const shown = details.map(({ desc, value }) => ({
    type: desc.typeName,
    value: base64Encode(toBinary(desc, value), "std_raw"),
    debug: toJson(desc, value),
  }));
  return { code: codeName(code).toLowerCase(), message, details: shown };
}

/** Returns the value of `Retry-After` in whole seconds (at least 1). Returns undefined when a retry cannot succeed. */
export function retryAfterSeconds(status: RpcStatus): number | undefined {
  for (const { desc, value } of status.details) {
    if (desc !== RetryInfoSchema) continue;
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the value has the type of its desc.
    const { retryDelay } = value as RetryInfo;
    return retryDelay === undefined ? undefined : Math.max(1, Math.ceil(durationMs(retryDelay) / 1000));
  }
  return undefined;
}

/** Rewrites an error message from Connect, using the terms of this API. */
function apiMessage(text: string): string {
  const [, sizeBytes, maxBytes] = /^message size (\d+) is larger than configured readMaxBytes (\d+)$/.exec(text) ?? [];
  if (maxBytes !== undefined) return `message too large: it has ${sizeBytes} bytes, and the limit is ${maxBytes}`;
  return text.replace(/^protocol error: /, "").replace(/^parse binary: /, "invalid protobuf: ");
}

/** Returns the error for request bytes that Connect could not read. */
export function readingRefusal(error: ConnectError): WaymarkError {
  const { code, rawMessage, cause } = error;
  if (cause instanceof WaymarkError) return cause;
  const text = apiMessage(rawMessage);
  if (code === Code.ResourceExhausted) return new WaymarkError("quota_exceeded", text, { cause: error });
  if (code === Code.Unimplemented) return new WaymarkError("unimplemented", text, { cause: error });
  const [, protocol, timeout = ""] = /^invalid (connect|grpc) timeout value: (.*)$/.exec(text) ?? [];
  if (protocol === undefined) return invalid("request", text);
  const [header, rule] =
    protocol === "grpc" ? ["grpc-timeout", "8 digits and a unit (H, M, S, m, u or n)"] : ["connect-timeout-ms", "10 digits"];
  return invalid(header, `invalid timeout "${timeout.slice(0, 32)}": expected 1 to ${rule}`);
}

/** Whether the client cancelled the call, so that no response can be delivered. */
export function isGivenUp(error: unknown): boolean {
  return error instanceof ConnectError && (error.code === Code.Canceled || error.code === Code.Aborted);
}

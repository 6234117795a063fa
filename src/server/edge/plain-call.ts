/**
 * Unary JSON calls in the form that nearly every client uses: one POST without unusual headers, with a short body that arrives in one piece. These
 * calls are answered without Connect, which would take up most of their time. Connect answers all other calls.
 */
import { fromJsonString, type JsonReadOptions, type JsonWriteOptions, type Message, toJsonString } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { codeToHttpStatus, errorToJsonBytes } from "@connectrpc/connect/protocol-connect";
import { invalid, WaymarkError } from "../../lib/errors.ts";
import { type JsonText, jsonTextOf } from "../../lib/formats/protojson.ts";
import type { HeaderReader, MethodChain } from "../chain.ts";
import { findJsonFault } from "../json-fault.ts";
import { UndecodedRequest } from "../request-shape/plan.ts";
import type { RpcStatus } from "../status.ts";
import { connectError, decodedAnswer, type EdgeArrival, readingRefusal, TOO_MANY_UNFINISHED } from "./call.ts";
import type { EdgeRequest } from "./sockets.io.ts";

/** Maximum size of a body that is read without Connect. For longer bodies, the cost of Connect matters less. */
const MAX_BODY_BYTES = 16_384;
const JSON_TYPE = /^application\/json(?:; ?charset=utf-8)?$/i;
const LENGTH = /^[1-9]\d{0,5}$/;
const TIMEOUT = /^\d{1,10}$/;

/** The byte order mark of UTF-8, which a decoder skips. */
const MARK = [0xef, 0xbb, 0xbf] as const;

type JsonOptions = Partial<JsonReadOptions & JsonWriteOptions>;

export interface PlainAnswer {
  readonly status: number;
  readonly headers: Iterable<readonly [string, string]>;
  /** JSON. Each character in this string represents one byte of the UTF-8 encoding. */
  readonly text: string;
}

/**
 * Returns the complete body of a request of `sizeBytes`, if its first piece is the complete body. Otherwise returns undefined. The body can then be
 * read as if this function had not been called.
 */
export function bodyInOnePiece(request: EdgeRequest, sizeBytes: number): Promise<Uint8Array | undefined> {
  return new Promise((resolve) => {
    if (request.destroyed) return resolve(undefined);
    const settle = (piece: Uint8Array | undefined) => {
      request.off("data", look);
      request.off("close", leave);
      resolve(piece);
    };
    const leave = () => settle(undefined);
    const look = (piece: Uint8Array) => {
      if (piece.length === sizeBytes) return settle(piece);
      request.pause();
      request.unshift(piece);
      leave();
    };
    request.on("data", look);
    request.once("close", leave);
  });
}

/** Returns the client's deadline in ms. Undefined if the client has sent none, or an invalid one. */
export function sentTimeoutMs(header: HeaderReader): number | undefined {
  const timeout = header("connect-timeout-ms") ?? "";
  return TIMEOUT.test(timeout) ? Number(timeout) : undefined;
}

/** Returns the request in a body, or the error in the body. */
export function readJson(chain: MethodChain, body: Uint8Array, options: JsonOptions): Message | WaymarkError {
  const fault = chain.requestFault(body, "json");
  if (fault !== undefined) return fault;
  const { input } = chain.desc;
  const markBytes = body[0] === MARK[0] && body[1] === MARK[1] && body[2] === MARK[2] ? MARK.length : 0;
  const text = Buffer.from(body.buffer, body.byteOffset + markBytes, body.length - markBytes).toString("utf8");
  try {
    return fromJsonString(input, text, options);
  } catch (thrown) {
    const found = findJsonFault(input, text);
    return found === undefined ? readingRefusal(ConnectError.from(thrown, Code.InvalidArgument)) : invalid(found.field, found.description);
  }
}

/** Answers plain calls of one method. */
export class PlainMethod {
  readonly #chain: MethodChain;
  readonly #maxBodyBytes: number;
  readonly #textOf: JsonText | undefined;
  readonly #jsonOptions: JsonOptions;

  constructor(chain: MethodChain, { maxBytes, jsonOptions }: { readonly maxBytes: number; readonly jsonOptions: JsonOptions }) {
    this.#chain = chain;
    this.#jsonOptions = jsonOptions;
    this.#maxBodyBytes = Math.min(MAX_BODY_BYTES, maxBytes);
    this.#textOf = jsonTextOf(chain.desc.output);
  }

  /** Returns the length of a request's body. Returns undefined when the method or the headers require that Connect answer the request. */
  lengthOf(httpMethod: string, header: HeaderReader): number | undefined {
    if (httpMethod !== "POST" || !JSON_TYPE.test(header("content-type") ?? "") || header("content-encoding") !== undefined)
      return undefined;
    const length = header("content-length") ?? "";
    if (!LENGTH.test(length) || Number(length) > this.#maxBodyBytes) return undefined;
    return header("connect-timeout-ms") === undefined || sentTimeoutMs(header) !== undefined ? Number(length) : undefined;
  }

  /** Answers the request contained in a body. Calls `done` once. */
  answer(body: Uint8Array, arrival: EdgeArrival, done: (answer: PlainAnswer) => void): void {
    const { header, meter, budget } = arrival;
    arrival.timeoutMs = sentTimeoutMs(header);
    if (meter !== undefined) meter.usefulBytes += body.length;
    const read = (bytes: Uint8Array) =>
      budget.usedBytes + bytes.length > budget.maxBytes
        ? new WaymarkError("quota_exceeded", TOO_MANY_UNFINISHED)
        : readJson(this.#chain, bytes, this.#jsonOptions);
    this.#chain.unary(new UndecodedRequest(body, read), {
      arrival,
      succeed: (answer) => done({ status: 200, headers: [], text: this.#jsonOf(answer) }),
      fail: (status) => done(this.#refused(status)),
    });
  }

  #jsonOf(answer: Message | Uint8Array): string {
    const text = answer instanceof Uint8Array ? this.#textOf?.(answer) : undefined;
    if (text !== undefined) return text;
    const { output } = this.#chain.desc;
    return Buffer.from(toJsonString(output, decodedAnswer(output, answer), this.#jsonOptions)).toString("latin1");
  }

  #refused(status: RpcStatus): PlainAnswer {
    const error = connectError(status);
    const bytes = errorToJsonBytes(error, this.#jsonOptions);
    return { status: codeToHttpStatus(error.code), headers: error.metadata, text: Buffer.from(bytes).toString("latin1") };
  }
}

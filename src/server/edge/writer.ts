/** Writes responses of the HTTP edge as fast as the client reads them, over HTTP/1.1 and HTTP/2. */
import { constants } from "node:http2";
import type { Writable } from "node:stream";
import type { UniversalServerResponse } from "@connectrpc/connect/protocol";
import type { RouteResponse } from "../http-routes.ts";
import type { TurnBudget } from "../turn-budget.ts";
import type { EdgeArrival } from "./call.ts";
import type { EdgeResponse } from "./sockets.io.ts";

/** The recipient of an answer, and the counters for its unread bytes. */
type AnswerRecipient = Pick<EdgeArrival, "address" | "meter" | "unread">;

/** Size of the slices in which a long answer is written. Each slice that the client reads counts as progress. */
const SLICE_BYTES = 64 * 1024;

/** Whether the client can no longer receive the response. A response that is queued on a connection does not have a socket yet. */
export function isClosed(response: EdgeResponse): boolean {
  if ("stream" in response) return response.stream.closed || response.stream.destroyed;
  return response.destroyed || response.closed || response.socket?.destroyed === true;
}

/** Writes a complete answer. If the answer consists of pieces, they are built within the event-loop time budget that all streams share. */
export async function write(
  response: EdgeResponse,
  answer: RouteResponse,
  to: AnswerRecipient & { readonly requestId: string; readonly isHead?: boolean; readonly turn: TurnBudget },
): Promise<void> {
  const { body } = answer;
  const out: Writable = response;
  begin(response, answer.status);
  for (const [name, value] of Object.entries(answer.headers)) setHeader(response, name, value);
  response.setHeader("content-type", answer.contentType);
  response.setHeader("x-request-id", to.requestId);
  const whole = typeof body === "string" || body instanceof Uint8Array ? body : undefined;
  if (whole !== undefined) response.setHeader("content-length", Buffer.byteLength(whole));
  if (to.isHead !== true) {
    if (typeof body === "string" || body instanceof Uint8Array) await writeBytes(response, Buffer.from(body), to);
    else await writePieces(response, body, to);
  }
  out.end();
}

/** The challenge for a client without a valid credential (RFC 9110, section 11.6.1). There is no registered scheme for API keys. */
const CHALLENGE = 'Bearer realm="waymark"';

/** This function does not use writeHead, because its signatures for the two response types are incompatible. */
function begin(response: EdgeResponse, status: number): void {
  response.statusCode = status;
  if (status === 401) response.setHeader("www-authenticate", CHALLENGE);
}

/** Sets a header. The value of `vary` that the listener set earlier is kept. */
function setHeader(response: EdgeResponse, name: string, value: string): void {
  const previous = name === "vary" ? response.getHeader(name) : undefined;
  response.setHeader(name, typeof previous === "string" ? `${previous}, ${value}` : value);
}

/** The JSON response to a call. */
interface JsonAnswer {
  readonly status: number;
  readonly headers: Iterable<readonly [string, string]>;
  /** A string has one byte per character. Node writes it together with the head, at half the cost of two writes. */
  readonly body: string | Uint8Array;
  readonly encoding: string | undefined;
}

/** Writes the JSON response to a call. */
export async function writeJson(
  response: EdgeResponse,
  { status, headers, body, encoding }: JsonAnswer,
  to: AnswerRecipient & { readonly requestId: string },
): Promise<void> {
  begin(response, status);
  for (const [name, value] of headers) setHeader(response, name, value);
  response.setHeader("content-type", "application/json");
  response.setHeader("x-request-id", to.requestId);
  if (encoding !== undefined) response.setHeader("content-encoding", encoding);
  response.setHeader("content-length", body.length);
  const out: Writable = response;
  if (to.meter !== undefined || body.length > SLICE_BYTES) {
    await writeBytes(response, typeof body === "string" ? Buffer.from(body, "latin1") : body, to);
    out.end();
    return;
  }
  if (typeof body === "string") out.end(body, "latin1");
  else out.end(body);
  if (out.writableLength > 0) await untilFlushed(response, body.length, to);
}

/** Resolves when the connection has accepted a complete short response, or has closed. */
async function untilFlushed(response: EdgeResponse, sizeBytes: number, { unread, address }: AnswerRecipient): Promise<void> {
  const waiting = unread.add(sizeBytes, address, () => abort(response));
  const out: Writable = response;
  await new Promise((resolve) => {
    out.once("finish", resolve);
    out.once("close", resolve);
  });
  waiting.end();
}

async function writePieces(
  response: EdgeResponse,
  pieces: Iterable<string> | AsyncIterable<string>,
  to: AnswerRecipient & { readonly turn: TurnBudget },
): Promise<void> {
  const { turn } = to;
  const inTurn = () => new Promise<void>((resolve) => (turn.mayAct() ? resolve() : turn.wait(resolve)));
  await inTurn();
  for await (const piece of pieces) {
    if (isClosed(response)) return;
    if (piece !== "") await writeBytes(response, Buffer.from(piece), to);
    await inTurn();
  }
}

/**
 * Writes Connect's response. Requests the next chunk only when the connection has accepted the previous chunk, so that one chunk is in flight.
 * Reports through `signal` that the client disconnected. Connect's own writer first fills the stream's 64 KiB, and waits forever on a stream that
 * closes while it is full.
 */
export async function writeAnswer(
  response: EdgeResponse,
  answer: UniversalServerResponse,
  to: AnswerRecipient & { readonly signal: AbortSignal },
): Promise<void> {
  const chunks = answer.body?.[Symbol.asyncIterator]();
  const isGone = () => to.signal.aborted || isClosed(response);
  try {
    // Headers are written after the first chunk, because the implementation may set headers until then.
    let read = await chunks?.next();
    if (isGone()) return;
    begin(response, answer.status);
    for (const [name, value] of answer.header ?? []) setHeader(response, name, value);
    while (read !== undefined && read.done !== true) {
      await writeBytes(response, read.value, to);
      if (isGone()) return;
      read = await chunks?.next();
    }
    if (isGone()) return;
    if (answer.trailer !== undefined) {
      // A response without a body would end with its headers and lose the trailers.
      if (!response.headersSent) sendHeaders(response);
      response.addTrailers(Object.fromEntries(respelled(answer.trailer)));
    }
    const out: Writable = response;
    out.end();
  } finally {
    // Stops a producer that has more data. Does nothing if the producer has finished. Errors from the producer no longer matter.
    chunks?.return?.().catch(() => {});
  }
}

/**
 * Encodes `grpc-message` again. Connect encodes more characters than gRPC specifies, and clients that follow the specification would show `%3A` to
 * users.
 */
function respelled(trailer: Headers): Headers {
  const message = trailer.get("grpc-message");
  if (message !== null) trailer.set("grpc-message", decodeURIComponent(message).replaceAll(/[^ -$&-~]/gu, encodeURIComponent));
  return trailer;
}

function sendHeaders(response: EdgeResponse): void {
  if (!("stream" in response)) response.writeHead(response.statusCode);
  else response.writeHead(response.statusCode);
}

/**
 * Writes part of an answer. Resolves when the connection has accepted the bytes or has closed. Until then, the bytes are counted as unread. Each
 * accepted slice counts as progress.
 */
async function writeBytes(
  response: EdgeResponse,
  bytes: Uint8Array,
  to: AnswerRecipient & { readonly signal?: AbortSignal },
): Promise<void> {
  const { meter, signal, unread, address } = to;
  const waiting = unread.add(bytes.length, address, () => abort(response));
  let leftBytes = bytes.length;
  if (meter !== undefined) meter.pendingBytes += leftBytes;
  do {
    const slice = bytes.subarray(bytes.length - leftBytes, bytes.length - leftBytes + SLICE_BYTES);
    await writeSlice(response, slice, signal);
    waiting.progress(slice.length);
    if (meter !== undefined) meter.pendingBytes -= slice.length;
    leftBytes -= slice.length;
    if (isClosed(response) || signal?.aborted === true) break;
  } while (leftBytes > 0);
  if (meter !== undefined) meter.pendingBytes -= leftBytes;
  waiting.end();
}

/** Resolves when the connection has accepted the slice or has closed. */
async function writeSlice(response: EdgeResponse, slice: Uint8Array, signal: AbortSignal | undefined): Promise<void> {
  const out: Writable = response;
  const { promise, resolve } = Promise.withResolvers<undefined>();
  const settle = () => resolve(undefined);
  out.once("close", settle);
  signal?.addEventListener("abort", settle);
  out.write(slice, settle);
  await promise;
  out.off("close", settle);
  signal?.removeEventListener("abort", settle);
}

/** Aborts an answer that the client does not read, by closing the connection (HTTP/1.1) or the stream (HTTP/2). */
function abort(response: EdgeResponse): void {
  if (!("stream" in response)) response.destroy();
  else response.stream.close(constants.NGHTTP2_CANCEL);
}

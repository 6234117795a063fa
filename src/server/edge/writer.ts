/** Writes answers of the HTTP edge as fast as the client takes them, on HTTP/1.1 and HTTP/2 alike. */
import { ServerResponse } from "node:http";
import type { Writable } from "node:stream";
import type { UniversalServerResponse } from "@connectrpc/connect/protocol";
import type { Answer } from "../http-routes.ts";
import type { EdgeResponse } from "./sockets.io.ts";

/** Response bytes handed to a connection and not known to be taken. */
interface Meter {
  pendingBytes: number;
}

/** Whether the client can no longer take the answer. An answer that waits for its turn on a connection has no socket yet. */
export function isClosed(response: EdgeResponse): boolean {
  return response.destroyed || response.closed || response.socket?.destroyed === true;
}

/** Writes a whole answer; one in pieces with a turn of the event loop between two. */
export async function write(
  response: EdgeResponse,
  answer: Answer,
  to: { readonly requestId: string; readonly isHead?: boolean },
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
    if (typeof body === "string" || body instanceof Uint8Array) out.write(body);
    else await writePieces(response, body);
  }
  out.end();
}

/** What a client without a good credential is told to show (RFC 9110, section 11.6.1); API keys have no registered scheme to name. */
const CHALLENGE = 'Bearer realm="waymark"';

/** Not writeHead: the two response types have no common signature of it. */
function begin(response: EdgeResponse, status: number): void {
  response.statusCode = status;
  if (status === 401) response.setHeader("www-authenticate", CHALLENGE);
}

/** Sets a header. `vary` keeps what the listener set before. */
function setHeader(response: EdgeResponse, name: string, value: string): void {
  const said = name === "vary" ? response.getHeader(name) : undefined;
  response.setHeader(name, typeof said === "string" ? `${said}, ${value}` : value);
}

/** A call's answer in JSON. */
interface JsonAnswer {
  readonly status: number;
  readonly headers: Iterable<readonly [string, string]>;
  /** A text has one byte a character: Node writes it together with the head, for half of what two writes cost. */
  readonly body: string | Uint8Array;
  readonly encoding: string | undefined;
}

/** Writes the JSON of a call. */
export async function writeJson(
  response: EdgeResponse,
  { status, headers, body, encoding }: JsonAnswer,
  { requestId, meter }: { readonly requestId: string; readonly meter: Meter | undefined },
): Promise<void> {
  begin(response, status);
  for (const [name, value] of headers) setHeader(response, name, value);
  response.setHeader("content-type", "application/json");
  response.setHeader("x-request-id", requestId);
  if (encoding !== undefined) response.setHeader("content-encoding", encoding);
  response.setHeader("content-length", body.length);
  const out: Writable = response;
  if (meter !== undefined) {
    await writeChunk(response, typeof body === "string" ? Buffer.from(body, "latin1") : body, { meter });
    out.end();
  } else if (typeof body === "string") out.end(body, "latin1");
  else out.end(body);
}

async function writePieces(response: EdgeResponse, pieces: Iterable<string>): Promise<void> {
  for (const piece of pieces) {
    if (isClosed(response)) return;
    await writeChunk(response, Buffer.from(piece));
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/**
 * Writes what Connect answers: asks for the next chunk only when the one before was taken, so that one is in flight, and
 * tells it when the client is gone (`signal`). Connect's own writer fills the stream's 64 KiB first, and waits for ever on
 * one that closes while it is full.
 */
export async function writeAnswer(
  response: EdgeResponse,
  answer: UniversalServerResponse,
  to: { readonly signal: AbortSignal; readonly meter: Meter | undefined },
): Promise<void> {
  const chunks = answer.body?.[Symbol.asyncIterator]();
  const isGone = () => to.signal.aborted || isClosed(response);
  try {
    // Headers after the first chunk: until then the implementation may still set some.
    let read = await chunks?.next();
    if (isGone()) return;
    begin(response, answer.status);
    for (const [name, value] of answer.header ?? []) setHeader(response, name, value);
    while (read !== undefined && read.done !== true) {
      await writeChunk(response, read.value, to);
      if (isGone()) return;
      read = await chunks?.next();
    }
    if (isGone()) return;
    if (answer.trailer !== undefined) {
      // An answer without a body would end with its headers, and lose the trailers.
      if (!response.headersSent) sendHeaders(response);
      response.addTrailers(Object.fromEntries(respelled(answer.trailer)));
    }
    const out: Writable = response;
    out.end();
  } finally {
    // Ends a producer that has more to give; at its end this does nothing. Its errors do not matter any more.
    chunks?.return?.().catch(() => {});
  }
}

/** Connect encodes more of `grpc-message` than gRPC says, and clients that take gRPC at its word show `%3A` to people. */
function respelled(trailer: Headers): Headers {
  const message = trailer.get("grpc-message");
  if (message !== null) trailer.set("grpc-message", decodeURIComponent(message).replaceAll(/[^ -$&-~]/gu, encodeURIComponent));
  return trailer;
}

function sendHeaders(response: EdgeResponse): void {
  if (response instanceof ServerResponse) response.writeHead(response.statusCode);
  else response.writeHead(response.statusCode);
}

/** Resolves when the connection took the chunk, or is gone. */
async function writeChunk(
  response: EdgeResponse,
  chunk: Uint8Array,
  to: { readonly signal?: AbortSignal; readonly meter?: Meter | undefined } = {},
): Promise<void> {
  const out: Writable = response;
  const { promise, resolve } = Promise.withResolvers<undefined>();
  const settle = () => resolve(undefined);
  if (to.meter !== undefined) to.meter.pendingBytes += chunk.length;
  out.once("close", settle);
  to.signal?.addEventListener("abort", settle);
  out.write(chunk, settle);
  await promise;
  out.off("close", settle);
  to.signal?.removeEventListener("abort", settle);
  if (to.meter !== undefined) to.meter.pendingBytes -= chunk.length;
}

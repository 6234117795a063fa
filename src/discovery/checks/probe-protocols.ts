/**
 * Builds the requests for probes, and interprets the answers: an HTTP status or a gRPC health status. The rest of an answer is ignored.
 */
import { FAILURE } from "../../catalog/entry/checks.ts";
import { hostPort } from "../../lib/addresses.ts";
import { CODES, WaymarkError } from "../../lib/errors.ts";
import { WireReader, writeText, writeVarint } from "../../lib/protowire.ts";
import { type CheckOutcome, failed, PASSED } from "./threshold.ts";

/** Maximum number of bytes that are read from an answer. */
export const MAX_ANSWER_BYTES = 4096;

/**
 * Returns an HTTP/1.1 request without credentials. The host and path were validated with the entry: they contain no spaces or line breaks.
 */
export function httpRequest({ host, port, path }: { readonly host: string; readonly port: number; readonly path: string }): string {
  const fields = [`host: ${hostPort(host, port)}`, "user-agent: waymark-check", "accept: */*", "connection: close"];
  return `GET ${path} HTTP/1.1\r\n${fields.join("\r\n")}\r\n\r\n`;
}

const STATUS_LINE = /^HTTP\/1\.[01] (\d{3})(?: [^\r\n]*)?\r?\n/;
const HEAD_END = /\r?\n\r?\n/;

/** Reads the status of an answer as its bytes arrive. Skips informational answers (1xx). */
export class StatusReader {
  #text = "";
  #sizeBytes = 0;

  get hasBegun(): boolean {
    return this.#sizeBytes > 0;
  }

  /**
   * Adds bytes. Returns the status if it is complete, or `malformed` if no valid status can follow. Ignores bytes beyond the first 4 KiB.
   */
  push(bytes: Uint8Array): number | "malformed" | undefined {
    const accepted = bytes.subarray(0, MAX_ANSWER_BYTES - this.#sizeBytes);
    this.#sizeBytes += accepted.length;
    this.#text += Buffer.from(accepted.buffer, accepted.byteOffset, accepted.length).toString("latin1");
    for (;;) {
      const [line, digits = ""] = STATUS_LINE.exec(this.#text) ?? [];
      if (line === undefined) return this.#mayFollow() ? undefined : "malformed";
      const status = Number(digits);
      if (status >= 200) return status;
      const end = HEAD_END.exec(this.#text);
      if (status < 100 || (end === null && this.#sizeBytes >= MAX_ANSWER_BYTES)) return "malformed";
      if (end === null) return undefined;
      this.#text = this.#text.slice(end.index + end[0].length);
    }
  }

  /** Whether the bytes received so far can be the beginning of a status line. */
  #mayFollow(): boolean {
    const start = "HTTP/1.";
    const isStart = this.#text.startsWith(start) || start.startsWith(this.#text);
    return isStart && !this.#text.includes("\n") && this.#sizeBytes < MAX_ANSWER_BYTES;
  }
}

export const HEALTH_CHECK_PATH = "/grpc.health.v1.Health/Check";

/** `HealthCheckRequest` and `HealthCheckResponse` each have only one field. */
const SERVICE_TAG = 10;
const STATUS_TAG = 8;
const SERVING = 1;
const HEAD_BYTES = 8;

export function healthRequest(service: string): Uint8Array {
  if (service === "") return new Uint8Array();
  const bytes = new Uint8Array(HEAD_BYTES + 3 * service.length);
  return bytes.subarray(0, writeText(bytes, writeVarint(bytes, 0, SERVICE_TAG), service));
}

/** The result of a health check, as `callUnary` returns it. */
export interface HealthAnswer {
  readonly status: { readonly code: number };
  readonly message: Uint8Array | undefined;
  readonly isFromServer: boolean;
  readonly isMalformed: boolean;
}

/**
 * Converts the result of a health check to an outcome. `isGreeted`: whether the server's first frame was HTTP/2. A server that starts with anything
 * else does not support gRPC.
 */
export function healthOutcome({ status, message, isFromServer, isMalformed }: HealthAnswer, isGreeted: boolean): CheckOutcome {
  if (isMalformed) return failed(FAILURE.MALFORMED);
  if (!isFromServer)
    return failed(status.code === CODES.DEADLINE_EXCEEDED ? FAILURE.TIMEOUT : isGreeted ? FAILURE.REFUSED : FAILURE.MALFORMED);
  // A server without the `Health` service provides no information about its health.
  if (status.code === CODES.UNIMPLEMENTED) return failed(FAILURE.MALFORMED);
  if (status.code !== CODES.OK || message === undefined) return failed(FAILURE.NOT_SERVING);
  return outcomeOf(message);
}

function outcomeOf(message: Uint8Array): CheckOutcome {
  try {
    const reader = new WireReader(message);
    let status = 0;
    while (!reader.isDone()) {
      const tag = reader.tag();
      if (tag === STATUS_TAG) status = reader.varint();
      else reader.skip(tag);
    }
    return status === SERVING ? PASSED : failed(FAILURE.NOT_SERVING);
  } catch (error) {
    if (!(error instanceof WaymarkError)) throw error;
    return failed(FAILURE.MALFORMED);
  }
}

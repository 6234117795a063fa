/** DNS over HTTP (RFC 8484): reads the DNS message of a request, with bounds, and makes the HTTP answer of what DNS answers. Faults of DNS are inside of answers with status 200. */
import { invalid, WaymarkError } from "../../lib/errors.ts";
import type { Caller } from "../../policy/identity/caller.ts";
import type { CallChain } from "../chain.ts";
import { errorAnswer, methodNotAllowed, type RouteResponse } from "../http-routes.ts";
import { draining, refusal } from "../status.ts";
import type { EdgeArrival } from "./call.ts";
import { joined } from "./messages.ts";
import { quoted } from "./request.io.ts";
import type { EdgeRequest } from "./sockets.io.ts";

export const DNS_PATH = "/dns-query";
const MEDIA_TYPE = "application/dns-message";
/** As over TCP: a question with options needs a fraction of it. */
const MAX_QUERY_BYTES = 4096;
const MAX_QUERY_CHARS = Math.ceil((MAX_QUERY_BYTES * 4) / 3);
const BASE64URL = /^[\w-]+$/;
const STATUS = { TOO_LARGE: 413, URI_TOO_LONG: 414, MEDIA_TYPE: 415 } as const;

export interface DnsMessage {
  readonly bytes: Uint8Array;
  /** For how many seconds the client may keep it; undefined: not at all. */
  readonly freshSeconds: number | undefined;
}

/** Answers DNS messages. Undefined: the message is no question, or nobody is answered any more. */
export interface DnsMessages {
  answer(query: Uint8Array, caller: Caller): DnsMessage | Promise<DnsMessage | undefined> | undefined;
}

/** Answers a request to `DNS_PATH`. Rejects where the client goes away while it sends. */
export async function answerDnsQuery(
  request: EdgeRequest,
  arrival: EdgeArrival,
  to: { chain: CallChain; messages: DnsMessages },
): Promise<RouteResponse> {
  const { chain, messages } = to;
  const { method = "" } = request;
  if (method !== "GET" && method !== "HEAD" && method !== "POST") return methodNotAllowed("GET, HEAD, POST", method);
  const call = { requestId: arrival.requestId, service: "http", method: DNS_PATH };
  try {
    if (chain.isDraining) throw draining();
    // DNS itself refuses those who may not ask without a credential: the address may have a view.
    const caller = await chain.identify(arrival, call, true);
    chain.ports.limit?.(caller, "read", chain.ports.now().monoMs);
    const query = method === "POST" ? await bodyOf(request, arrival) : parameterOf(request.url ?? "");
    if (!(query instanceof Uint8Array)) return query;
    const answer = await messages.answer(query, caller);
    if (answer === undefined) throw chain.isDraining ? draining() : invalid("dns", "is no DNS query: a header of 12 bytes and QR 0");
    return answerOf(answer);
  } catch (thrown) {
    if (!(thrown instanceof WaymarkError)) throw thrown;
    return errorAnswer(chain.status(thrown, call));
  }
}

function answerOf({ bytes, freshSeconds }: DnsMessage): RouteResponse {
  const cache = freshSeconds === undefined ? "no-store" : `private, max-age=${freshSeconds}`;
  return { status: 200, contentType: MEDIA_TYPE, headers: { "cache-control": cache, vary: "authorization, x-api-key" }, body: bytes };
}

function parameterOf(target: string): Uint8Array | RouteResponse {
  const values = new URLSearchParams(target.slice(DNS_PATH.length)).getAll("dns");
  const [text = ""] = values;
  if (values.length !== 1) throw invalid("dns", `is there ${values.length} times; a GET has one DNS message in base64url`);
  if (text.length > MAX_QUERY_CHARS) return errorAnswer(refusal(tooLong(`${text.length} characters`)), STATUS.URI_TOO_LONG);
  const bytes = Buffer.from(text, "base64url");
  // Node skips what is no base64url, and the bits that are left over.
  if (!BASE64URL.test(text) || bytes.toString("base64url") !== text)
    throw invalid("dns", "is not base64url without padding (RFC 4648, section 5)");
  return bytes;
}

async function bodyOf(request: EdgeRequest, { header, budget, meter }: EdgeArrival): Promise<Uint8Array | RouteResponse> {
  const type = header("content-type") ?? "";
  if (type.split(";", 1)[0]?.trim().toLowerCase() !== MEDIA_TYPE)
    return wrongType("content-type", `${type === "" ? "is missing" : `is ${quoted(type)}`}; use ${MEDIA_TYPE}`);
  const coding = header("content-encoding") ?? "identity";
  if (coding !== "identity") return wrongType("content-encoding", `is ${quoted(coding)}; DNS messages are read as they are`);
  const large = errorAnswer(
    refusal(tooLong(header("content-length") === undefined ? "more" : `${header("content-length")} bytes`)),
    STATUS.TOO_LARGE,
  );
  if (Number(header("content-length") ?? 0) > MAX_QUERY_BYTES) return large;
  const pieces: Uint8Array[] = [];
  let sizeBytes = 0;
  try {
    // The answer must not take the connection along when the rest of the body is not read.
    const chunks: AsyncIterable<Uint8Array> = request.iterator({ destroyOnReturn: false });
    for await (const chunk of chunks) {
      sizeBytes += chunk.length;
      budget.usedBytes += chunk.length;
      if (meter !== undefined) meter.usefulBytes += chunk.length;
      if (sizeBytes > MAX_QUERY_BYTES) return large;
      if (budget.usedBytes > budget.maxBytes) throw new WaymarkError("quota_exceeded", "the server holds too many unfinished requests");
      pieces.push(chunk);
    }
  } finally {
    budget.usedBytes -= sizeBytes;
  }
  return joined(pieces);
}

function tooLong(has: string): WaymarkError {
  return invalid("dns", `has ${has}; a DNS query has at most ${MAX_QUERY_BYTES} bytes`);
}

function wrongType(field: string, fault: string): RouteResponse {
  return errorAnswer(refusal(invalid(field, fault)), STATUS.MEDIA_TYPE);
}

/**
 * DNS over HTTP (RFC 8484): reads the DNS message in a request, with limits, and converts the DNS response into an HTTP response. DNS errors are
 * inside responses with status 200.
 */
import { invalid, WaymarkError } from "../../lib/errors.ts";
import type { Caller } from "../../policy/identity/caller.ts";
import type { CallChain } from "../chain.ts";
import { errorAnswer, methodNotAllowed, type RouteResponse } from "../http-routes.ts";
import { draining, refusal } from "../status.ts";
import type { EdgeArrival } from "./call.ts";
import { type BodyLimits, readBody } from "./request-body.io.ts";
import type { EdgeRequest } from "./sockets.io.ts";

export const DNS_PATH = "/dns-query";
const MEDIA_TYPE = "application/dns-message";
/** Maximum size of a message, the same as over TCP. A question with options needs a fraction of this size. */
const MAX_QUERY_BYTES = 4096;
const MAX_QUERY_CHARS = Math.ceil((MAX_QUERY_BYTES * 4) / 3);
const BASE64URL = /^[\w-]+$/;
const URI_TOO_LONG = 414;
const BODY: BodyLimits = { mediaType: MEDIA_TYPE, maxBytes: MAX_QUERY_BYTES, tooLarge: tooLong };

export interface DnsMessage {
  readonly bytes: Uint8Array;
  /** Number of seconds for which the client may cache the response. Undefined if the response must not be cached. */
  readonly freshSeconds: number | undefined;
}

/** Answers DNS messages. Returns undefined if the message is not a question, or if the server no longer answers questions. */
export interface DnsMessages {
  answer(query: Uint8Array, caller: Caller): DnsMessage | Promise<DnsMessage | undefined> | undefined;
}

/** Answers a request to `DNS_PATH`. Rejects if the client disconnects while it sends the request. */
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
    // The DNS server itself rejects callers that need a credential, because an address may select a view that does not need one.
    const caller = await chain.identify(arrival, call, true);
    chain.ports.limit?.(caller, "read", chain.ports.now().monoMs);
    const query = method === "POST" ? await readBody(request, arrival, BODY) : parameterOf(request.url ?? "");
    if (!(query instanceof Uint8Array)) return query;
    const answer = await messages.answer(query, caller);
    if (answer === undefined)
      throw chain.isDraining ? draining() : invalid("dns", "is not a DNS query: expected a 12-byte header with the QR bit set to 0");
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
  if (values.length !== 1)
    throw invalid("dns", `must be set exactly once in a GET request, as a DNS message in base64url, but is set ${values.length} times`);
  if (text.length > MAX_QUERY_CHARS) return errorAnswer(refusal(tooLong(`${text.length} characters`)), URI_TOO_LONG);
  const bytes = Buffer.from(text, "base64url");
  // Node ignores characters that are not base64url, and leftover bits.
  if (!BASE64URL.test(text) || bytes.toString("base64url") !== text)
    throw invalid("dns", "must be base64url without padding (RFC 4648, section 5)");
  return bytes;
}

function tooLong(has: string): WaymarkError {
  return invalid("dns", `has ${has}; a DNS query has at most ${MAX_QUERY_BYTES} bytes`);
}

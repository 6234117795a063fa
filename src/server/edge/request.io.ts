/** Converts an HTTP edge request to the form that Connect's handlers expect, and checks its host. */
import type { IncomingHttpHeaders } from "node:http";
import { Http2ServerRequest } from "node:http2";
import type { UniversalServerRequest } from "@connectrpc/connect/protocol";
import { invalid, type WaymarkError } from "../../lib/errors.ts";
import type { EdgeRequest, EdgeResponse } from "./sockets.io.ts";

const RIGHT_HOST = "use the name or address of this node with its port, such as node1.example:17480";

export function authorityOf(request: EdgeRequest): string | undefined {
  if (!(request instanceof Http2ServerRequest)) return request.headers.host;
  return request.authority === "" ? request.headers.host : request.authority;
}

/**
 * An absolute HTTP URL without user information, which HTTP/1.1 allows as a request target. User information in the URL is an error (RFC 9110,
 * section 4.2.4).
 */
const ABSOLUTE_FORM = /^https?:\/\/(?<authority>[^/?#@]+)(?<target>[/?][^]*)?$/i;

/** If the request target is an absolute URL, replaces it with its path and replaces the Host header with the URL's host (RFC 9112, section 3.2.2). */
export function readAbsoluteForm(request: EdgeRequest): void {
  if (request instanceof Http2ServerRequest || request.url === undefined || request.url.startsWith("/")) return;
  const { authority, target = "/" } = ABSOLUTE_FORM.exec(request.url)?.groups ?? {};
  if (authority === undefined) return;
  request.url = target.startsWith("/") ? target : `/${target}`;
  request.headers.host = authority;
}

/**
 * Rejects a request with two Host headers (RFC 9112 §3.2), because a proxy in front may have used the other header. Node silently uses the first
 * header.
 */
export function twoHostsFault({ rawHeaders }: EdgeRequest): WaymarkError | undefined {
  let count = 0;
  for (let at = 0; at < rawHeaders.length; at += 2) if (rawHeaders[at]?.toLowerCase() === "host") count += 1;
  return count > 1 ? invalid("host", `appears ${count} times: send one Host header`) : undefined;
}

/** The last valid authority, which is cached because nearly all requests to a node have the same authority. */
let lastRight = "";

/**
 * Returns an error if Connect cannot build a URL with this authority. Connect appends a method's path to the authority and throws if the result is
 * not a URL.
 */
export function urlFault(request: EdgeRequest): WaymarkError | undefined {
  const authority = (request instanceof Http2ServerRequest ? request.authority : request.headers.host) ?? "";
  if (authority === lastRight && authority !== "") return undefined;
  if (authority === "") return invalid("host", `is empty: ${RIGHT_HOST}`);
  if (!URL.canParse(`http://${authority}`)) return invalid("host", `${quoted(authority)} is not a valid host: ${RIGHT_HOST}`);
  lastRight = authority;
  return undefined;
}

/** One error is shared by all calls, because no client receives it. */
const CLIENT_GONE = new Error("the client disconnected");

/**
 * Converts a request for Connect's handlers. HOT: runs once per call. Connect's own conversion of Node's requests creates an error with a stack trace
 * even for each successful call, which is a tenth of the call's cost.
 */
export function universalRequest(request: EdgeRequest, response: EdgeResponse): UniversalServerRequest {
  const gone = new AbortController();
  const abort = () => gone.abort(CLIENT_GONE);
  request.once("error", abort);
  response.once("close", abort);
  return {
    httpVersion: request.httpVersion,
    method: request.method ?? "",
    url: new URL(request.url ?? "", `http://${authorityOf(request) ?? ""}`).href,
    header: webHeaders(request.headers),
    // Connect stops reading a body that it rejects. The connection must remain open for the response.
    body: request.iterator({ destroyOnReturn: false }),
    signal: gone.signal,
  };
}

/** Quotes and shortens text from a client for use in a message. */
export function quoted(text: string): string {
  return JSON.stringify(text.length > 64 ? `${text.slice(0, 64)}…` : text);
}

/** Returns the headers without HTTP/2 pseudo-headers. */
function webHeaders(headers: IncomingHttpHeaders): Headers {
  const made = new Headers();
  for (const [name, value] of Object.entries(headers)) {
    if (value === undefined || name.startsWith(":")) continue;
    // Node keeps the values of Set-Cookie separate. Set-Cookie is a response header, but clients may send it.
    for (const one of Array.isArray(value) ? value : [value]) made.append(name, one);
  }
  return made;
}

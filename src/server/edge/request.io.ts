/** Converts a request of the HTTP edge to the form of Connect's handlers, and checks its host. */
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
 * An absolute HTTP URL without user information, which HTTP/1.1 allows as a request target. User information in it is an error (RFC 9110,
 * section 4.2.4).
 */
const ABSOLUTE_FORM = /^https?:\/\/(?<authority>[^/?#@]+)(?<target>[/?][^]*)?$/i;

/** Replaces an absolute URL as a request target by its path, and the Host header by the host of the URL (RFC 9112, section 3.2.2). */
export function readAbsoluteForm(request: EdgeRequest): void {
  if (request instanceof Http2ServerRequest || request.url === undefined || request.url.startsWith("/")) return;
  const { authority, target = "/" } = ABSOLUTE_FORM.exec(request.url)?.groups ?? {};
  if (authority === undefined) return;
  request.url = target.startsWith("/") ? target : `/${target}`;
  request.headers.host = authority;
}

/**
 * Rejects a request with two Host lines (RFC 9112 §3.2), because a proxy in front may have used the other one. Node silently uses the
 * first.
 */
export function twoHostsFault({ rawHeaders }: EdgeRequest): WaymarkError | undefined {
  let count = 0;
  for (let at = 0; at < rawHeaders.length; at += 2) if (rawHeaders[at]?.toLowerCase() === "host") count += 1;
  return count > 1 ? invalid("host", `is given ${count} times: send one Host header`) : undefined;
}

/** The last valid authority: nearly all requests to a node have the same one. */
let lastRight = "";

/**
 * Returns the error for an authority with which Connect cannot build a URL. Connect appends the path of a method to the authority, and
 * throws if the result is not a URL.
 */
export function urlFault(request: EdgeRequest): WaymarkError | undefined {
  const authority = (request instanceof Http2ServerRequest ? request.authority : request.headers.host) ?? "";
  if (authority === lastRight && authority !== "") return undefined;
  if (authority === "") return invalid("host", `is empty: ${RIGHT_HOST}`);
  if (!URL.canParse(`http://${authority}`)) return invalid("host", `${quoted(authority)} is not a valid host: ${RIGHT_HOST}`);
  lastRight = authority;
  return undefined;
}

/** One shared error for all calls, because no client receives it. */
const CLIENT_GONE = new Error("the client disconnected");

/**
 * Converts a request for Connect's handlers. HOT: once per call. Connect's own conversion of Node's requests creates an error with a stack
 * even for each successful call: a tenth of the cost of the call.
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
    // Connect stops reading a body that it rejects. The connection must stay open for the response.
    body: request.iterator({ destroyOnReturn: false }),
    signal: gone.signal,
  };
}

/** Quotes and shortens text of a client for use in a message. */
export function quoted(text: string): string {
  return JSON.stringify(text.length > 64 ? `${text.slice(0, 64)}…` : text);
}

/** Returns the headers without the pseudo-headers of HTTP/2. */
function webHeaders(headers: IncomingHttpHeaders): Headers {
  const made = new Headers();
  for (const [name, value] of Object.entries(headers)) {
    if (value === undefined || name.startsWith(":")) continue;
    // Node keeps the values of Set-Cookie separate. It is a response header, but clients may send it.
    for (const one of Array.isArray(value) ? value : [value]) made.append(name, one);
  }
  return made;
}

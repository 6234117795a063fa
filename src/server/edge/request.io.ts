/** A request of the HTTP edge as Connect's handlers take it. */
import type { IncomingHttpHeaders } from "node:http";
import { Http2ServerRequest } from "node:http2";
import type { UniversalServerRequest } from "@connectrpc/connect/protocol";
import { invalid, type WaymarkError } from "../../lib/errors.ts";
import type { EdgeRequest, EdgeResponse } from "./sockets.io.ts";

const RIGHT_HOST = "name this node or its address, with the port behind it, like node1.example:17480";

export function authorityOf(request: EdgeRequest): string | undefined {
  if (!(request instanceof Http2ServerRequest)) return request.headers.host;
  return request.authority === "" ? request.headers.host : request.authority;
}

/** A URL of HTTP without a user, as HTTP/1.1 lets a client also write what it asks for. A user in it would be an error (RFC 9110, 4.2.4). */
const ABSOLUTE_FORM = /^https?:\/\/(?<authority>[^/?#@]+)(?<target>[/?][^]*)?$/i;

/** A request whose target is a whole URL is one for its path, and the host in the URL counts, not that of the Host line (RFC 9112, 3.2.2). */
export function readAbsoluteForm(request: EdgeRequest): void {
  if (request instanceof Http2ServerRequest || request.url === undefined || request.url.startsWith("/")) return;
  const { authority, target = "/" } = ABSOLUTE_FORM.exec(request.url)?.groups ?? {};
  if (authority === undefined) return;
  request.url = target.startsWith("/") ? target : `/${target}`;
  request.headers.host = authority;
}

/** Two Host lines are refused (RFC 9112 §3.2): a proxy in front may have gone by the other one. Node silently takes the first. */
export function twoHostsFault({ rawHeaders }: EdgeRequest): WaymarkError | undefined {
  let count = 0;
  for (let at = 0; at < rawHeaders.length; at += 2) if (rawHeaders[at]?.toLowerCase() === "host") count += 1;
  return count > 1 ? invalid("host", `is there ${count} times: send one Host line`) : undefined;
}

/** The authority that was found right last: nearly all requests to a node name the same one. */
let lastRight = "";

/** Connect puts the path of a method behind the authority, and throws where that makes no URL. */
export function urlFault(request: EdgeRequest): WaymarkError | undefined {
  const authority = (request instanceof Http2ServerRequest ? request.authority : request.headers.host) ?? "";
  if (authority === lastRight && authority !== "") return undefined;
  if (authority === "") return invalid("host", `is empty: ${RIGHT_HOST}`);
  if (!URL.canParse(`http://${authority}`)) return invalid("host", `${quoted(authority)} is no host: ${RIGHT_HOST}`);
  lastRight = authority;
  return undefined;
}

/** One error for all calls, because no client reads it. */
const CLIENT_GONE = new Error("the client went away");

/**
 * What Connect's handlers take. HOT: once a call. Connect's own reading of Node's requests makes an error, with its stack, for each
 * call that ends well too: a tenth of what the call costs.
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
    // Connect leaves a body it refuses half-read; that must not take the connection, with our answer, along.
    body: request.iterator({ destroyOnReturn: false }),
    signal: gone.signal,
  };
}

/** Text of a client, as it may stand in a message. */
export function quoted(text: string): string {
  return JSON.stringify(text.length > 64 ? `${text.slice(0, 64)}…` : text);
}

/** Without the pseudo-headers of HTTP/2. */
function webHeaders(headers: IncomingHttpHeaders): Headers {
  const made = new Headers();
  for (const [name, value] of Object.entries(headers)) {
    if (value === undefined || name.startsWith(":")) continue;
    // Node keeps the values of Set-Cookie apart. It is a header of answers, but clients may send it.
    for (const one of Array.isArray(value) ? value : [value]) made.append(name, one);
  }
  return made;
}

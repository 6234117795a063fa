/**
 * Decides which URLs of another cluster may be called. A server may forward URLs from an untrusted source, so URLs that point to the program's own
 * machine are rejected.
 */
import { isHost, splitHostPort, unsafeHostReason } from "../../lib/addresses.ts";
import { nodeOfSpiffeId, readAlternativeNames, SPIFFE } from "../../lib/certificates/spiffe.ts";
import { protocolOf, serverPort } from "../../lib/protocols.ts";

/** Maximum length of a URL. Longer URLs are rejected. */
const MAX_URL_LENGTH = 512;
/** Maximum number of URLs that are read for a cluster. */
const MAX_URLS = 16;

export interface IngressOptions {
  /** The server that provided the URLs, as `host:port`. */
  readonly from: string;
  /** Whether the cluster is called over TLS. */
  readonly isTls: boolean;
}

export interface IngressUrls {
  /** The servers that may be called, each as `host:port`: gRPC servers first, in the order in which they were listed. */
  readonly servers: readonly string[];
  /** The faults of the rejected URLs, as text for an error message. */
  readonly faults: readonly string[];
}

/** Divides URLs into servers that may be called and faults of rejected URLs. */
export function ingressIn(urls: readonly string[], options: IngressOptions): IngressUrls {
  const [grpc, http, faults]: [string[], string[], string[]] = [[], [], []];
  for (const [at, url] of urls.entries()) {
    const read = at < MAX_URLS ? readUrl(url, options) : `more than ${MAX_URLS} URLs`;
    if (typeof read === "string") faults.push(read);
    else (read.scheme.startsWith("grpc") ? grpc : http).push(read.server);
  }
  return { servers: [...new Set([...grpc, ...http])], faults };
}

function readUrl(url: string, { from, isTls }: IngressOptions): { readonly server: string; readonly scheme: string } | string {
  if (url.length > MAX_URL_LENGTH) return `longer than ${MAX_URL_LENGTH} characters`;
  const [, scheme = "", authority = ""] = /^([a-z][a-z0-9+.-]*):\/\/([^/?#]*)/i.exec(url) ?? [];
  const ownPort = serverPort(scheme);
  if (ownPort === undefined) return "scheme is not grpc or http";
  if (authority.includes("@")) return "contains credentials";
  const match = /^(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::(\d{1,5}))?$/.exec(authority);
  const [, v6, name = "", digits] = match ?? [];
  const host = v6 ?? name.replace(/\.$/, "");
  const port = Number(digits ?? ownPort);
  if (host === "" || port < 1 || port > 65_535 || !isHost(host)) return "no valid host and port";
  if (protocolOf(scheme).isTls === true && !isTls) return "requires TLS";
  const fault = nearFault(host, from);
  return fault ?? { server: `${v6 === undefined ? host : `[${v6}]`}:${port}`, scheme: scheme.toLowerCase() };
}

/**
 * Returns the fault of a host on this machine or this link, unless the server that named it (`host:port`) is local as well. Also used for the
 * addresses to which a name resolves.
 */
export function nearFault(host: string, from: string): string | undefined {
  return unsafeHostReason(host, splitHostPort(from).host);
}

// Checks whether a server certificate names a cluster. Node certificates have the form `spiffe://<trust
// domain>/waymark/cluster/<cluster>/node/<node>`.

/**
 * Returns the fault in a certificate. Returns undefined if the certificate has exactly one SPIFFE ID and it is the ID of a node of the cluster.
 * `alternativeNames` is in the Node.js format.
 */
export function clusterNameFault(alternativeNames: string, clusterId: string): string | undefined {
  const ids = (readAlternativeNames(alternativeNames)?.uris ?? []).filter((uri) => uri.startsWith(SPIFFE));
  const named = ids.length === 1 ? nodeOfSpiffeId(ids[0] ?? "")?.clusterId : undefined;
  if (named === clusterId) return undefined;
  const reason = named === undefined ? "it does not identify a cluster" : `it identifies a node of ${named}`;
  return `the certificate does not belong to a node of ${clusterId}: ${reason}`;
}

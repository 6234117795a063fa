/**
 * Decides which URLs of another cluster may be called. A server can forward URLs from an untrusted source, so URLs that point to the program's
 * own machine are rejected.
 */
import { isHost, splitHostPort, unsafeHostReason } from "../../lib/addresses.ts";
import { nodeOfSpiffeId, readAlternativeNames, SPIFFE } from "../../lib/certificates/spiffe.ts";
import { protocolOf, serverPort } from "../../lib/protocols.ts";

/** Maximum length of a URL that is read. */
const MAX_URL_LENGTH = 512;
/** Maximum number of URLs of a cluster that are read. */
const MAX_URLS = 16;

export interface IngressOptions {
  /** The server that named the URLs, as `host:port`. */
  readonly from: string;
  /** Whether the cluster is called over TLS. */
  readonly isTls: boolean;
}

export interface IngressUrls {
  /** The servers that may be called, each as `host:port`: gRPC servers first, in the order in which they were named. */
  readonly servers: readonly string[];
  /** The faults of the rejected URLs, as text for an error. */
  readonly faults: readonly string[];
}

/** Sorts URLs into servers that may be called and faults. */
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
 * Returns the fault of a host that is on this machine or this link, although the server that named it (`host:port`) is not. Also used for
 * the addresses of a name.
 */
export function nearFault(host: string, from: string): string | undefined {
  return unsafeHostReason(host, splitHostPort(from).host);
}

// Checks whether a server certificate names a cluster. Node certificates have the form `spiffe://<trust
// domain>/waymark/cluster/<cluster>/node/<node>`.

/**
 * Returns the fault of a certificate. Undefined when it has exactly one SPIFFE ID, which is the ID of a node of the cluster.
 * `alternativeNames` is in the format of Node.
 */
export function clusterNameFault(alternativeNames: string, clusterId: string): string | undefined {
  const ids = (readAlternativeNames(alternativeNames)?.uris ?? []).filter((uri) => uri.startsWith(SPIFFE));
  const named = ids.length === 1 ? nodeOfSpiffeId(ids[0] ?? "")?.clusterId : undefined;
  if (named === clusterId) return undefined;
  const reason = named === undefined ? "it does not identify a cluster" : `it identifies a node of ${named}`;
  return `the certificate does not belong to a node of ${clusterId}: ${reason}`;
}

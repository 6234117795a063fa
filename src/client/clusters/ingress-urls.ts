/** Which of the urls that a server names for another cluster may be called. A server may pass on the word of a stranger, so nothing of it is believed that would lead a program to its own machine. */
import { isHost, splitHostPort, unsafeHostReason } from "../../lib/addresses.ts";
import { nodeOfSpiffeId, readAlternativeNames, SPIFFE } from "../../lib/certificates/spiffe.ts";
import { protocolOf, serverPort } from "../../lib/protocols.ts";

/** Longest url that is read. */
const MAX_URL_LENGTH = 512;
/** Most urls of a cluster that are read. */
const MAX_URLS = 16;

export interface IngressOptions {
  /** The server that named the urls, as `host:port`. */
  readonly from: string;
  /** Whether the cluster is called by TLS. */
  readonly isTls: boolean;
}

export interface IngressUrls {
  /** `host:port` each: those of gRPC first, in the order in which they were named. */
  readonly servers: readonly string[];
  /** What is wrong with each of the others, in words. */
  readonly faults: readonly string[];
}

/** Sorts urls into servers that may be called and faults. */
export function ingressIn(urls: readonly string[], options: IngressOptions): IngressUrls {
  const [grpc, http, faults]: [string[], string[], string[]] = [[], [], []];
  for (const [at, url] of urls.entries()) {
    const read = at < MAX_URLS ? readUrl(url, options) : "one too many";
    if (typeof read === "string") faults.push(read);
    else (read.scheme.startsWith("grpc") ? grpc : http).push(read.server);
  }
  return { servers: [...new Set([...grpc, ...http])], faults };
}

function readUrl(url: string, { from, isTls }: IngressOptions): { readonly server: string; readonly scheme: string } | string {
  if (url.length > MAX_URL_LENGTH) return "too long";
  const [, scheme = "", authority = ""] = /^([a-z][a-z0-9+.-]*):\/\/([^/?#]*)/i.exec(url) ?? [];
  const ownPort = serverPort(scheme);
  if (ownPort === undefined) return "not grpc or http";
  if (authority.includes("@")) return "with credentials in it";
  const match = /^(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::(\d{1,5}))?$/.exec(authority);
  const [, v6, name = "", digits] = match ?? [];
  const host = v6 ?? name.replace(/\.$/, "");
  const port = Number(digits ?? ownPort);
  if (host === "" || port < 1 || port > 65_535 || !isHost(host)) return "without a host and port";
  if (protocolOf(scheme).isTls === true && !isTls) return "for TLS only";
  const fault = nearFault(host, from);
  return fault ?? { server: `${v6 === undefined ? host : `[${v6}]`}:${port}`, scheme: scheme.toLowerCase() };
}

/** What is wrong with a host that is nearer than the server which named it (`host:port`): on this machine or this link, and that server is not. Also for the address of a name. */
export function nearFault(host: string, from: string): string | undefined {
  return unsafeHostReason(host, splitHostPort(from).host);
}

// Whether the certificate of a server names a cluster, as those of nodes do: `spiffe://<trust domain>/waymark/cluster/<cluster>/node/<node>`.

/** What is wrong; undefined when the certificate has one SPIFFE id, and that is of a node of the cluster. `alternativeNames` is as Node writes them. */
export function clusterNameFault(alternativeNames: string, clusterId: string): string | undefined {
  const ids = (readAlternativeNames(alternativeNames)?.uris ?? []).filter((uri) => uri.startsWith(SPIFFE));
  const named = ids.length === 1 ? nodeOfSpiffeId(ids[0] ?? "")?.clusterId : undefined;
  if (named === clusterId) return undefined;
  const said = named === undefined ? "it names no cluster" : `it names the cluster ${named}`;
  return `the certificate is not that of a node of ${clusterId}: ${said}`;
}

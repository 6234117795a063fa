/** Rules between settings, each of which is right by itself. */

import { NODE_BOUNDS } from "../lib/bounds/node.ts";
import { durationText } from "../lib/duration.ts";
import { leaseProblems } from "./catalog.ts";
import { nodeFactsProblem } from "./node.ts";

/** What the rules are about, of all settings. */
interface Settings {
  readonly tls: {
    readonly certFile: string | undefined;
    readonly keyFile: string | undefined;
    readonly caFile: string | undefined;
    readonly requireClientCert: boolean;
  };
  readonly node: Parameters<typeof nodeFactsProblem>[0];
  readonly catalog: Parameters<typeof leaseProblems>[0];
  readonly policy: { readonly acceptFrom: readonly string[] };
  readonly listen: { readonly host: string; readonly grpcPort: number; readonly httpPort: number };
  readonly dns: {
    readonly enabled: boolean;
    readonly host: string | undefined;
    readonly udpPort: number;
    readonly tcpPort: number | undefined;
    readonly minTtlMs: number;
    readonly maxTtlMs: number;
    readonly zones: readonly string[];
  };
  readonly fabric: {
    readonly enabled: boolean | undefined;
    readonly port: number;
    readonly seeds: readonly string[];
    readonly certFile: string | undefined;
    readonly keyFile: string | undefined;
    readonly caFile: string | undefined;
    readonly metadataRefreshMs: number;
    readonly intervalMs: number;
    readonly pingTimeoutMs: number;
    readonly orphanGraceMs: number;
    readonly originForgetMs: number;
  };
}

/** The path of a setting and what is wrong with it beside the others. */
type Broken = readonly [path: string, message: string];

/** Every rule that is broken. */
export function brokenRules(settings: Settings): readonly Broken[] {
  const broken: Broken[] = [];
  const refuse = (path: string, message: string) => broken.push([path, message]);
  const { tls, dns, fabric, listen } = settings;
  if (tls.certFile !== undefined && tls.keyFile === undefined) refuse("tls.cert_file", "needs tls.key_file too");
  if (tls.keyFile !== undefined && tls.certFile === undefined) refuse("tls.key_file", "needs tls.cert_file too");
  if (tls.requireClientCert && tls.caFile === undefined)
    refuse("tls.require_client_cert", "needs tls.ca_file, to know whose certificates to accept");
  if (tls.caFile !== undefined && tls.certFile === undefined) refuse("tls.ca_file", "needs tls.cert_file and tls.key_file too");
  const files = [fabric.certFile, fabric.keyFile, fabric.caFile];
  if (files.some((file) => file !== undefined) && files.includes(undefined))
    refuse("fabric.cert_file", "goes with fabric.key_file and fabric.ca_file: nodes check each other, so all three or none");
  const factsProblem = nodeFactsProblem(settings.node);
  if (factsProblem !== undefined) refuse("node.labels", factsProblem);
  if (fabric.enabled === false && fabric.seeds.length > 0) refuse("fabric.seeds", "needs fabric.enabled");
  if (fabric.metadataRefreshMs > 0 && fabric.metadataRefreshMs < fabric.intervalMs)
    refuse("fabric.metadata_refresh", "must be 0 or at least fabric.interval");
  if (settings.policy.acceptFrom.length > NODE_BOUNDS.maxPolicyFrom)
    refuse("policy.accept_from", `has ${settings.policy.acceptFrom.length} clusters, more than ${NODE_BOUNDS.maxPolicyFrom}`);
  if (fabric.pingTimeoutMs >= fabric.intervalMs) refuse("fabric.ping_timeout", "must be less than fabric.interval");
  // Who heard last of an origin hides it before others forget what ended its entries (semantics.md, Orphans).
  const { orphanGraceMs, originForgetMs } = fabric;
  if (orphanGraceMs > originForgetMs / 2) {
    const most = `half of fabric.origin_forget, which is ${durationText(originForgetMs)}`;
    refuse("fabric.orphan_grace", `${durationText(orphanGraceMs)} is more than ${most}`);
  }
  broken.push(...leaseProblems(settings.catalog));
  if (dns.minTtlMs > dns.maxTtlMs) refuse("dns.min_ttl", "is more than dns.max_ttl");
  if (dns.enabled && dns.zones.length === 0) refuse("dns.zones", "needs at least one zone while dns.enabled is true");
  for (const [path, other] of samePorts({ listen, dns, fabric }))
    refuse(path, `is the port of ${other} too; give each its own, or 0 for any that is free`);
  return broken;
}

/** Ports of TCP that two listeners of one address share, other than 0. */
function samePorts({ listen, dns, fabric }: Pick<Settings, "listen" | "dns" | "fabric">): readonly (readonly [string, string])[] {
  const isDnsBeside = dns.enabled && (dns.host === undefined || dns.host === listen.host);
  const ports = [
    ["listen.grpc_port", listen.grpcPort],
    ["listen.http_port", listen.httpPort],
    ...(fabric.enabled === false ? [] : [["fabric.port", fabric.port] as const]),
    ...(isDnsBeside ? [["dns.tcp_port", dns.tcpPort ?? dns.udpPort] as const] : []),
  ] as const;
  return ports.flatMap(([path, port], i) => {
    const other = port === 0 ? undefined : ports.slice(0, i).find(([, taken]) => taken === port);
    return other === undefined ? [] : [[path, other[0]] as const];
  });
}

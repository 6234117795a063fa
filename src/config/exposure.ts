/** What settings protect, and what they leave open. This is judged before a node opens anything. */
import { blockHolds, isLoopbackHost, parsePlainBlock } from "../lib/addresses.ts";
import type { Settings } from "./settings.ts";

/** Whether a node accepts everybody who reaches its fabric listener as a peer. */
export function isFabricOpen({ fabric }: Settings): boolean {
  return fabric.certFile === undefined && fabric.clusterTokenFile === undefined;
}

/** The first setting that restricts callers; undefined when there is none. */
export function protectingSetting({ tenants, tls, policy }: Settings): string | undefined {
  if (tenants.credentials.length > 0) return "tenants.credentials";
  if (tenants.jwt !== undefined) return "tenants.jwt";
  if (tenants.trustedHeader !== undefined) return "tenants.trusted_header";
  if (tenants.certificates.length > 0) return "tenants.certificates";
  if (tenants.mode) return "tenants.mode";
  if (tenants.anonymous === "none" || tenants.anonymous === "read") return "tenants.anonymous";
  if (tls.certFile !== undefined) return "tls.cert_file";
  return policy.file === undefined ? undefined : "policy.file";
}

/** Why a node does not start an open fabric while another setting protects it. */
export function openFabricFault(protecting: string): string {
  return (
    `refusing to start the fabric: it has neither token nor certificates, and ${protecting} protects this node, so every process that ` +
    `reaches it could read and change all that is protected. ${OPEN_FABRIC_REMEDY}`
  );
}

export const OPEN_FABRIC_REMEDY =
  "Set fabric.cluster_token_file, or fabric.cert_file, fabric.key_file and fabric.ca_file, at every node of the fabric; " +
  "or fabric.enabled = false, and the node stands alone";

/** Whether a resolver speaks TLS with its upstreams. */
export function hasUpstreamTls({ resolver }: Settings): boolean {
  return resolver.tls || resolver.tlsCaFile !== undefined;
}

/** Whether the settings name or expect other nodes. */
export function wantsPeers({ fabric }: Settings): boolean {
  return fabric.enabled === true || fabric.seeds.length > 0 || fabric.borders.length > 0;
}

/** Whether any kind of credential that a caller could show is configured. */
export function hasCredentials({ tenants, tls }: Settings): boolean {
  const { credentials, jwt, trustedHeader } = tenants;
  return credentials.length > 0 || jwt !== undefined || trustedHeader !== undefined || tls.caFile !== undefined;
}

/** What callers without a credential may do. */
export function anonymousAccess(settings: Settings): "none" | "read" | "all" {
  const isOwnMachine = isLoopbackHost(settings.listen.host) && !hasCredentials(settings);
  return settings.tenants.anonymous ?? (isOwnMachine ? "all" : "read");
}

/** Why a node does not start with these settings: it would be open to others without a setting that allows it. */
export function exposureFaults(settings: Settings): readonly string[] {
  const faults: string[] = [];
  const open = openHost(settings);
  if (open !== undefined && settings.tls.certFile === undefined && !hasCredentials(settings) && !settings.listen.insecure)
    faults.push(
      `refusing to listen on ${open.host} (${open.setting}): neither TLS nor a credential is configured, so everybody who reaches the node could do anything. ` +
        "Configure tls.cert_file and tls.key_file, or tenants.credentials or tenants.jwt; or listen on 127.0.0.1; " +
        "or, where the network itself is trusted, pass --insecure",
    );
  const protecting = settings.fabric.enabled !== false && isFabricOpen(settings) ? protectingSetting(settings) : undefined;
  if (protecting !== undefined && wantsPeers(settings)) faults.push(openFabricFault(protecting));
  return faults;
}

/** What these settings leave open, and which of them have no effect, one line each. A node starts with them nevertheless. */
export function exposureWarnings(settings: Settings): readonly string[] {
  const { tls, listen, dns } = settings;
  const warnings = [...trustWarnings(settings), ...borderWarnings(settings)];
  const access = anonymousAccess(settings);
  if (dns.enabled) warnings.push(...dnsWarnings(settings, access));
  if (isLoopbackHost(listen.host)) return warnings;
  if (access === "all")
    warnings.push(`tenants.anonymous = "all" on ${listen.host}: everybody who reaches the node may write; set "read" or "none"`);
  if (tls.certFile !== undefined && !hasCredentials(settings))
    warnings.push(
      "tls.cert_file without credentials: connections are private, but no caller is known; configure tls.ca_file, tenants.credentials or tenants.jwt",
    );
  return warnings;
}

/** What the settings of DNS leave open. A source address is all that DNS knows of who asks. */
function dnsWarnings({ dns, node }: Settings, access: "none" | "read" | "all"): readonly string[] {
  const warnings: string[] = [];
  if (access === "none" && dns.views.length === 0 && dns.tlsPort === undefined)
    warnings.push(
      'tenants.anonymous = "none" and no dns.views: DNS refuses every question; name the networks that may ask in dns.views, or set dns.enabled = false',
    );
  for (const tenant of new Set(dns.views.map((view) => view.tenant))) {
    if (tenant === undefined) continue;
    const rows = dns.views.flatMap((view, i) => (view.tenant === tenant ? view.prefixes.map((prefix) => ({ i, prefix })) : []));
    for (const wide of wholeFamilies(rows)) {
      const views = [...new Set(wide.map(({ i }) => `dns.views[${i}]`))];
      const networks = wide.map(({ prefix }) => prefix).join(", ");
      warnings.push(
        `${views.join(" and ")} ${views.length === 1 ? "gives" : "give"} the view of tenant ${tenant} to ${networks}: everybody who reaches the gateway sees what that tenant sees; name its networks`,
      );
    }
  }
  for (const wide of wholeFamilies(dns.trustedForwarders.map((prefix) => ({ prefix }))))
    warnings.push(
      `dns.trusted_forwarders has ${wide.map(({ prefix }) => prefix).join(", ")}: dns.rate bounds nobody there, and everybody who reaches the gateway chooses a view by client subnet; name the addresses of your forwarders`,
    );
  if (node.mode === "resolver" && dns.transferKeys.length > 0)
    warnings.push(
      "dns.transfer_keys at a resolver: it sends no zone, because it does not know all names, and its keys only sign questions; let secondary servers ask a node",
    );
  else if (dns.dnssecKeyFile !== undefined && dns.transferKeys.length > 0)
    warnings.push(
      "dns.dnssec_key_file with dns.transfer_keys: a zone is sent without signatures, so who validates takes the answers of a secondary for forged; keep secondaries out of the parent's NS, and away from validators that have the trust anchor",
    );
  if (dns.allowExternalNames)
    warnings.push(
      "dns.allow_external_names: the gateway takes names outside its zones, as an open resolver does, and answers them from the catalog; serve dns.zones instead",
    );
  return warnings;
}

interface ExposureRow {
  readonly prefix: string;
}

/** The widest of these prefixes, for each address family of which they hold every address together. */
function wholeFamilies<R extends ExposureRow>(rows: readonly R[]): readonly (readonly R[])[] {
  const blocks = rows.flatMap((row) => {
    const block = parsePlainBlock(row.prefix);
    return block === undefined ? [] : [{ row, block }];
  });
  return [4, 16].flatMap((byteCount) => {
    const own = blocks.filter(({ block }) => block.bytes.length === byteCount).toSorted((a, b) => a.block.prefixBits - b.block.prefixBits);
    const widest: typeof own = [];
    for (const each of own) if (!widest.some(({ block }) => blockHolds(block, each.block.bytes))) widest.push(each);
    // No two of them have an address in common.
    const bits = 8 * byteCount;
    const count = widest.reduce((sum, { block }) => sum + (1n << BigInt(bits - block.prefixBits)), 0n);
    return count === 1n << BigInt(bits) ? [widest.map(({ row }) => row)] : [];
  });
}

/** Settings about other clusters that contradict each other, or let every cluster in. */
function trustWarnings({ fabric, policy, node }: Settings): readonly string[] {
  const { trust, clusters, certFile, enabled } = fabric;
  if (enabled === false || node.mode === "resolver") return [];
  if (trust === "permissive")
    return [
      'fabric.trust = "permissive": nodes of every cluster of the region are let in; list clusters in fabric.clusters and set "explicit" or "strict"',
    ];
  const warnings: string[] = [];
  if (trust === "strict" && certFile === undefined && clusters.length > 0)
    warnings.push(
      'fabric.clusters has no effect: with fabric.trust = "strict" other clusters need certificates (fabric.cert_file); or set fabric.trust = "explicit"',
    );
  const unlisted = policy.acceptFrom.filter((each) => each !== node.clusterId && !clusters.includes(each));
  if (unlisted.length > 0)
    warnings.push(`policy.accept_from has no effect for ${unlisted.join(", ")}: fabric.clusters does not let them in`);
  return warnings;
}

/** Borders with a cluster whose own word is refused. It may still pass on what others say. */
function borderWarnings({ fabric, summary, node }: Settings): readonly string[] {
  if (node.mode === "resolver" || fabric.enabled === false || !summary.requireSignatures) return [];
  const named = new Set(summary.keys.map(({ clusterId }) => clusterId));
  return fabric.borders.flatMap(({ clusterId, keys }, i) =>
    keys.length > 0 || named.has(clusterId)
      ? []
      : [
          `fabric.borders[${i}].keys and summary.keys name no key of ${clusterId}, so no summary of it is taken while summary.require_signatures is on; add its public key`,
        ],
  );
}

/** The first address beyond this machine that the node would listen on for callers. */
function openHost({ dns, listen }: Settings): { readonly setting: string; readonly host: string } | undefined {
  // The DNS gateway knows no credentials, so its address counts like that of the other listeners.
  const hosts = [
    { setting: "listen.host", host: listen.host },
    { setting: "dns.host", host: dns.enabled && dns.host !== undefined ? dns.host : listen.host },
  ];
  return hosts.find(({ host }) => !isLoopbackHost(host));
}

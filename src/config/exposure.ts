/** Checks, before a node opens any listener, which access the settings protect and which access they leave open. */
import { blockHolds, isLoopbackHost, parsePlainBlock } from "../lib/addresses.ts";
import type { Settings } from "./settings.ts";

/** Whether a node accepts every process that reaches its fabric listener as a peer. */
export function isFabricOpen({ fabric, tls, identity, persistence }: Settings): boolean {
  // A node with this setting does not start without a certificate.
  const isFromMesh = tls.source === "identity" || (["mesh", "spire"].includes(identity.source) && !persistence.ephemeral);
  return fabric.certFile === undefined && fabric.clusterTokenFile === undefined && !isFromMesh;
}

/** Whether the listeners for callers use TLS. */
export function hasTls({ tls }: Pick<Settings, "tls">): boolean {
  return tls.source === "identity" || tls.certFile !== undefined;
}

/** The first setting that restricts callers, or undefined if there is none. */
export function protectingSetting({ tenants, tls, policy }: Settings): string | undefined {
  if (tls.source === "identity") return "tls.source";
  if (tenants.credentials.length > 0) return "tenants.credentials";
  if (tenants.jwt !== undefined) return "tenants.jwt";
  if (tenants.managed) return "tenants.managed";
  if (tenants.trustedHeader !== undefined) return "tenants.trusted_header";
  if (tenants.certificates.length > 0) return "tenants.certificates";
  if (tenants.mode) return "tenants.mode";
  if (tenants.anonymous === "none" || tenants.anonymous === "read") return "tenants.anonymous";
  if (tls.certFile !== undefined) return "tls.cert_file";
  return policy.file === undefined ? undefined : "policy.file";
}

/** The error for a node that is protected by another setting but would start an open fabric. */
export function openFabricFault(protecting: string): string {
  return (
    `refusing to start the fabric: it has neither a token nor certificates; ${protecting} protects this node, but every process that can ` +
    `reach the fabric could read and change the protected data. ${OPEN_FABRIC_REMEDY}`
  );
}

export const OPEN_FABRIC_REMEDY =
  'Set fabric.cluster_token_file, or fabric.cert_file, fabric.key_file and fabric.ca_file, or identity.source = "mesh", on every node of the fabric; ' +
  "or set fabric.enabled = false to run a standalone node";

/** Whether a resolver uses TLS to its upstreams. */
export function hasUpstreamTls({ resolver, identity }: Settings): boolean {
  return resolver.tls || resolver.tlsCaFile !== undefined || identity.source === "spire";
}

/** Whether a node uses TLS to etcd. */
export function hasStoreTls({ store }: Settings): boolean {
  return store.caFile !== undefined || store.certFile !== undefined;
}

/** Whether the settings name or expect other nodes. */
export function wantsPeers({ fabric }: Settings): boolean {
  return fabric.enabled === true || fabric.seeds.length > 0 || fabric.borders.length > 0;
}

/** Whether any kind of caller credential is configured. */
export function hasCredentials({ tenants, tls }: Settings): boolean {
  const { credentials, jwt, trustedHeader, managed } = tenants;
  const verifiesClients = tls.caFile !== undefined || tls.source === "identity";
  return managed || credentials.length > 0 || jwt !== undefined || trustedHeader !== undefined || verifiesClients;
}

/** The effective access for callers without a credential. */
export function anonymousAccess(settings: Settings): "none" | "read" | "all" {
  const isOwnMachine = isLoopbackHost(settings.listen.host) && !hasCredentials(settings);
  return settings.tenants.anonymous ?? (isOwnMachine ? "all" : "read");
}

/** Reasons not to start with these settings: access from other machines that no setting explicitly allows. */
export function exposureFaults(settings: Settings): readonly string[] {
  const faults: string[] = [];
  const open = openHost(settings);
  if (open !== undefined && !hasTls(settings) && !hasCredentials(settings) && !settings.listen.insecure)
    faults.push(
      `refusing to listen on ${open.host} (${open.setting}): neither TLS nor a credential is configured, so every client that can reach the node would have full access. ` +
        "Configure tls.cert_file and tls.key_file, or tenants.credentials or tenants.jwt; or listen on 127.0.0.1; " +
        "or pass --insecure if the network is trusted",
    );
  const protecting = settings.fabric.enabled !== false && isFabricOpen(settings) ? protectingSetting(settings) : undefined;
  if (protecting !== undefined && wantsPeers(settings)) faults.push(openFabricFault(protecting));
  return faults;
}

/** Warnings about open access and about settings without effect, one line each. They do not prevent a start. */
export function exposureWarnings(settings: Settings): readonly string[] {
  const { listen, dns } = settings;
  const warnings = [...trustWarnings(settings), ...borderWarnings(settings)];
  const access = anonymousAccess(settings);
  if (dns.enabled) warnings.push(...dnsWarnings(settings, access));
  if (isLoopbackHost(listen.host)) return warnings;
  if (access === "all")
    warnings.push(`tenants.anonymous = "all" on ${listen.host}: every client that can reach the node can write; set "read" or "none"`);
  if (hasTls(settings) && !hasCredentials(settings))
    warnings.push(
      "tls.cert_file without credentials: connections are encrypted, but callers are not authenticated; configure tls.ca_file, tenants.credentials or tenants.jwt",
    );
  return warnings;
}

/** Warnings about DNS, which identifies clients only by their source address. */
function dnsWarnings({ dns, node }: Settings, access: "none" | "read" | "all"): readonly string[] {
  const warnings: string[] = [];
  if (access === "none" && dns.views.length === 0 && dns.tlsPort === undefined)
    warnings.push(
      'tenants.anonymous = "none" and no dns.views: DNS refuses every query; add the networks of DNS clients to dns.views, or set dns.enabled = false',
    );
  for (const tenant of new Set(dns.views.map((view) => view.tenant))) {
    if (tenant === undefined) continue;
    const rows = dns.views.flatMap((view, i) => (view.tenant === tenant ? view.prefixes.map((prefix) => ({ i, prefix })) : []));
    for (const wide of wholeFamilies(rows)) {
      const views = [...new Set(wide.map(({ i }) => `dns.views[${i}]`))];
      const networks = wide.map(({ prefix }) => prefix).join(", ");
      warnings.push(
        `${views.join(" and ")} ${views.length === 1 ? "applies" : "apply"} the view of tenant ${tenant} to ${networks}: every client that can reach the gateway gets the data of that tenant; list the tenant's networks instead`,
      );
    }
  }
  for (const wide of wholeFamilies(dns.trustedForwarders.map((prefix) => ({ prefix }))))
    warnings.push(
      `dns.trusted_forwarders contains ${wide.map(({ prefix }) => prefix).join(", ")}: dns.rate does not apply to these addresses, and every client that can reach the gateway can choose a view by client subnet; list the addresses of your forwarders`,
    );
  if (node.mode === "resolver" && dns.transferKeys.length > 0)
    warnings.push(
      "dns.transfer_keys on a resolver: a resolver does not send zones, because it does not have all names, so its keys are used only for signed queries; configure secondary servers to use a node",
    );
  else if (dns.dnssecKeyFile !== undefined && dns.transferKeys.length > 0)
    warnings.push(
      "dns.dnssec_key_file with dns.transfer_keys: a zone is sent without signatures, so validators reject the answers of a secondary as forged; do not list secondaries in the parent's NS records, and do not use them with validators that have the trust anchor",
    );
  if (dns.allowExternalNames)
    warnings.push(
      "dns.allow_external_names: the gateway accepts names outside its zones, as an open resolver does, and answers them from the catalog; use names in dns.zones instead",
    );
  return warnings;
}

interface ExposureRow {
  readonly prefix: string;
}

/** For each address family that these prefixes completely cover together, the widest prefixes in it. */
function wholeFamilies<R extends ExposureRow>(rows: readonly R[]): readonly (readonly R[])[] {
  const blocks = rows.flatMap((row) => {
    const block = parsePlainBlock(row.prefix);
    return block === undefined ? [] : [{ row, block }];
  });
  return [4, 16].flatMap((byteCount) => {
    const own = blocks.filter(({ block }) => block.bytes.length === byteCount).toSorted((a, b) => a.block.prefixBits - b.block.prefixBits);
    const widest: typeof own = [];
    for (const each of own) if (!widest.some(({ block }) => blockHolds(block, each.block.bytes))) widest.push(each);
    // The blocks are disjoint, so their sizes can be added.
    const bits = 8 * byteCount;
    const count = widest.reduce((sum, { block }) => sum + (1n << BigInt(bits - block.prefixBits)), 0n);
    return count === 1n << BigInt(bits) ? [widest.map(({ row }) => row)] : [];
  });
}

/** Warnings about other clusters: settings that contradict each other or accept every cluster. */
function trustWarnings({ fabric, policy, node }: Settings): readonly string[] {
  const { trust, clusters, certFile, enabled } = fabric;
  if (enabled === false || node.mode === "resolver") return [];
  if (trust === "permissive")
    return [
      'fabric.trust = "permissive": nodes of every cluster of the region are accepted; list clusters in fabric.clusters and set "explicit" or "strict"',
    ];
  const warnings: string[] = [];
  if (trust === "strict" && certFile === undefined && clusters.length > 0)
    warnings.push(
      'fabric.clusters has no effect: with fabric.trust = "strict", other clusters need certificates; set fabric.cert_file, or fabric.trust = "explicit"',
    );
  const unlisted = policy.acceptFrom.filter((each) => each !== node.clusterId && !clusters.includes(each));
  if (unlisted.length > 0)
    warnings.push(`policy.accept_from has no effect for ${unlisted.join(", ")}: add them to fabric.clusters, or remove them`);
  return warnings;
}

/** Warnings about borders with clusters whose own summaries are refused. These clusters can still forward summaries of other clusters. */
function borderWarnings({ fabric, summary, node }: Settings): readonly string[] {
  if (node.mode === "resolver" || fabric.enabled === false || !summary.requireSignatures) return [];
  const named = new Set(summary.keys.map(({ clusterId }) => clusterId));
  return fabric.borders.flatMap(({ clusterId, keys }, i) =>
    keys.length > 0 || named.has(clusterId)
      ? []
      : [
          `fabric.borders[${i}].keys and summary.keys contain no key of ${clusterId}, so its summaries are refused while summary.require_signatures is on; add its public key`,
        ],
  );
}

/** The first client-facing listen address that is not on loopback. */
function openHost({ dns, listen }: Settings): { readonly setting: string; readonly host: string } | undefined {
  // DNS clients have no credentials, so the DNS address is checked like the address of any other listener.
  const hosts = [
    { setting: "listen.host", host: listen.host },
    { setting: "dns.host", host: dns.enabled && dns.host !== undefined ? dns.host : listen.host },
  ];
  return hosts.find(({ host }) => !isLoopbackHost(host));
}

/** Rules between settings that are each valid on their own. */
import {
  isHost,
  isLoopbackHost,
  parseBlock,
  parsePlainBlock,
  parseReverseZone,
  splitHostPort,
  uncallableReason,
} from "../lib/addresses.ts";
import { factsBytes, NODE_BOUNDS } from "../lib/bounds.ts";
import { durationText } from "../lib/duration.ts";
import { borderProblems } from "./borders.ts";
import { MAX_DNS_PREFIXES } from "./dns.ts";
import { hasStoreTls, hasTls, hasUpstreamTls } from "./exposure.ts";
import { LEAST_ENTRY_BYTES } from "./resolver.ts";
import { SETTING_ROWS, type SettingRow, type Settings, valueOfRow } from "./settings.ts";

/** The path of a setting, and how the setting conflicts with others. */
type BrokenRule = readonly [path: string, message: string];

/** Why clients cannot connect to this host. The host can include a zone id. */
function hostFault(host: string): string | undefined {
  const reason = uncallableReason(host);
  if (reason !== undefined) return `${reason}; no client can connect to it`;
  return isHost(host.replace(/%.*$/, "")) ? undefined : "not a host name, an IPv4 address or an IPv6 address";
}

/** All violated rules. */
export function brokenRules(settings: Settings): readonly BrokenRule[] {
  const broken: BrokenRule[] = [];
  const refuse = (path: string, message: string) => broken.push([path, message]);
  const { dns, fabric, listen } = settings;
  const fault = listen.advertiseHost === undefined ? undefined : hostFault(listen.advertiseHost);
  if (fault !== undefined) refuse("listen.advertise_host", `"${listen.advertiseHost}" is ${fault}`);
  broken.push(...tlsProblems(settings));
  const files = [fabric.certFile, fabric.keyFile, fabric.caFile];
  if (files.some((file) => file !== undefined) && files.includes(undefined))
    refuse("fabric.cert_file", "needs fabric.key_file and fabric.ca_file: nodes verify each other, so set all three or none");
  if (fabric.crlFile !== undefined && fabric.caFile === undefined)
    refuse("fabric.crl_file", "needs fabric.ca_file: it is for certificates that come from files");
  const sizeBytes = factsBytes(settings.node.roles, settings.node.labels);
  if (sizeBytes > NODE_BOUNDS.maxFactsBytes)
    refuse("node.labels", `is ${sizeBytes} bytes together with node.roles, more than the maximum of ${NODE_BOUNDS.maxFactsBytes}`);
  if (fabric.enabled === false && fabric.seeds.length > 0) refuse("fabric.seeds", "needs fabric.enabled");
  if (fabric.metadataRefreshMs > 0 && fabric.metadataRefreshMs < fabric.intervalMs)
    refuse("fabric.metadata_refresh", "must be 0, or at least fabric.interval");
  if (fabric.pingTimeoutMs >= fabric.intervalMs) refuse("fabric.ping_timeout", "must be less than fabric.interval");
  // Every node must hide the entries of a source node before any node forgets that they ended (semantics.md, Orphans).
  const { orphanGraceMs, originForgetMs } = fabric;
  if (orphanGraceMs > originForgetMs / 2) {
    const most = `half of fabric.origin_forget, which is ${durationText(originForgetMs)}`;
    refuse("fabric.orphan_grace", `${durationText(orphanGraceMs)} is more than ${most}`);
  }
  const { clusterId, region } = settings.node;
  const { keys, exportEnabled, signingKeyFile } = settings.summary;
  const here = { clusterId, region, hasCertificate: fabric.certFile !== undefined, hasFabric: fabric.enabled !== false, keys };
  for (const [at, message] of borderProblems(fabric.borders, here)) refuse(`fabric.borders${at}`, message);
  if (exportEnabled === true && signingKeyFile === undefined)
    refuse(
      "summary.export_enabled",
      "needs summary.signing_key_file, because a node without the key of its cluster exports nothing; set it, or remove summary.export_enabled",
    );
  broken.push(...leaseProblems(settings), ...modeProblems(settings));
  broken.push(...viewProblems(settings), ...transferKeyProblems(settings));
  broken.push(...reverseProblems(settings), ...summaryAnswerProblems(settings));
  if (dns.minTtlMs > dns.maxTtlMs) refuse("dns.min_ttl", "is more than dns.max_ttl");
  if (dns.enabled && dns.zones.length === 0) refuse("dns.zones", "needs at least one zone while dns.enabled is true");
  for (const [path, blocks] of [
    ["checks.allowed", settings.checks.allowed],
    ["dns.trusted_forwarders", dns.trustedForwarders],
  ] as const)
    for (const block of blocks)
      if (parseBlock(block) === undefined) refuse(path, `${block} is neither an address nor a CIDR block whose host bits are all zero`);
  for (const [path, other] of samePorts(settings))
    refuse(path, `is also the port of ${other}; use different ports, or 0 for any free port`);
  return broken;
}

/** Faults in the certificates of the listeners for callers. */
function tlsProblems(settings: Settings): readonly BrokenRule[] {
  const { tls, dns, identity } = settings;
  const problems: BrokenRule[] = [];
  const refuse = (path: string, message: string) => problems.push([path, message]);
  if (identity.source === "spire") {
    if (identity.spireSocket === undefined) refuse("identity.spire_socket", 'is needed if identity.source is "spire"');
    if (settings.persistence.ephemeral) refuse("identity.source", 'is "spire", and an ephemeral node has no identity');
  }
  if (tls.source === "identity") {
    if (identity.source === "files") refuse("tls.source", 'is "identity", but identity.source is "files", so the node has no identity');
    if (settings.persistence.ephemeral) refuse("tls.source", 'is "identity", and an ephemeral node has no identity');
    for (const row of SETTING_ROWS)
      if (row.group === "tls" && row.path.endsWith("_file") && valueOfRow(settings, row) !== undefined)
        refuse(row.path, 'is for certificates from files, and tls.source is "identity"; remove one of them');
    return problems;
  }
  if (tls.certFile !== undefined && tls.keyFile === undefined) refuse("tls.cert_file", "needs tls.key_file too");
  if (tls.keyFile !== undefined && tls.certFile === undefined) refuse("tls.key_file", "needs tls.cert_file too");
  if (tls.requireClientCert && tls.caFile === undefined)
    refuse("tls.require_client_cert", "needs tls.ca_file, with the CAs that issue client certificates");
  if (tls.caFile !== undefined && tls.certFile === undefined) refuse("tls.ca_file", "also needs tls.cert_file and tls.key_file");
  if (tls.crlFile !== undefined && tls.caFile === undefined) refuse("tls.crl_file", "needs tls.ca_file, with the CAs of these lists");
  if (dns.tlsPort !== undefined && !hasTls(settings)) refuse("dns.tls_port", "needs tls.cert_file and tls.key_file, or tls.source");
  return problems;
}

/** Summaries exist only on the main thread. */
function summaryAnswerProblems({ dns, node, summary, fabric }: Settings): readonly BrokenRule[] {
  const path = "dns.summary_answers";
  if (!dns.summaryAnswers) return [];
  if (node.mode === "resolver" && summary.resolverScopes.length === 0)
    return [[path, "needs summary.resolver_scopes on a resolver: without it, a resolver has no data from other clusters"]];
  if (node.mode !== "resolver" && summary.keys.length === 0 && fabric.borders.length === 0)
    return [[path, "needs summary.keys or fabric.borders: without them, the node has no data from other clusters"]];
  const alone: readonly BrokenRule[] = node.workers > 0 ? [[path, "needs node.workers = 0, because read workers have no summaries"]] : [];
  return dns.processes > 0 ? [...alone, [path, "needs dns.processes = 0, because DNS processes have no summaries"]] : alone;
}

/** Reverse zones must be blocks that end at a label boundary. The blocks must be distinct, and must not also be zones of services. */
function reverseProblems({ dns }: Settings): readonly BrokenRule[] {
  const seen = new Set(dns.zones.map((zone) => zone.replace(/\.$/, "")));
  return dns.reverseZones.flatMap((text): BrokenRule[] => {
    const zone = parseReverseZone(text)?.zone;
    const path = "dns.reverse_zones";
    if (parseBlock(text) === undefined) return [[path, `${text} is neither an address nor a CIDR block whose host bits are all zero`]];
    if (zone === undefined)
      return [[path, `${text} is not a zone: its prefix must be /8, /16 or /24 of IPv4, or /4 to /124 of IPv6 in steps of 4`]];
    if (seen.has(zone)) return [[path, `${text} is the zone ${zone}, which is configured twice`]];
    seen.add(zone);
    return [];
  });
}

/** Prefixes of views must be distinct, and their total number is limited. */
function viewProblems({ dns }: Settings): readonly BrokenRule[] {
  const seen = new Map<string, number>();
  for (const [i, { listener = "any", prefixes }] of dns.views.entries())
    for (const prefix of prefixes) {
      const block = parsePlainBlock(prefix);
      const key = `${listener} ${block?.bytes.join(".") ?? prefix}/${block?.prefixBits ?? ""}`;
      const other = seen.get(key);
      if (other !== undefined)
        return [["dns.views", `${prefix} is in both dns.views[${other}] and dns.views[${i}]; remove it from one of them`]];
      seen.set(key, i);
    }
  if (seen.size <= MAX_DNS_PREFIXES) return [];
  return [["dns.views", `has ${seen.size} prefixes in total, more than the maximum of ${MAX_DNS_PREFIXES}`]];
}

/** Transfer keys must have distinct names. */
function transferKeyProblems({ dns }: Settings): readonly BrokenRule[] {
  const seen = new Map<string, number>();
  for (const [i, { name = "" }] of dns.transferKeys.entries()) {
    const plain = name.toLowerCase().replace(/\.$/, "");
    const other = seen.get(plain);
    if (other !== undefined) return [["dns.transfer_keys", `${name} is the name of both [${other}] and [${i}]; use different names`]];
    seen.set(plain, i);
  }
  return [];
}

/** The minimum lease TTL must not exceed the default, and the default must not exceed the maximum. */
function leaseProblems({ catalog }: Settings): readonly BrokenRule[] {
  const { minLeaseTtlMs, defaultLeaseTtlMs, maxLeaseTtlMs } = catalog;
  const pairs = [
    ["catalog.min_lease_ttl", minLeaseTtlMs, "catalog.default_lease_ttl", defaultLeaseTtlMs],
    ["catalog.default_lease_ttl", defaultLeaseTtlMs, "catalog.max_lease_ttl", maxLeaseTtlMs],
  ] as const;
  return pairs.flatMap(([low, lowMs, high, highMs]) =>
    lowMs > highMs ? [[low, `${durationText(lowMs)} is more than ${high}, which is ${durationText(highMs)}`] as const] : [],
  );
}

/** TCP ports that are configured for two listeners on the same address. Port 0 means any free port, so it does not conflict. */
function samePorts({ listen, dns, fabric, node }: Settings): readonly (readonly [string, string])[] {
  const isDnsBeside = dns.enabled && (dns.host === undefined || dns.host === listen.host);
  const ports = [
    ["listen.grpc_port", listen.grpcPort],
    ["listen.http_port", listen.httpPort],
    ...(fabric.enabled === false || node.mode === "resolver" ? [] : [["fabric.port", fabric.port] as const]),
    ...(isDnsBeside ? [[dns.tcpPort === undefined ? "dns.udp_port" : "dns.tcp_port", dns.tcpPort ?? dns.udpPort] as const] : []),
    ...(isDnsBeside && dns.tlsPort !== undefined ? [["dns.tls_port", dns.tlsPort] as const] : []),
  ] as const;
  return ports.flatMap(([path, port], i) => {
    const other = port === 0 ? undefined : ports.slice(0, i).find(([, taken]) => taken === port);
    return other === undefined ? [] : [[path, other[0]] as const];
  });
}

/** Errors in the settings of a resolver, and settings that its mode does not use. */
function modeProblems(settings: Settings): readonly BrokenRule[] {
  const { node, resolver } = settings;
  const { ttlZoneMs, ttlRegionMs, ttlGlobalMs, maxEntries, maxBytes, tlsCertFile, tlsKeyFile } = resolver;
  const problems: BrokenRule[] = [];
  if (ttlRegionMs < ttlZoneMs)
    problems.push(["resolver.ttl_region", "is less than resolver.ttl_zone; a wider scope needs the same TTL or a longer one"]);
  if (ttlGlobalMs < ttlRegionMs)
    problems.push(["resolver.ttl_global", "is less than resolver.ttl_region; a wider scope needs the same TTL or a longer one"]);
  if (maxBytes < maxEntries * LEAST_ENTRY_BYTES)
    problems.push([
      "resolver.max_bytes",
      `is ${maxBytes} bytes, less than ${LEAST_ENTRY_BYTES} per entry of resolver.max_entries, which is ${maxEntries}; raise it to ${maxEntries * LEAST_ENTRY_BYTES}, or lower resolver.max_entries to ${Math.floor(maxBytes / LEAST_ENTRY_BYTES)}`,
    ]);
  if (tlsCertFile !== undefined && tlsKeyFile === undefined) problems.push(["resolver.tls_cert_file", "needs resolver.tls_key_file too"]);
  if (tlsKeyFile !== undefined && tlsCertFile === undefined) problems.push(["resolver.tls_key_file", "needs resolver.tls_cert_file too"]);
  if (tlsCertFile !== undefined && !hasUpstreamTls(settings))
    problems.push(["resolver.tls_cert_file", "needs resolver.tls or resolver.tls_ca_file, which turn TLS on"]);
  if (settings.summary.resolverNamespaces.length > 0 && settings.summary.resolverScopes.length === 0)
    problems.push(["summary.resolver_namespaces", "needs summary.resolver_scopes, which lists the channels whose summaries are followed"]);
  if (node.mode === "resolver") problems.push(...resolverProblems(settings));
  else if (settings.store.kind === "etcd") problems.push(...etcdProblems(settings));
  return [...problems, ...uselessSettings(settings)];
}

function resolverProblems(settings: Settings): readonly BrokenRule[] {
  const { upstreams, namespaces, maxWatches } = settings.resolver;
  const problems: BrokenRule[] = [];
  if (upstreams.length === 0)
    problems.push(["resolver.upstreams", "is empty; a resolver needs at least one server to read from (flag --upstream host:port)"]);
  const open = hasUpstreamTls(settings) ? undefined : upstreams.find((upstream) => !isLoopbackHost(splitHostPort(upstream).host));
  if (open !== undefined)
    problems.push([
      "resolver.upstreams",
      `${open} is not on this machine, and resolvers on other machines must use TLS; set resolver.tls_ca_file, or resolver.tls = true`,
    ]);
  if (namespaces.length > maxWatches)
    problems.push(["resolver.namespaces", `has ${namespaces.length} namespaces, more than resolver.max_watches, which is ${maxWatches}`]);
  return problems;
}

function etcdProblems(settings: Settings): readonly BrokenRule[] {
  const { store, leadership } = settings;
  const problems: BrokenRule[] = [];
  if (store.endpoints.length === 0)
    problems.push(["store.endpoints", 'is empty; store.kind = "etcd" needs at least one endpoint, such as "127.0.0.1:2379"']);
  if (store.certFile !== undefined && store.keyFile === undefined) problems.push(["store.cert_file", "needs store.key_file too"]);
  if (store.keyFile !== undefined && store.certFile === undefined) problems.push(["store.key_file", "needs store.cert_file too"]);
  if (store.user !== undefined && store.passwordFile === undefined) problems.push(["store.user", "needs store.password_file too"]);
  if (store.passwordFile !== undefined && store.user === undefined) problems.push(["store.password_file", "needs store.user too"]);
  const open = hasStoreTls(settings) ? undefined : store.endpoints.find((endpoint) => !isLoopbackHost(splitHostPort(endpoint).host));
  if (store.passwordFile !== undefined && open !== undefined)
    problems.push([
      "store.password_file",
      `${open} is not on this machine, and a password must not cross the network unencrypted; set store.ca_file, which turns TLS on`,
    ]);
  if (store.timeoutMs > leadership.leaseMs / 3) {
    const most = `a third of leadership.lease, which is ${durationText(leadership.leaseMs)}`;
    problems.push(["store.timeout", `${durationText(store.timeoutMs)} is more than ${most}`]);
  }
  return problems;
}

const NO_STORE = "a resolver has no control store, and is never a leader";
const ONLY_ETCD = 'has an effect only with etcd: set store.kind = "etcd", or remove the setting';
const ONLY_RESOLVER = 'is only for a resolver: set node.mode = "resolver" (flag --mode resolver), or remove the setting';

/** Settings that have no effect in this mode. Such settings are refused, because a user who sets them expects an effect. */
function uselessSettings(settings: Settings): readonly BrokenRule[] {
  const { mode } = settings.node;
  return SETTING_ROWS.flatMap((row): BrokenRule[] => {
    const why = uselessReason(row, settings);
    if (why === undefined || !asksForSomething(row.setting.default, valueOfRow(settings, row))) return [];
    return [[row.path, mode === "resolver" ? `cannot be set for a resolver: ${why}` : why]];
  });
}

const STORE_GROUPS: ReadonlySet<string> = new Set(["store", "leadership", "shards"]);

/** Why a setting has no effect in this mode. */
function uselessReason({ group, path, setting }: SettingRow, { node, store }: Settings): string | undefined {
  if (node.mode === "resolver") return STORE_GROUPS.has(group) ? NO_STORE : setting.notForResolver;
  if (group === "resolver" || path.startsWith("summary.resolver_")) return ONLY_RESOLVER;
  return group === "store" && store.kind !== "etcd" ? ONLY_ETCD : undefined;
}

/** Whether a value differs from the default. If the setting is automatic when absent, "off" does not count as a difference. */
function asksForSomething(byDefault: unknown, value: unknown): boolean {
  if (byDefault === undefined && value === false) return false;
  return JSON.stringify(value) !== JSON.stringify(byDefault);
}

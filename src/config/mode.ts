/** What `node.mode` asks of the other settings. */
import { isLoopbackHost } from "../lib/addresses.ts";
import { hasUpstreamTls } from "./exposure.ts";
import { LEAST_ENTRY_BYTES } from "./resolver.ts";
import type { Settings } from "./settings.ts";

/** The path of a setting, and what is wrong with it given the others. */
type Broken = readonly [path: string, message: string];

/** What is wrong with the settings of a resolver, or with settings that the mode has no use for. */
export function modeProblems(settings: Settings): readonly Broken[] {
  const { node, resolver } = settings;
  const { ttlZoneMs, ttlRegionMs, ttlGlobalMs, maxEntries, maxBytes, tlsCertFile, tlsKeyFile } = resolver;
  const problems: Broken[] = [];
  if (ttlRegionMs < ttlZoneMs) problems.push(["resolver.ttl_region", "is less than resolver.ttl_zone: the wider a scope, the longer"]);
  if (ttlGlobalMs < ttlRegionMs) problems.push(["resolver.ttl_global", "is less than resolver.ttl_region: the wider a scope, the longer"]);
  if (maxBytes < maxEntries * LEAST_ENTRY_BYTES)
    problems.push(["resolver.max_bytes", `is less than ${LEAST_ENTRY_BYTES} bytes for each entry of resolver.max_entries`]);
  if (tlsCertFile !== undefined && tlsKeyFile === undefined) problems.push(["resolver.tls_cert_file", "needs resolver.tls_key_file too"]);
  if (tlsKeyFile !== undefined && tlsCertFile === undefined) problems.push(["resolver.tls_key_file", "needs resolver.tls_cert_file too"]);
  if (tlsCertFile !== undefined && !hasUpstreamTls(settings))
    problems.push(["resolver.tls_cert_file", "needs resolver.tls or resolver.tls_ca_file, which turn TLS on"]);
  return [...problems, ...(node.mode === "resolver" ? resolverProblems(settings) : nodeProblems(settings))];
}

const ONLY_RESOLVER = 'is only for a resolver: set node.mode = "resolver" (flag --mode resolver), or leave it out';

function nodeProblems({ resolver }: Settings): readonly Broken[] {
  const set = [
    ["resolver.upstreams", resolver.upstreams.length > 0],
    ["resolver.namespaces", resolver.namespaces.length > 0],
    ["resolver.token_file", resolver.tokenFile !== undefined],
  ] as const;
  return set.flatMap(([path, isSet]): Broken[] => (isSet ? [[path, ONLY_RESOLVER]] : []));
}

function resolverProblems(settings: Settings): readonly Broken[] {
  const { upstreams, namespaces, maxWatches } = settings.resolver;
  const problems: Broken[] = [];
  if (upstreams.length === 0)
    problems.push(["resolver.upstreams", "is empty, and a resolver reads from at least one server (flag --upstream host:port)"]);
  const open = hasUpstreamTls(settings) ? undefined : upstreams.find((upstream) => !isLoopbackHost(hostOf(upstream)));
  if (open !== undefined)
    problems.push([
      "resolver.upstreams",
      `${open} is not on this machine, and servers give resolvers data over TLS only; set resolver.tls_ca_file, or resolver.tls = true`,
    ]);
  if (namespaces.length > maxWatches)
    problems.push(["resolver.namespaces", `has ${namespaces.length} namespaces, more than resolver.max_watches, which is ${maxWatches}`]);
  return [...problems, ...uselessSettings(settings)];
}

function hostOf(address: string): string {
  return address.slice(0, address.lastIndexOf(":")).replace(/^\[(.*)\]$/, "$1");
}

const NO_FABRIC = "a resolver has no fabric: it reads the servers of resolver.upstreams";
const NO_POLICY = "a resolver has the policy from its upstreams";
const NO_RECORDS = "a resolver holds no entries of its own";

/** Settings of a node that a resolver could not follow: whoever set one expects something that would not happen. */
function uselessSettings({ node, fabric, policy, checks, persistence }: Settings): readonly Broken[] {
  const used = [
    ["node.workers", node.workers > 0, "a resolver has no read workers: start several resolvers instead"],
    ["fabric.enabled", fabric.enabled === true, NO_FABRIC],
    ["fabric.seeds", fabric.seeds.length > 0, NO_FABRIC],
    ["fabric.cluster_token_file", fabric.clusterTokenFile !== undefined, NO_FABRIC],
    ["fabric.cert_file", fabric.certFile !== undefined, NO_FABRIC],
    ["policy.file", policy.file !== undefined, NO_POLICY],
    ["policy.accept_from", policy.acceptFrom.length > 0, NO_POLICY],
    ["checks.enabled", checks.enabled, `${NO_RECORDS}, and so checks none`],
    ["persistence.new_generation", persistence.newGeneration, `${NO_RECORDS}, and so has no generations`],
  ] as const;
  return used.flatMap(([path, isUsed, why]): Broken[] => (isUsed ? [[path, `cannot be set for a resolver: ${why}`]] : []));
}

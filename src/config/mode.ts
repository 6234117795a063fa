/** What `node.mode` asks of the other settings. */
import { isLoopbackHost, splitHostPort } from "../lib/addresses.ts";
import { hasUpstreamTls } from "./exposure.ts";
import { LEAST_ENTRY_BYTES } from "./resolver.ts";
import { SETTING_ROWS, type Settings, valueOfRow } from "./settings.ts";

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
    problems.push([
      "resolver.max_bytes",
      `is ${maxBytes} bytes, less than ${LEAST_ENTRY_BYTES} for each entry of resolver.max_entries, which is ${maxEntries}: raise it to ${maxEntries * LEAST_ENTRY_BYTES}, or lower resolver.max_entries to ${Math.floor(maxBytes / LEAST_ENTRY_BYTES)}`,
    ]);
  if (tlsCertFile !== undefined && tlsKeyFile === undefined) problems.push(["resolver.tls_cert_file", "needs resolver.tls_key_file too"]);
  if (tlsKeyFile !== undefined && tlsCertFile === undefined) problems.push(["resolver.tls_key_file", "needs resolver.tls_cert_file too"]);
  if (tlsCertFile !== undefined && !hasUpstreamTls(settings))
    problems.push(["resolver.tls_cert_file", "needs resolver.tls or resolver.tls_ca_file, which turn TLS on"]);
  if (settings.summary.resolverNamespaces.length > 0 && settings.summary.resolverScopes.length === 0)
    problems.push([
      "summary.resolver_namespaces",
      "needs summary.resolver_scopes, which says the summaries of which channels are followed",
    ]);
  if (node.mode === "resolver") problems.push(...resolverProblems(settings));
  return [...problems, ...uselessSettings(settings)];
}

function resolverProblems(settings: Settings): readonly Broken[] {
  const { upstreams, namespaces, maxWatches } = settings.resolver;
  const problems: Broken[] = [];
  if (upstreams.length === 0)
    problems.push(["resolver.upstreams", "is empty, and a resolver reads from at least one server (flag --upstream host:port)"]);
  const open = hasUpstreamTls(settings) ? undefined : upstreams.find((upstream) => !isLoopbackHost(splitHostPort(upstream).host));
  if (open !== undefined)
    problems.push([
      "resolver.upstreams",
      `${open} is not on this machine, and servers give resolvers data over TLS only; set resolver.tls_ca_file, or resolver.tls = true`,
    ]);
  if (namespaces.length > maxWatches)
    problems.push(["resolver.namespaces", `has ${namespaces.length} namespaces, more than resolver.max_watches, which is ${maxWatches}`]);
  return problems;
}

const ONLY_RESOLVER = 'is only for a resolver: set node.mode = "resolver" (flag --mode resolver), or leave it out';

/** Settings that the mode has no use for: whoever set one expects something that would not happen. */
function uselessSettings(settings: Settings): readonly Broken[] {
  const { mode } = settings.node;
  return SETTING_ROWS.flatMap((row): Broken[] => {
    const why = mode === "resolver" ? row.setting.notForResolver : isOfResolver(row.path) ? ONLY_RESOLVER : undefined;
    if (why === undefined || !asksForSomething(row.setting.default, valueOfRow(settings, row))) return [];
    return [[row.path, mode === "resolver" ? `cannot be set for a resolver: ${why}` : why]];
  });
}

function isOfResolver(path: string): boolean {
  return path.startsWith("resolver.") || path.startsWith("summary.resolver_");
}

/** Whether a value is another than the default. Off is no other where absence leaves the choice to the process. */
function asksForSomething(byDefault: unknown, value: unknown): boolean {
  if (byDefault === undefined && value === false) return false;
  return JSON.stringify(value) !== JSON.stringify(byDefault);
}

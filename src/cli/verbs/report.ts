/** Reports about the whole catalog. */
import { type Entry, HealthStatus, Scope } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { DiscoveryService } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import type { Client } from "../../client/client.ts";
import { enumWord } from "../../lib/enum-words.ts";
import { readAll } from "../entries/read-all.ts";
import { namespaceScope } from "../flags.ts";
import type { Column } from "../output.ts";
import type { Verb } from "../table/verb.ts";

/** Calls under way at once. */
const MAX_CALLS = 16;

const HEALTHS = [
  HealthStatus.HEALTHY,
  HealthStatus.DEGRADED,
  HealthStatus.CRITICAL,
  HealthStatus.MAINTENANCE,
  HealthStatus.ORPHANED,
] as const;

export const namespaceHealth: Verb = async ({ flags, out, client, viewer }) => {
  const { namespace, namespacePrefix } = namespaceScope(flags);
  const entries = await readAll(client(), { ...viewer, namespace, namespacePrefix });
  const groups = Map.groupBy(entries, ({ key }) => key?.namespace ?? "");
  // A namespace that was asked for by name gets a row although it has no entries.
  if (namespace !== "" && !groups.has(namespace)) groups.set(namespace, []);
  const isWanted = ([, group]: readonly [string, readonly Entry[]]) =>
    !flags.isOn("unhealthy") || group.some(({ health }) => health !== HealthStatus.HEALTHY);
  const wanted = [...groups].filter(isWanted).toSorted(([a], [b]) => (a < b ? -1 : 1));
  const namespaces: Row[] = [];
  for (let at = 0; at < wanted.length; at += MAX_CALLS)
    namespaces.push(...(await Promise.all(wanted.slice(at, at + MAX_CALLS).map((group) => rowOf(client(), group)))));
  out.document({ namespaces }, { columns: COLUMNS, rows: namespaces });
};

type Row = Awaited<ReturnType<typeof rowOf>>;

/** One namespace, as JSON has it. */
async function rowOf(client: Client, [namespace, entries]: readonly [string, readonly Entry[]]) {
  const status = await client.call(DiscoveryService.method.namespaceStatus, { namespace });
  const { owners, exportScopes, policyVersion, allowed, reason } = status;
  const countOf = (health: HealthStatus): number => entries.filter((entry) => entry.health === health).length;
  return {
    namespace,
    entries: entries.length,
    health: Object.fromEntries(HEALTHS.map((health) => [enumWord(HealthStatus, health), countOf(health)])),
    clusters: [...new Set(entries.map(({ key }) => key?.clusterId ?? ""))].toSorted(),
    owners,
    exportScopes: exportScopes.map((scope) => enumWord(Scope, scope)),
    policyVersion,
    allowed,
    reason,
  };
}

const COLUMNS: readonly Column<Row>[] = [
  { title: "NAMESPACE", stored: ({ namespace }) => namespace },
  { title: "ENTRIES", stored: ({ entries }) => String(entries) },
  ...HEALTHS.map((each) => enumWord(HealthStatus, each)).map((word) => ({
    title: word.toUpperCase(),
    stored: ({ health }: Row) => String(health[word] ?? 0),
  })),
  { title: "OWNERS", stored: ({ owners }) => (owners.length === 0 ? "-" : owners.join(", ")) },
  { title: "CLUSTERS", isWide: true, stored: ({ clusters }) => clusters.join(", ") },
  { title: "EXPORTS", isWide: true, stored: ({ exportScopes }) => exportScopes.join(", ") },
  { title: "POLICY", isWide: true, stored: ({ policyVersion }) => policyVersion },
  { title: "VERDICT", stored: ({ allowed }) => (allowed ? "allowed" : "denied") },
  { title: "REASON", stored: ({ reason }) => reason },
];

/** Reports about the whole catalog. */
import { type Entry, HealthStatus, Scope } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { DiscoveryService, type NamespaceStatusResponse } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import type { Client } from "../../client/client.ts";
import { enumWord } from "../../lib/enum-words.ts";
import { readAll } from "../entries/read-all.ts";
import { namespaceScope } from "../flags.ts";
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

interface Row {
  readonly namespace: string;
  readonly entries: number;
  readonly instances: ReadonlyMap<HealthStatus, number>;
  readonly clusters: readonly string[];
  readonly status: NamespaceStatusResponse;
}

export const namespaceHealth: Verb = async ({ flags, out, client, viewer }) => {
  const { namespace, namespacePrefix } = namespaceScope(flags);
  const entries = await readAll(client(), { ...viewer, namespace, namespacePrefix });
  const groups = Map.groupBy(entries, ({ key }) => key?.namespace ?? "");
  // A namespace that was asked for by name gets a row although it has no entries.
  if (namespace !== "" && !groups.has(namespace)) groups.set(namespace, []);
  const isWanted = ([, group]: readonly [string, readonly Entry[]]) =>
    !flags.isOn("unhealthy") || group.some(({ health }) => health !== HealthStatus.HEALTHY);
  const wanted = [...groups].filter(isWanted).toSorted(([a], [b]) => (a < b ? -1 : 1));
  const rows = await rowsOf(client(), wanted);
  out.document(
    { namespaces: rows.map(jsonOf) },
    {
      columns: [
        { title: "NAMESPACE", stored: (row: Row) => row.namespace },
        { title: "ENTRIES", stored: ({ entries: count }) => String(count) },
        ...HEALTHS.map((health) => ({
          title: enumWord(HealthStatus, health).toUpperCase(),
          stored: ({ instances }: Row) => String(instances.get(health) ?? 0),
        })),
        { title: "OWNERS", stored: ({ status }) => (status.owners.length === 0 ? "-" : status.owners.join(", ")) },
        { title: "CLUSTERS", isWide: true, stored: ({ clusters }) => clusters.join(", ") },
        { title: "EXPORTS", isWide: true, stored: ({ status }) => status.exportScopes.map((scope) => enumWord(Scope, scope)).join(", ") },
        { title: "POLICY", isWide: true, stored: ({ status }) => status.policyVersion },
        { title: "VERDICT", stored: ({ status }) => (status.allowed ? "allowed" : "denied") },
        { title: "REASON", stored: ({ status }) => status.reason },
      ],
      rows,
    },
  );
};

async function rowsOf(client: Client, groups: readonly (readonly [string, readonly Entry[]])[]): Promise<readonly Row[]> {
  const rows: Row[] = [];
  for (let at = 0; at < groups.length; at += MAX_CALLS) {
    const batch = groups.slice(at, at + MAX_CALLS).map(async ([namespace, entries]): Promise<Row> => {
      const status = await client.call(DiscoveryService.method.namespaceStatus, { namespace });
      const instances = new Map(HEALTHS.map((health) => [health, entries.filter((entry) => entry.health === health).length]));
      const clusters = [...new Set(entries.map(({ key }) => key?.clusterId ?? ""))].toSorted();
      return { namespace, entries: entries.length, instances, clusters, status };
    });
    rows.push(...(await Promise.all(batch)));
  }
  return rows;
}

function jsonOf({ namespace, entries, instances, clusters, status }: Row): unknown {
  return {
    namespace,
    entries,
    health: Object.fromEntries(HEALTHS.map((health) => [enumWord(HealthStatus, health), instances.get(health) ?? 0])),
    clusters,
    owners: status.owners,
    exportScopes: status.exportScopes.map((scope) => enumWord(Scope, scope)),
    policyVersion: status.policyVersion,
    allowed: status.allowed,
    reason: status.reason,
  };
}

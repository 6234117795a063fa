/** The catalog as DNS reads it: with the rights of an anonymous caller, and with samples of crowded names. */
import { GOLDEN_RATIO } from "../catalog/query/instances.ts";
import type { CatalogRecord } from "../catalog/record/record.ts";
import type { Replica } from "../catalog/replica/replica.ts";
import { type Claim, isRightful } from "../discovery/alias-claim.ts";
import { healthRank } from "../discovery/candidates.ts";
import type { DnsNames } from "../discovery/dns-names.ts";
import type { Reads } from "../discovery/reads.ts";
import { anonymousCaller } from "../policy/identity/caller.ts";
import type { PolicySource } from "../policy/set/visibility.ts";
import type { DnsCatalog } from "./subject.ts";

/** What DNS reads of a node. */
export interface DnsSources {
  readonly reads: Reads;
  readonly replica: Pick<Replica, "revision">;
  readonly dnsNames: Pick<DnsNames, "findAlias" | "hasNameUnder">;
  readonly identity: { readonly clusterId: string };
  readonly policies: PolicySource;
}

/** An answer has room for about twenty healthy instances. Clients that take the first one spread over them. */
const DNS_SAMPLING = { form: "spread", rank: healthRank, ideal: 0, fit: 0, wanted: 32 } as const;

/** DNS carries no credentials, so its viewer is anonymous. `onHidden` is called once an answer with the hidden namespaces. */
export function dnsCatalog(
  random: () => number,
  { reads, replica, dnsNames, identity, policies }: DnsSources,
  onHidden: (namespaces: readonly string[]) => void = () => {},
): DnsCatalog {
  const viewer = anonymousCaller(identity.clusterId, "");
  const counts = (claim: Claim) => isRightful(policies.policy, claim, identity.clusterId);
  const hidden = new Set<string>();
  let hasSampled = false;
  // The first position is random, so that the nodes of a cluster do not all begin with the same instances. Then all have their turn.
  let turn = random();
  const took = () => {
    hasSampled = true;
    turn = (turn + GOLDEN_RATIO) % 1;
  };
  return {
    get revision() {
      // Both only grow, so the sum changes whenever either does.
      return replica.revision + reads.policyTurn;
    },
    find: (kind, namespace, name, port) => {
      if (!reads.verdict(viewer, namespace).allowed) {
        hidden.add(namespace);
        return [];
      }
      const sampling = { ...DNS_SAMPLING, at: turn };
      const suits = port === undefined ? undefined : ({ traits }: CatalogRecord) => traits.ports.includes(port);
      const read = (record: CatalogRecord) => ({ key: record.key, entry: reads.entry(record) });
      const { found, isSample } = reads.find(viewer, { kind, namespace, name }, { sampling, suits, read });
      if (!isSample) return found.map(({ entry }) => entry);
      took();
      return found.toSorted((a, b) => (a.key < b.key ? -1 : 1)).map(({ entry }) => entry);
    },
    takeSampled: () => {
      const has = hasSampled;
      hasSampled = false;
      return has;
    },
    takeHidden: () => {
      if (hidden.size === 0) return [];
      const namespaces = [...hidden];
      hidden.clear();
      return namespaces;
    },
    onHidden,
    hasNameUnder: (suffix, zone) => dnsNames.hasNameUnder(suffix, zone, { sees: reads.allowed(viewer), counts }),
    findAlias: (name, zone) => {
      const allowed = reads.allowed(viewer);
      const sees = (namespace: string) => allowed(namespace) || (hidden.add(namespace), false);
      const sampling = { ...DNS_SAMPLING, at: turn };
      const { records, isSample } = dnsNames.findAlias(name, zone, { sees, counts }, sampling);
      if (isSample) took();
      return records.map((record) => reads.entry(record));
    },
  };
}

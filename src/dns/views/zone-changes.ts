/** What happened to the catalog since it was looked at last, for the versions of the zone: changed records by namespace, and changes of the policy. */
import type { Lookup } from "../../catalog/query/lookup.ts";
import type { Replica } from "../../catalog/replica/replica.ts";
import type { Reads } from "../../discovery/reads.ts";
import type { Caller } from "../../policy/identity/caller.ts";
import type { Policy } from "../../policy/set/verdict.ts";
import { differentOwners, type PolicySource } from "../../policy/set/visibility.ts";
import type { ZoneVersions } from "./zone-versions.ts";

export interface ZoneSources {
  readonly replica: Pick<Replica, "changesSince" | "collectedRevision" | "revision" | "winner"> & {
    readonly lookup: Pick<Lookup, "namespaces">;
  };
  readonly reads: Pick<Reads, "policy" | "policyTurn">;
  readonly policies: PolicySource;
}

/** Most verdicts that a change of policy is judged by. Where more would be needed, each class is taken to see a difference. */
const MAX_VERDICTS = 100_000;

export class ZoneChanges {
  readonly #sources: ZoneSources;
  /** One viewer of each class. */
  readonly #viewers: readonly Caller[];
  #revision: number;
  #turn: number;
  #policy: Policy;
  /** The classes for which the last change of policy makes a difference. Some of it shows only when all records follow the policy, which is another turn. */
  #affected: readonly number[] = [];

  /** What is there now counts as looked at. */
  constructor(sources: ZoneSources, viewers: readonly Caller[]) {
    this.#sources = sources;
    this.#viewers = viewers;
    this.#revision = sources.replica.revision;
    this.#turn = sources.reads.policyTurn;
    this.#policy = sources.policies.policy;
  }

  /** Notes what happened since the last call. Cost: the changed records, and less when every class has noted something. */
  look(versions: ZoneVersions): void {
    this.#lookAtPolicy(versions);
    this.#lookAtRecords(versions);
  }

  #lookAtRecords(versions: ZoneVersions): void {
    const { replica } = this.#sources;
    const since = this.#revision;
    if (replica.revision === since) return;
    this.#revision = replica.revision;
    // Records that were dropped since then have left no change behind.
    if (since < replica.collectedRevision) return versions.noteEverything();
    replica.changesSince(since, (stored) => {
      // What nobody saw and nobody sees is no change: a stranger's record that owner rules keep hidden, for example.
      if (stored.filterRevision > since || replica.winner(stored) !== undefined) versions.noteChange(stored.namespace);
      return !versions.isAllNoted;
    });
  }

  #lookAtPolicy(versions: ZoneVersions): void {
    const { reads, policies } = this.#sources;
    const turn = reads.policyTurn;
    if (turn === this.#turn) return;
    this.#turn = turn;
    versions.forgetVerdicts();
    const { policy } = policies;
    if (policy !== this.#policy) {
      this.#affected = this.#affectedBy(this.#policy, policy);
      this.#policy = policy;
    }
    for (const index of this.#affected) versions.noteFor(index);
  }

  /** The classes that see a namespace only under one of two policies, or one whose owners change. */
  #affectedBy(before: Policy, after: Policy): readonly number[] {
    const namespaces = this.#sources.replica.lookup.namespaces.list();
    if (namespaces.length * this.#viewers.length > MAX_VERDICTS) return [...this.#viewers.keys()];
    const owned = differentOwners(before, after);
    const isOwned = (namespace: string) =>
      owned.some((prefix) => prefix === "" || namespace === prefix || namespace.startsWith(`${prefix}.`));
    return [...this.#viewers.entries()].flatMap(([index, { cluster, tenant }]) => {
      const viewer = { clusterId: cluster, tenant };
      const differs = namespaces.some((namespace) => {
        const sees = after.viewer(namespace, viewer).allowed;
        return sees !== before.viewer(namespace, viewer).allowed || (sees && isOwned(namespace));
      });
      return differs ? [index] : [];
    });
  }
}
